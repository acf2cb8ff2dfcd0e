"""Computes features for many rows in DuckDB, each as known at its own prediction time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from feature_store import compile as sql
from feature_store import newest_versions, sequences, totals
from feature_store.definition import Age, Aggregate, FeatureSet, FeatureView, Lag, Latest, Lookup, Sequence
from feature_store.errors import DefinitionError
from feature_store.exact import require_exact, require_same_values
from feature_store.scratch import Scratch, explained
from feature_store.sql_guard import require_row_level, types_of
from feature_store.sql_text import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

# After a filter the planner expects few rows and would join by nested loops, a hundred times slower. Times are UTC.
_SETTINGS = {"asof_loop_join_threshold": "0", "preserve_insertion_order": "true", "TimeZone": "UTC"}
_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_NUMBERS = frozenset((*_SIGNED, *(f"U{name}" for name in _SIGNED), "BOOLEAN", "FLOAT", "DOUBLE"))
TOGETHER = 500_000  # rows whose features are put together by one statement
_ARRAY = re.compile(r"FLOAT\[[0-9]+\]|FLOAT(\[[0-9]*\])?\[\]")  # vectors; sequences of steps


def configure(connection: DuckDBPyConnection) -> None:
    """Set the settings that results and speed depend on; a locked connection is fine if it has them already."""
    for name, value in _SETTINGS.items():
        [[current]] = connection.execute(
            f"select current_setting('{name}')"
        ).fetchall()  # `fetchall`, or the query stays open
        if str(current).lower() != value.lower():
            connection.execute(f"set {name} = '{value}'")


def compute(
    connection: DuckDBPyConnection,
    feature_set: FeatureSet,
    spine: str,
    sources: Mapping[str, str],
    as_of: datetime,
) -> DuckDBPyRelation:
    """Compute one row for each row of `spine`, in its order: key, event_time, prediction_time, then every feature.

    `spine` is a relation's name, or a query in parentheses, with the columns of the spine's source. `sources` maps the
    names of the other sources to relations; event sources have `event_time` and `available_at` (TIMESTAMP, UTC). Only
    rows with `available_at` at or before both the prediction time and `as_of` are used. A source of versions of rows
    also has `sql.SINCE`, when a version became known, and `sql.UNTIL`, when a newer one did or it was deleted (null for
    never): a version is used where the prediction lies between the two, and `available_at`, never after `SINCE`, is
    when its row became known. Numbers are DOUBLE, categories VARCHAR; non-finite numbers are missing. The result is a
    temporary table of the connection.

    Raises:
        DefinitionError: a source, a column or a function does not exist, an expression uses other rows, a static table
            has a key twice, or values are out of range.
    """
    configure(connection)
    for name in feature_set.sources()[1:]:
        if name not in sources:
            raise DefinitionError(f"source {name!r} is unknown; there are {', '.join(sorted(sources))}")
    scratch = Scratch(connection)
    try:
        rows = _spine(scratch, feature_set, spine)
        spine_columns = [feature_set.spine.key, "event_time", "prediction_time"]
        _check(connection, {feature.name: feature.sql for feature in feature_set.spine.features}, rows)
        lists: dict[str, sequences.Lists] = {}
        row = scratch.table("row", sql.row_sql(feature_set.spine.features, rows, spine_columns), "the spine's features")
        tables = dict.fromkeys((feature.name for feature in feature_set.spine.features), row)
        limit = _newest_of_use(connection, rows, as_of)
        for view in feature_set.views:
            zone = f"spine.{sql.ZONE}" if feature_set.spine.calendar else None
            seen = _within_reach(connection, view, rows, sources[view.source], zone)
            of_someone = _of_someone(view, rows, seen)
            tables |= _view(scratch, *of_someone, limit, zone)
            lists |= _sequences(scratch, *of_someone, limit, zone)
        for lookup in feature_set.lookups:
            tables |= _lookup(scratch, lookup, rows, sources[lookup.source])
        result = _together(scratch, feature_set, row, spine_columns, tables, lists)
        _require_equal_counts(connection, rows, result)
    finally:
        scratch.clear()
    return connection.table(result)


def _together(
    scratch: Scratch,
    feature_set: FeatureSet,
    row: str,
    spine_columns: list[str],
    tables: Mapping[str, str],
    lists: Mapping[str, sequences.Lists],
) -> str:
    """Create the result from the table of each feature; sequences are in the order of the spine already."""
    connection = scratch.connection
    columns_of = {name: tables[name] for name in feature_set.names() if name in tables}
    joined = sql.assemble_sql(row, spine_columns, columns_of)
    for table, names in _values(feature_set, tables).items():
        require_exact(connection, table, {f"feature {name!r}": quote(name) for name in names})
    types = dict(zip(columns_of, connection.sql(joined).types[len(spine_columns) + 1 :], strict=True))
    cells = {name: _cell(name, str(kind)) for name, kind in types.items()}
    spine_cells = [*map(quote, spine_columns)]
    [[rows]] = connection.execute(f"select count(*) from {row}").fetchall()
    queries = []
    for within in totals.blocks(rows, TOGETHER):  # sorting all rows at once would take twice their memory
        some = sql.assemble_sql(row, spine_columns, columns_of, scratch.in_order, within if rows > TOGETHER else None)
        queries.append(f"select {sql.commas([sql.N, *spine_cells, *cells.values()])} from ({some}) order by {sql.N}")
    listed = sql.commas([*spine_cells, *map(quote, feature_set.names())])
    if not lists:
        query, *more = (f"select {listed} from ({each})" for each in queries)
        return scratch.table("features", query, "the features", more, keep=True)
    query, *more = queries
    ordered = scratch.table("ordered", query, "the features", more)
    given = f"{scratch.prefix}_sequences"
    connection.register(given, sequences.reader(lists, rows))
    try:
        at_its_place = (
            f"if({ordered}.{sql.N} = lists.{sql.N}, true, error('sequences are not in the order of their rows'))"
        )
        query = f"select {listed} from {ordered} positional join {quote(given)} as lists where {at_its_place}"
        return scratch.table("features", query, "the features", keep=True)
    finally:
        connection.unregister(given)


def _spine(scratch: Scratch, feature_set: FeatureSet, relation: str) -> str:
    """Create the numbered spine, after checking its expressions and the entity columns of views and lookups."""
    spine, connection = feature_set.spine, scratch.connection
    with explained("the spine"):
        columns = connection.sql(f"select * from {relation}").columns
    if taken := sorted({"prediction_time", *spine.entities} & set(columns)):
        raise DefinitionError(f"source {spine.source!r} has a column {taken[0]!r} already; rename it, or the entity")
    wanted = {spine.key: "the spine's key"}
    wanted |= {name: f"view {view.name!r}" for view in feature_set.views for name in view.entity}
    wanted |= {name: f"lookup {lookup.name!r}" for lookup in feature_set.lookups for name in lookup.key}
    for name, what in wanted.items():
        if name not in columns and name not in spine.entities:
            raise DefinitionError(
                f"{what}: source {spine.source!r} has no column {name!r}; it has {', '.join(columns)}"
            )
    stated = {"prediction_time": spine.prediction_time, **spine.entities}
    stated |= {"calendar": spine.calendar} if spine.calendar else {}
    for name, expression in stated.items():
        require_row_level(connection, f"the spine's {name}", expression, columns)
    return scratch.table("spine", sql.spine_sql(spine, relation), "the spine")


def _newest_of_use(connection: DuckDBPyConnection, rows: str, as_of: datetime) -> str:
    """SQL of the time after which nothing that became known counts for any row: rows of a part may be old ones."""
    query = f"select least(timestamp '{_utc(as_of)}', max(prediction_time)::timestamp)::varchar from {rows}"
    [[newest]] = connection.execute(query).fetchall()
    return f"timestamp '{newest}'"


def _within_reach(connection: DuckDBPyConnection, view: FeatureView, rows: str, source: str, zone: str | None) -> str:
    """The source's rows that can count for the earliest prediction, so that scoring a day does not sum a year."""
    (reach,) = connection.execute(sql.reach_sql(view, rows, zone)).fetchone() or (None,)
    if reach is None or view.windows_by not in connection.sql(f"select * from {source}").columns:
        return source
    return f"(select * from {source} where {view.windows_by} > timestamp '{reach}')"


