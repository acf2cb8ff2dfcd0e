"""Provides the accepted rows of a run as DuckDB tables: raw sources, and the event sources derived from them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.compile import OWN
from feature_store.definition import RESERVED, Source, Spine
from feature_store.errors import DefinitionError
from feature_store.offline import configure
from feature_store.sql_guard import require_row_level, types_of
from feature_store.sql_text import literal, quote
from refit.config import Params, SourceParams, nearest
from refit.config.column_types import sql_type
from refit.config.forecasting import ZONE
from refit.config.ingest import mentions
from refit.config.section import free, row_column, time_column
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.runtime import memory
from refit.schemas.validated import Validated
from tasks.featurize.known_rows import ARRIVED, DELETES, Changing, create_known, predicted_sql, touched_sql

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


def sources(params: Params) -> dict[str, Source]:
    """Return every event source and static table that the params declare, by name.

    Raises:
        UserError: two of them share a name.
    """
    declared: dict[str, Source] = {}
    for table, source in params.ingest.sources.items():
        for name, cut in _cuts(table, source).items():
            if name in declared:
                raise UserError(
                    f"params.yaml: two event sources are called {name!r}; rename one (ingest.sources.{table})"
                )
            declared[name] = cut
    return declared


def _cuts(table: str, source: SourceParams) -> dict[str, Source]:
    key, key_sql = key_column(source)
    if not source.events:
        columns = {cut_name(source, name): quote(source.inside(name) or name) for name in source.columns}
        columns |= {} if key in columns or source.event_time is None else {key: key_sql}
        if source.forecast:
            columns |= {"season_time": source.forecast.season_time(local=ZONE in source.columns)}
            columns |= source.forecast.cycle_times(local=ZONE in source.columns)
        available_at = source.available_at
        return {table: Source(table=table, event_time=source.event_time, available_at=available_at, columns=columns)}
    return {
        name: Source(
            table=table,
            event_time=source.event_time,
            available_at=event.available_at,
            where=event.where,
            columns={key: key_sql} | event.columns,
        )
        for name, event in source.events.items()
    }


def key_column(source: SourceParams) -> tuple[str, str]:
    """Return name and SQL of the column that identifies a row; every event source has it."""
    cells = [quote(source.inside(name) or name) for name in source.key]
    if len(cells) == 1:
        return cut_name(source, source.key[0], key=True), cells[0]
    return free("row_key", source.columns), f"concat_ws('|', {', '.join(cells)})"


def cut_name(source: SourceParams, column: str, *, key: bool = False) -> str:
    """Return the name of a raw column in its event source: its own, unless Refit reserves that name there.

    Refit's time columns replace the columns that they are made from. A key must not clash with label and window either.
    """
    times = f"{source.event_time} {source.available_at or ''}"
    if column.lower() in ("event_time", "available_at") and (source.event_time is None or mentions(times, column)):
        return column.lower()
    taken = {"event_time", "available_at", "prediction_time", *(RESERVED if key else ())}
    return free(f"{column}_", source.columns) if column.lower() in taken else column


def kinds_of_columns(raw: SourceParams, source: Source) -> dict[str, str]:
    """Return the SQL type of each column of a source, from the declared raw types; empty for invalid SQL."""
    import duckdb

    raw_types = {raw.inside(name): sql_type(kind) for name, kind in raw.columns.items()} | {"event_time": "TIMESTAMP"}
    cells = ", ".join(f"{quote(name)} {kind}" for name, kind in raw_types.items() if name is not None)
    with duckdb.connect() as connection:
        connection.execute(f"create table raw ({cells})")
        types = types_of(connection, [*source.columns.values()], "raw")
    # Invalid SQL is reported in full where the source is created.
    return {column: kind if isinstance(kind, str) else "" for column, kind in zip(source.columns, types, strict=True)}


def sql_time(moment: datetime) -> str:
    """Format a moment as a DuckDB literal in UTC."""
    return f"timestamp '{moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"


class Warehouse:
    """A DuckDB connection that can read the accepted rows of one run's batches, and nothing else on the machine."""

    def __init__(
        self,
        connection: DuckDBPyConnection,
        as_of: datetime,
        tables: Sequence[str],
        changing: Mapping[str, Changing] | None = None,
        added: Mapping[str, str] | None = None,
    ) -> None:
        """Args:
        changing: raw tables whose rows come late or in versions.
        added: raw table -> the table of those of its rows that an earlier run had not.
        """
        self.connection = connection
        self._changing = changing or {}
        self._added = added or {}
        self.as_of = as_of
        self._tables = tuple(tables)
        self._made: dict[str, tuple[Source, str]] = {}
        self._predicted: dict[str, str] = {}

    def relation(self, name: str, declared: Mapping[str, Source]) -> str:
        """Return the table of a source with `event_time` and `available_at`, limited to events known by `as_of`.

        Raises:
            UserError: no such source, or its SQL does not fit the raw columns.
        """
        if name not in declared:
            have = ", ".join(sorted(declared))
            raise UserError(f"source {name!r} is unknown{nearest(name, declared)}; params.yaml declares {have}")
        source = declared[name]
        if name in self._made and self._made[name][0] == source:
            return self._made[name][1]
        table = quote(f"{name}#{len(self._made)}")
        self._create(name, source, table)
        self._made[name] = (source, table)
        return table

    def rows(self, spine: Spine, declared: Mapping[str, Source]) -> str:
        """Return the table of the rows to predict: of a source whose rows change, each as known at its prediction.

        Rows that arrived only after their prediction are left out: nobody could have predicted them then.

        Raises:
            UserError: no such source, or its SQL does not fit the raw columns.
        """
        relation = self.relation(spine.source, declared)
        if declared[spine.source].table not in self._changing:
            return relation
        if relation not in self._predicted:
            table = quote(f"{spine.source}#predicted{len(self._predicted)}")
            self.connection.execute(f"create temp table {table} as {predicted_sql(self.connection, relation, spine)}")
            self._predicted[relation] = table
        return self._predicted[relation]

    def touched(self, name: str, declared: Mapping[str, Source], after: datetime | None) -> str | None:
        """Create the table of what is known of a source otherwise than in an earlier run, see `touched_sql`.

        Args:
            after: until when the earlier run knew the rows, if it was as of another time.

        Returns: None if there is nothing.
        """
        source = declared[name]
        changing, added = self._changing.get(source.table), self._added.get(source.table)
        moved = after is not None and changing is not None and changing.version is not None
        if added is None and not moved:
            return None
        table = quote(f"{name}#touched")
        until = sql_time(after) if after is not None and moved else None
        query = touched_sql(source, _expressions(source), changing, added, until)
        self.connection.execute(f"create or replace temp table {table} as {query}")
        return table

    def given(self, source: Source, rows: pa.Table) -> str:
        """Return the table that a source would have if its raw table held just these rows, all of them known.

        Args:
            rows: the raw columns, and `event_time` (TIMESTAMP, UTC).

        Raises:
            UserError: the source's SQL does not fit the raw columns.
        """
        raw = f"given#{len(self._made)}"
        self.connection.register(raw, rows)
        table = quote(f"{raw}.cut")
        self._create(
            f"of the rows to score, {source.table}", source.model_copy(update={"table": raw}), table, cut=False
        )
        return table

    def one(self, query: str) -> tuple[Any, ...]:
        """Return the first row of a query that has at least one."""
        return tuple(self.connection.execute(query).fetchall()[0])

    def arrow(self, query: str) -> pa.Table:
        return self.connection.sql(query).to_arrow_table()

    def _create(self, name: str, source: Source, table: str, *, cut: bool = True) -> None:
        import duckdb

        where = f"source {name!r} (params.yaml: ingest.sources.{source.table})"
        if cut and source.table not in self._tables:
            raise UserError(f"{where}: no row of it was accepted; see `refit quarantine list`")
        expressions = _expressions(source)
        try:
            raw = self.connection.sql(f"select * from {quote(source.table)}").columns
            for column, expression in expressions.items():
                require_row_level(self.connection, column, expression, raw)
            if source.where:
                require_row_level(self.connection, "where", source.where, raw)
            if cut and (changing := self._changing.get(source.table)):
                create_known(self.connection, source, expressions, changing, table, sql_time(self.as_of))
                return
            columns = ", ".join(f"({expression}) as {quote(column)}" for column, expression in expressions.items())
            rows = f"select {columns} from {quote(source.table)}" + (f" where ({source.where})" if source.where else "")
            until = f" where available_at <= {sql_time(self.as_of)}" if cut and source.event_time is not None else ""
            self.connection.execute(f"create temp table {table} as select * from ({rows}){until}")
        except DefinitionError as error:
            raise UserError(f"{where}: {error}") from None
        except duckdb.Error as error:
            raise UserError(f"{where}: {' '.join(str(error).split(chr(10) + chr(10))[0].split())}") from None


