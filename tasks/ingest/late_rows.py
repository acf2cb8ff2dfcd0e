"""Tells rows that came late, or are new versions of stored ones, from those that came in the course of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.sql_text import literal, quote
from refit.config import Params
from refit.errors import UserError, first_line
from refit.schemas.manifest import Manifest
from tasks.ingest.batch_diff import key_digest
from tasks.ingest.casting import cells

if TYPE_CHECKING:
    import duckdb

_IDS = "stored_ids"
_BEGINNING = datetime(1, 1, 2, tzinfo=UTC)


class LateRows:
    """The rows of one reading that came late: not newer than the newest that was stored before it.

    A late row is known from its arrival on. Where no column says when that was, it is the time of this ingest, which is
    recorded in the manifest of a part that holds such rows alone. Versions of a row that is stored are late as well,
    whatever time they name.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        project: Path,
        params: Params,
        name: str,
        stored: Sequence[Manifest],
        files: Mapping[int, str],
        now: datetime,
    ) -> None:
        self.connection = connection
        self.project = project
        self.source = params.ingest.sources[name]
        self.where = f"ingest.sources.{name}"
        self.stored = stored
        self.files = files
        self.now = now
        self.newest: datetime | None = None  # event time, of all rows
        self._before = max((part.last for part in stored if part.last), default=None)
        self._arrival = self.source.arrival(params.project.timezone)
        self._is_recorded = self._arrival is None
        self._may_come = params.ingest.may_be_late(name)
        self._has_ids = False

    def any_in(self, rows: str) -> bool:
        """Whether a relation has late rows that must be apart from the others."""
        return any(arrived is not None for _, arrived in self.split(rows))

    def split(self, rows: str) -> Iterator[tuple[str, datetime | None]]:
        """Yield the late rows of a relation with the time of their arrival, and then the others; none that is empty.

        Raises:
            UserError: a row is later than the params allow.
        """
        if not self._may_come or self._before is None:
            yield rows, None
            return
        late = self._late()
        self._check_within(rows, late)
        if not self._is_recorded:
            yield rows, None
            return
        for condition, arrived in ((late, self.now), (f"not {late}", None)):
            part = f"(select * from {rows} where {condition})"
            if self.connection.execute(f"select exists (from {part})").fetchall() == [(True,)]:
                yield part, arrived

    def first_arrival(self, rows: str) -> datetime | None:
        """When the first of some rows arrived, as their columns tell; None unless these tell it of each row.

        Rows of which none could be cast tell nothing; later ones than what is stored arrived with this ingest.

        Raises:
            UserError: the SQL of the params does not fit the columns.
        """
        import duckdb

        if self._arrival is None:
            return None
        inside = {cell: self.source.inside(name) for name, cell in cells(self.source).items()}
        columns = ", ".join(f"{cell} as {quote(name)}" for cell, name in inside.items() if name is not None)
        query = (
            f"select count(*), count(arrived), min(arrived) from (select ({self._arrival}) as arrived from "
            f"(select {columns}, _event_time as event_time from {rows} where _faults is null))"
        )
        try:
            [(count, told, first)] = self.connection.execute(query).fetchall()
        except duckdb.Error as error:
            failed = first_line(error)
        else:
            if not count:
                return self.now if self.stored else None
            return first.replace(tzinfo=UTC) if told == count else None
        raise UserError(f"{self.where}.changes.arrived_at: {failed}; correct it in params.yaml")

    def _late(self) -> str:
        """SQL that is true for a late row; a row without a time counts as one."""
        assert self._before is not None
        late = f"coalesce(_event_time <= {_timestamp(self._before)}, true)"
        if not self.source.changes.has_versions or not self._is_recorded:
            return late
        self._load_ids()
        names = cells(self.source)
        ids = key_digest([names[name] for name in self.source.key])
        return f"({late} or (_faults is null and coalesce({ids} in (select id from {_IDS}), false)))"

    def _load_ids(self) -> None:
        """Create the table of the keys of all stored rows, once."""
        if self._has_ids:
            return
        self.connection.execute(f"create or replace temp table {_IDS} (id uhugeint)")
        for part in self.stored:
            self.connection.register("part", part.rows_table(self.project, self.source.key))
            self.connection.execute(f"insert into {_IDS} select {key_digest(self.source.key)} from part")
            self.connection.unregister("part")
        self._has_ids = True

    def _check_within(self, rows: str, late: str) -> None:
        longest = self.source.changes.longest
        if longest is None or self.newest is None or longest >= self.newest - _BEGINNING:
            return
        limit = _timestamp(self.newest - longest)
        count, file, line, oldest = self.connection.execute(
            f"select count(*), arg_min(_file, _event_time), arg_min(_line, _event_time), min(_event_time) "
            f"from {rows} where {late} and _event_time < {limit}"
        ).fetchall()[0]
        if count:
            days = (self.newest - oldest.replace(tzinfo=UTC)).days
            more = f" ({count:,} such rows)" if count > 1 else ""
            raise UserError(
                f"{self.files[file]} line {line} comes too late: it is of {oldest:%Y-%m-%d}, {days} days before the "
                f"newest row of {self.newest:%Y-%m-%d}{more}, and {self.where}.changes.within is "
                f"{self.source.changes.within}; raise it if such a row is right, or take it out of the file"
            )


def _timestamp(moment: datetime) -> str:
    return f"timestamp {literal(moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' '))}"