def _of_someone(view: FeatureView, rows: str, source: str) -> tuple[FeatureView, str, str]:
    """The view, the spine and the source; for a view without an entity, with the same entity added to all rows."""
    if view.entity:
        return view, rows, source
    same = f"select *, 1 as {quote(sql.EVERYONE)} from"
    return view.model_copy(update={"entity": (sql.EVERYONE,)}), f"({same} {rows})", f"({same} {source})"


def _view(scratch: Scratch, view: FeatureView, rows: str, source: str, limit: str, zone: str | None) -> dict[str, str]:
    """Compute one view; return the table of each of its features."""
    what, connection = f"view {view.name!r}", scratch.connection
    inner = {f.name: f.column for f in view.features if isinstance(f, Latest | Aggregate | Lag) and f.column}
    steps = {f"{f.name}, step of {sql}": sql for f in view.features if isinstance(f, Sequence) for sql in f.columns}
    inner |= steps
    inner |= {f"{what}, where": view.where} if view.where else {}
    if missing := {"event_time", "available_at"} - set(connection.sql(f"select * from {source}").columns):
        raise DefinitionError(
            f"{what}: source {view.source!r} has no {min(missing)}; a view reads events, a lookup a static table"
        )
    _check(connection, inner, source)
    _require_numbers(connection, steps, source)
    summed = [each for each in view.features if isinstance(each, Aggregate) and each.function in ("sum", "mean", "std")]
    inputs = {each.name: str(each.column) for each in summed} | steps
    require_exact(connection, source, {f"{what}: {name}": expression for name, expression in inputs.items()})
    require_same_values(connection, what, rows, source, view.entity)
    tables: dict[str, str] = {}
    versions = _has_versions(connection, source)
    by_entity = any(isinstance(feature, Latest | Aggregate | Age) for feature in view.features)
    if by_entity:
        entities = scratch.table(f"{view.name}_whose", sequences.entities_sql(view, rows), what)
    if sql.has_ends(view, versions=versions):
        newest_versions.require_no_calendar(view, zone)
    if versions and by_entity:
        tables |= _newest_versions(scratch, view, rows, entities, source, limit)
    if any(isinstance(feature, Aggregate if versions else Latest | Aggregate | Age) for feature in view.features):
        joined = _at_predictions(scratch, view, rows, entities, source, limit, zone, versions=versions)
    if not versions and (latest := [feature.name for feature in view.features if isinstance(feature, Latest)]):
        latest_table = scratch.table(f"{view.name}_latest", sql.latest_sql(view, joined, source, limit), what)
        if _peers(connection, joined, latest_table):
            latest_table = scratch.table(f"{view.name}_one", sql.one_of_peers_sql(view, latest_table), what)
        tables |= dict.fromkeys(latest, latest_table)
    lags = sql.lags(view, zone)
    revised = bool(lags) and (
        versions or connection.execute(sql.revised_sql(view, source, limit)).fetchall() == [(True,)]
    )
    for number, (time, names) in enumerate(lags.items()):
        query = sql.lag_sql(view, time, names, rows, source, limit, revised=revised, versions=versions)
        tables |= dict.fromkeys(names, scratch.table(f"{view.name}_lag{number}", query, f"{what}, {min(names)}"))
    for feature in view.features:
        if isinstance(feature, Aggregate):
            tables |= dict.fromkeys(feature.columns(), joined)
        elif isinstance(feature, Age) and not versions:
            tables[feature.name] = joined
    return tables


