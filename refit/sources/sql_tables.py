"""Reads the rows of a query from a database server: all of them, or those that its watermark says are new."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config import SourceParams
from refit.config.queries import check_moving_words
from refit.errors import RefitError, UserError
from refit.sources import database_urls
from refit.sources.source_files import ROWS, numbered
from refit.sources.tables import Change, CheckHeader, Overlap, batch_of

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Connection, Engine

_SNAPSHOT = {"postgresql": "REPEATABLE READ", "mysql": "REPEATABLE READ", "mariadb": "REPEATABLE READ"}
_TEMPORAL = re.compile(r"^\d{4}-\d{2}-\d{2}")
Mark = int | str | date | datetime  # a value of the watermark as the database gives it; SQLite has texts for times


@dataclass(frozen=True)
class _Position:
    """Where a table stands: the largest watermark, the number of rows, and how many of them lie below the lookback."""

    mark: Mark | None
    rows: int
    settled: int

    @property
    def text(self) -> str:
        mark = self.mark.isoformat(sep=" ") if isinstance(self.mark, datetime) else self.mark
        kind = type(self.mark).__name__
        return json.dumps([kind, mark, self.rows, self.settled], default=str)

    @classmethod
    def of(cls, text: str) -> _Position | None:
        """The position that a text says; None if it was not written by `text`."""
        try:
            kind, mark, rows, settled = json.loads(text)
            parsed = {"datetime": datetime.fromisoformat, "date": date.fromisoformat}.get(kind, lambda value: value)
            return cls(parsed(mark), int(rows), int(settled))
        except (ValueError, TypeError):
            return None


class SqlTable:
    """The rows of a query, by any URL of SQLAlchemy. Statistics and rows of one change are of one moment.

    Raises (each method):
        UserError: the database cannot be reached, or the query fails.
    """

    def __init__(self, source: SourceParams, where: str) -> None:
        self._source = source
        self._where = where
        query = str(source.query).strip().rstrip(";")
        check_moving_words(query, f"{where}.query")
        escaped = query.replace(":", "\\:")  # what looks like a parameter there is none
        self._from = f"from (\n{escaped}\n) refit_rows"
        self._engine: Engine | None = None
        self._open: Connection | None = None

    def identify(self) -> str:
        """The largest watermark and numbers of rows; without a watermark the digest of all rows."""
        with self._errors(), self._connect() as connection:
            return self._current_position(connection)

    def changes_since(self, position: str | None) -> Change:
        """The rows above the watermark that was reached, less the lookback; begins the transaction that `read` ends."""
        self._close()
        before = _Position.of(position) if position and self._source.watermark else None
        with self._errors():
            self._open = connection = self._connect()
            standing = self._current_position(connection)
            now = _Position.of(standing)
            if before is None or now is None or before.mark is None or type(before.mark) is not type(now.mark):
                return Change(standing)
            above = self._lowered(before.mark)
            overlap = Overlap(self._marked, str(above), before.settled, self._count(connection, above))
        return Change(standing, since=position, overlap=overlap)

    def read(self, change: Change, check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
        """The rows, ordered by watermark and key, as they were when `changes_since` looked."""
        before = _Position.of(change.since) if change.since else None
        line = 1
        try:
            with self._errors():
                for columns, rows in self._chunks(self._open or self._connect(), before, check_header):
                    yield numbered(batch_of(columns, rows, self._source), line)
                    line += len(rows)
        finally:
            self._close()
        if line == 1 and before is None:
            raise UserError(f"the query gives no rows; at least one was expected ({self._where}.query)")

    def rows(self) -> Iterator[tuple[list[str], list[Any]]]:
        """All rows in chunks, in no order, with the names of their columns."""
        with self._errors(), self._connect() as connection:
            result = self._execute(connection, f"select * {self._from}")
            while rows := result.fetchmany(ROWS):
                yield list(result.keys()), rows

    def _chunks(
        self, connection: Connection, before: _Position | None, check_header: CheckHeader
    ) -> Iterator[tuple[list[str], list[Any]]]:
        result = self._rows(connection, before)
        columns = list(result.keys())
        check_header(columns)
        while rows := result.fetchmany(ROWS):
            yield columns, rows

    def _rows(self, connection: Connection, before: _Position | None) -> Any:
        order = [*([self._marked] if self._source.watermark else ()), *self._source.key]
        rest = f" order by {', '.join(dict.fromkeys(map(self._quoted, order)))}"
        if before is None or before.mark is None:
            return self._execute(connection, f"select * {self._from}{rest}")
        column = self._quoted(self._marked)
        new = f" where {column} > :above or {column} is null"
        return self._execute(connection, f"select * {self._from}{new}{rest}", above=self._lowered(before.mark))

    def _current_position(self, connection: Connection) -> str:
        """The position as a text."""
        if self._source.watermark is None:
            seen = hashlib.sha256()
            for row in self._rows(connection, None):
                seen.update(repr(tuple(row)).encode())
            return seen.hexdigest()
        query = f"select count(*), max({self._quoted(self._marked)}) {self._from}"
        rows, mark = self._execute(connection, query).one()
        if isinstance(mark, datetime) and mark.tzinfo:
            mark = mark.astimezone(UTC)  # where a lookback of 2 hours is 2 hours whatever the clocks do
        settled = 0 if mark is None else self._count(connection, self._lowered(mark))
        return _Position(mark, rows, settled).text

    def _count(self, connection: Connection, above: Mark) -> int:
        """The number of rows up to a watermark."""
        query = f"select count(*) {self._from} where {self._quoted(self._marked)} <= :above"
        return int(self._execute(connection, query, above=above).scalar_one())

    @property
    def _marked(self) -> str:
        """The column of the watermark."""
        assert self._source.watermark is not None
        return self._source.watermark.column

    def _lowered(self, mark: Mark) -> Mark:
        """A watermark less the lookback, of the same type."""
        watermark = self._source.watermark
        assert watermark is not None
        span = watermark.late_by
        if isinstance(mark, int) and isinstance(watermark.lookback, int):
            return mark - watermark.lookback
        try:
            if span is not None and isinstance(mark, str) and _TEMPORAL.match(mark):  # SQLite's compare as times do
                lower = datetime.fromisoformat(mark) - span
                return lower.date().isoformat() if len(mark) == 10 else lower.isoformat(sep=mark[10])
            if span is not None and isinstance(mark, date):
                return mark - span
        except (ValueError, OverflowError):
            pass
        raise UserError(
            f"{self._where}.watermark: {watermark.column!r} is {type(mark).__name__} {mark!r} in the database, and "
            f"declared {self._source.columns[watermark.column]}; cast it in the query, or name another column"
        )

    def _execute(self, connection: Connection, query: str, **values: Mark) -> Any:
        from sqlalchemy import text

        return connection.execute(text(query), values)

    def _quoted(self, name: str) -> str:
        return str(self._opened_engine().dialect.identifier_preparer.quote(name))

    def _connect(self) -> Connection:
        engine = self._opened_engine()
        options: dict[str, Any] = {"stream_results": True, "max_row_buffer": ROWS}
        if level := _SNAPSHOT.get(engine.dialect.name):
            options["isolation_level"] = level
        if engine.dialect.name == "postgresql":
            options["postgresql_readonly"] = True
        return engine.connect().execution_options(**options)

    def _opened_engine(self) -> Engine:
        if self._engine is None:
            self._engine = database_urls.engine(database_urls.parsed(str(self._source.url), f"{self._where}.url"))
        return self._engine

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the database and its driver into one line without secrets."""
        url, advice = str(self._source.url), f"correct {self._where}.query in params.yaml"
        try:
            with database_urls.errors(url, f"{self._where}.url", advice):
                yield
        except RefitError:
            self._close()
            raise


def written_as_texts(variable: str, query: str, path: Path) -> None:
    """Write all rows of a query to a Parquet file, as the texts that ingestion casts.

    Args:
        variable: the environment variable that holds the database's URL.

    Raises:
        UserError: the database or the query fails, or gives no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet

    where = "--query"
    source = SourceParams(
        kind="database", url=f"${{{variable}}}", query=query, columns={"any": "text"}, key=("any",), event_time=None
    )
    table, rows = SqlTable(source, where), 0
    with contextlib.ExitStack() as stack:
        writer = None
        for names, chunk in table.rows():
            texts = source.model_copy(update={"columns": dict.fromkeys(names, "text")})
            batch = batch_of(names, chunk, texts)
            if writer is None:
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(path, batch.schema))
            writer.write_table(pa.Table.from_batches([batch]))
            rows += batch.num_rows
    if not rows:
        raise UserError(f"the query gives no rows; at least one was expected ({where})")