def _expressions(source: Source) -> dict[str, str]:
    """The SQL of each column of a source, its times included."""
    if source.event_time is None:
        return dict(source.columns)
    times = {"event_time": "event_time", "available_at": f"({source.available_at or 'event_time'})::timestamp"}
    return source.columns | times


@contextmanager
def open_warehouse(
    project: Path, validated: Validated, params: Params, added: Collection[str] = ()
) -> Iterator[Warehouse]:
    """Open the accepted rows of validated batches, after checking each file against its digest.

    Args:
        added: titles of the batches that an earlier run had not; see `Warehouse.touched`.

    Raises:
        RefitError: a batch is gone or changed.
    """
    import duckdb

    by_source: dict[str, list[str]] = {}
    late = {batch.source for batch in validated.batches if batch.arrived}  # queries over sources whose rows change too
    of_added: dict[str, list[str]] = {}
    changing = {
        name: Changing.of(source, params.project.timezone)
        for name, source in params.ingest.sources.items()
        if name in late or not source.changes.is_append
    }
    for batch in validated.batches:
        path = batch.file.resolve(project)
        arrived = ""
        if batch.source in changing:
            arrived = f", {sql_time(batch.arrived) if batch.arrived else 'null::timestamp'} as {ARRIVED}"
            arrived += f", {batch.deletes} as {DELETES}"
        rows = f"select *{arrived} from read_parquet({literal(str(path.resolve()))})"
        if batch.excluded and batch.source in params.ingest.sources:
            number = quote(row_column(params.ingest.sources[batch.source].columns))
            rows += f" where {number} not in (select unnest([{', '.join(map(str, batch.excluded))}]))"
        by_source.setdefault(batch.source, []).append(rows)
        if batch.title in added:
            of_added.setdefault(batch.source, []).append(rows)
    with duckdb.connect() as connection:
        configure(connection)
        for source, parts in by_source.items():
            _create_raw(connection, source, parts, params, source)
        for source, parts in of_added.items():
            _create_raw(connection, source, parts, params, f"{OWN}added {source}")
        spill = project / artifacts.STATE / "spill"  # for data that does not fit in memory; DuckDB empties it
        with suppress(OSError):  # a read-only folder is reported when the table is created
            spill.mkdir(parents=True, exist_ok=True)
        connection.execute(f"set temp_directory = {literal(str(spill.resolve()))}")
        if limit := memory.sql_limit(params):
            connection.execute(f"set memory_limit = '{limit}'")
        connection.execute(f"set allowed_directories = [{literal(f'{project.resolve()}/')}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        new = {source: f"{OWN}added {source}" for source in of_added}
        yield Warehouse(connection, validated.as_of, list(by_source), changing, new)


def _create_raw(connection: DuckDBPyConnection, source: str, parts: Sequence[str], params: Params, view: str) -> None:
    """Create a raw table from batches of a source, with the column names that SQL over the source uses."""
    if source not in params.ingest.sources:
        raise RefitError(
            f"data/validated.json lists a source {source!r} that params.yaml has not; run `refit run` again"
        )
    rows, declared = " union all by name ".join(parts), params.ingest.sources[source]
    time, number = time_column(declared.columns), row_column(declared.columns)
    cells = []
    for name in connection.sql(f"select * from ({rows})").columns:
        if name == time:
            cells += [f"{quote(name)} as event_time"] if declared.event_time is not None else []
        elif name != number and (inside := declared.inside(name)) is not None:
            cells.append(f"{quote(name)} as {quote(inside)}")
    connection.execute(f"create view {quote(view)} as select {', '.join(cells)} from ({rows})")