def _at_predictions(
    scratch: Scratch,
    view: FeatureView,
    rows: str,
    entities: str,
    source: str,
    limit: str,
    zone: str | None,
    *,
    versions: bool,
) -> str:
    """Create the table of aggregates and ages, a block of the spine's rows at a time."""
    what, connection = f"view {view.name!r}", scratch.connection
    [[count]] = connection.execute(f"select count(*) from {rows}").fetchall()
    with explained(what):
        growth = totals.Growth.read(connection, view, entities, source, limit, versions=versions)
        of_row = totals.entities_of(connection, view, rows, entities, count)
    block = f"{scratch.prefix}_block"

    def queries() -> Iterator[str]:
        for first, last in totals.blocks(count, TOGETHER):
            some = f"(select * from {rows} where {sql.N} between {first} and {last})"
            moments = connection.sql(sql.moments_sql(view, some, zone)).to_arrow_table()
            connection.register(block, growth.block(first, of_row[first - 1 : last], moments))
            yield sql.view_sql(view, some, growth.relation(block), versions=versions)

    more = queries()
    with explained(what):
        query = next(more)
    try:
        table = scratch.table(view.name, query, what, more)
    finally:
        connection.unregister(block)
    scratch.in_order.add(table)
    return table


def _has_versions(connection: DuckDBPyConnection, source: str) -> bool:
    return sql.OWN + "until" in connection.sql(f"select * from {source}").columns


def _newest_versions(
    scratch: Scratch, view: FeatureView, rows: str, entities: str, source: str, limit: str
) -> dict[str, str]:
    """Compute `Latest` and `Age` of a source of versions; return the table of each."""
    features = [feature for feature in view.features if isinstance(feature, Latest | Age)]
    if not features:
        return {}
    what, connection = f"view {view.name!r}", scratch.connection
    ordered = scratch.table(f"{view.name}_known", newest_versions.ordered_sql(view, entities, source, limit), what)
    with explained(what):
        newest = newest_versions.find(connection, view, rows, entities, ordered)
    chosen = f"{scratch.prefix}_newest"
    connection.register(chosen, newest)
    try:
        query = newest_versions.values_sql(view, rows, ordered, quote(chosen))
        table = scratch.table(f"{view.name}_newest", query, what)
    finally:
        connection.unregister(chosen)
    scratch.drop(ordered)
    return dict.fromkeys((feature.name for feature in features), table)


def _sequences(
    scratch: Scratch, view: FeatureView, rows: str, source: str, limit: str, zone: str | None
) -> dict[str, sequences.Lists]:
    """Find the steps of a view's sequences, by name."""
    features = [feature for feature in view.features if isinstance(feature, Sequence)]
    if not features:
        return {}
    what, connection = f"view {view.name!r}", scratch.connection
    [[count]] = connection.execute(f"select count(*) from {rows}").fetchall()
    entities = scratch.table(f"{view.name}_entities", sequences.entities_sql(view, rows), what)
    lists = {}
    for feature in features:
        versions = _has_versions(connection, source)
        query = sequences.ordered_sql(view, feature, entities, source, limit, versions=versions)
        ordered = scratch.table(f"{view.name}_{feature.name}", query, f"{what}, {feature.name}")
        with explained(f"{what}, {feature.name}"):
            newest = sequences.newest_sql(view, feature.window, rows, entities, ordered, zone)
            lists[feature.name] = sequences.Lists.find(connection, feature, ordered, newest, count)
        scratch.drop(ordered)
    return lists


def _require_numbers(connection: DuckDBPyConnection, expressions: Mapping[str, str], relation: str) -> None:
    for name, kind in zip(expressions, types_of(connection, [*expressions.values()], relation), strict=True):
        if not _is_number(str(kind)):
            raise DefinitionError(f"{name} is a {kind}; a step holds numbers: make it one, such as (state = 'on')::int")


def _peers(connection: DuckDBPyConnection, joined: str, latest: str) -> bool:
    """Whether several rows became known at the same instant, so that one of them has to be chosen."""
    query = f"select (select count(*) from {latest}) > (select count({sql.KNOWN_AT}) from {joined})"
    row = connection.execute(query).fetchone()
    return bool(row and row[0])


def _lookup(scratch: Scratch, lookup: Lookup, rows: str, table: str) -> dict[str, str]:
    """Join one static table; return the table of each of its features."""
    what, keys = f"lookup {lookup.name!r}", sql.commas(map(quote, lookup.key))
    if "available_at" in scratch.connection.sql(f"select * from {table}").columns:
        raise DefinitionError(
            f"{what}: rows of {lookup.source!r} become known over time, it would show later ones; use a FeatureView"
        )
    with explained(what):
        twice = scratch.connection.execute(
            f"select {keys}, count(*) from {table} where ({keys}) is not null group by all having count(*) > 1 "
            f"order by all limit 1"
        ).fetchone()
    if twice:
        raise DefinitionError(
            f"{what}: {lookup.source} has {twice[-1]} rows for {', '.join(lookup.key)} = "
            f"{', '.join(map(str, twice[:-1]))}; a static table has one row for each key"
        )
    require_same_values(scratch.connection, what, rows, table, lookup.key)
    _check(
        scratch.connection,
        {feature.name: feature.sql for feature in lookup.features},
        f"{rows} as spine, {table} as {quote(lookup.name)}",
    )
    joined = scratch.table(lookup.name, sql.lookup_sql(lookup, rows, table), what)
    return dict.fromkeys((feature.name for feature in lookup.features), joined)


def _check(connection: DuckDBPyConnection, expressions: Mapping[str, str], relations: str) -> None:
    """Check each expression on its own, so that an error names its feature."""
    with explained("the columns"):
        columns = connection.sql(f"select * from {relations}").columns
    for name, expression in expressions.items():
        require_row_level(connection, name, expression, columns)
    for name, kind in zip(expressions, types_of(connection, [*expressions.values()], relations), strict=True):
        with explained(name):
            if isinstance(kind, Exception):
                raise kind


def _values(feature_set: FeatureSet, tables: Mapping[str, str]) -> dict[str, list[str]]:
    """The features that copy values, by their table; the inputs of sums have been checked already."""
    by_table: dict[str, list[str]] = {}
    for name, feature in feature_set.described().items():
        if not isinstance(feature, Aggregate | Age | Sequence):
            by_table.setdefault(tables[name], []).append(name)
    return by_table


def _is_number(kind: str) -> bool:
    return kind in _NUMBERS or kind.startswith("DECIMAL")


def _cell(name: str, kind: str) -> str:
    column = quote(name)
    if _is_number(kind):
        return f"case when isfinite({column}::double) then {column}::double end as {column}"
    if kind == "VARCHAR" or kind.startswith("ENUM"):
        return f"{column}::varchar as {column}"
    if kind == "BLOB" or _ARRAY.fullmatch(kind):
        return column
    raise DefinitionError(f"feature {name!r} is a {kind}; make it a number (such as epoch(...)) or a text")


def _utc(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("as_of needs a time zone")
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


def _require_equal_counts(connection: DuckDBPyConnection, spine: str, result: str) -> None:
    counts = connection.execute(f"select (select count(*) from {spine}), (select count(*) from {result})").fetchone()
    if counts is None or counts[0] != counts[1]:
        raise AssertionError(f"{counts} rows of spine and features differ: the engine is broken")
