"""Features of many rows at once, each as known at its own prediction time, computed in DuckDB."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from feature_store import compile as sql
from feature_store.definition import Age, Aggregate, FeatureSet, FeatureView, Latest, Lookup
from feature_store.errors import DefinitionError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_NUMBERS = (
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
)


# After a filter the planner expects few rows and would join by nested loops, a hundred times slower; and times are UTC.
_SETTINGS = {"asof_loop_join_threshold": "0", "preserve_insertion_order": "true", "TimeZone": "UTC"}


def configure(connection: DuckDBPyConnection) -> None:
    """Give a connection the settings without which results, times or speed go wrong (again on a locked one: nothing)."""
    for name, value in _SETTINGS.items():
        found = connection.execute(f"select current_setting('{name}')").fetchone()
        if found is None or str(found[0]).lower() != value.lower():
            connection.execute(f"set {name} = '{value}'")


def compute(
    connection: DuckDBPyConnection,
    feature_set: FeatureSet,
    spine: str,
    sources: Mapping[str, str],
    as_of: datetime,
) -> DuckDBPyRelation:
    """One row for each row of `spine`, in its order: key, event_time, prediction_time, then every feature.

    `spine` is a relation's name, or a query in parentheses, with the columns of the spine's source. `sources` maps the
    name of every other source to a relation; event sources have `event_time` and `available_at` (TIMESTAMP, UTC). Only
    rows with `available_at` at or before both the prediction time and `as_of` are used. Numbers come as DOUBLE,
    categories as VARCHAR; what is not finite is missing.

    Raises:
        DefinitionError: a source, a column or a function that does not exist, a static table with a key twice, values
        out of range.
    """
    configure(connection)
    prefix = f"_{uuid.uuid4().hex[:12]}"
    scratch: list[str] = []

    def table(name: str, query: str, what: str) -> str:
        full = sql.quote(f"{prefix}_{name}")
        with _explained(what):
            connection.execute(f"create temp table {full} as {query}")
        scratch.append(full)
        return full

    for name in feature_set.sources()[1:]:
        if name not in sources:
            raise DefinitionError(f"source {name!r} is unknown; there are {', '.join(sorted(sources))}")
    limit = f"timestamp '{_utc(as_of)}'"
    rows = table("spine", sql.spine_sql(feature_set.spine, spine), "the spine")
    kept = ["_n", feature_set.spine.key, "event_time", "prediction_time"]
    row = table("row", sql.row_sql(feature_set.spine.features, rows, kept), "a feature of the row")
    places = dict.fromkeys((feature.name for feature in feature_set.spine.features), row)
    for view in feature_set.views:
        places |= _view(connection, view, rows, sources[view.source], limit, table)
    for lookup in feature_set.lookups:
        _require_unique(connection, lookup, sources[lookup.source])
        query = sql.lookup_sql(lookup, rows, sources[lookup.source])
        part = table(lookup.name, query, f"lookup {lookup.name!r}")
        places |= dict.fromkeys((feature.name for feature in lookup.features), part)
    joined = sql.assemble_sql(row, kept, {name: places[name] for name in feature_set.names()})
    types = dict(zip(feature_set.names(), connection.sql(joined).types[len(kept) :], strict=True))
    cells = [*map(sql.quote, kept[1:]), *(_cell(name, str(kind)) for name, kind in types.items())]
    result = sql.quote(f"{prefix}_features")
    connection.execute(f"create temp table {result} as select {sql.commas(cells)} from ({joined}) order by _n")
    _require_equal_counts(connection, rows, result)
    for name in scratch:
        connection.execute(f"drop table {name}")
    return connection.table(result)


def _view(
    connection: DuckDBPyConnection,
    view: FeatureView,
    rows: str,
    source: str,
    limit: str,
    table: Callable[[str, str, str], str],
) -> dict[str, str]:
    """Compute one view; returns where each of its features lies."""
    what = f"view {view.name!r}"
    joined = table(view.name, sql.view_sql(view, rows, source, limit), what)
    places: dict[str, str] = {}
    latest = [feature.name for feature in view.features if isinstance(feature, Latest)]
    if latest:
        found = table(f"{view.name}_latest", sql.latest_sql(view, joined, source, limit), what)
        if _peers(connection, found):
            found = table(f"{view.name}_one", sql.one_of_peers_sql(view, found), what)
        places |= dict.fromkeys(latest, found)
    for feature in view.features:
        if isinstance(feature, Aggregate):
            places |= dict.fromkeys(feature.columns(), joined)
        elif isinstance(feature, Age):
            places[feature.name] = joined
    return places


def _utc(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("as_of needs a time zone")
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


def _peers(connection: DuckDBPyConnection, latest: str) -> bool:
    """Whether several rows became known at the same instant, so that one has to be chosen."""
    found = connection.execute(f"select count(*) > count(distinct _n) from {latest}").fetchone()
    return bool(found and found[0])


def _cell(name: str, kind: str) -> str:
    column = sql.quote(name)
    if kind in _NUMBERS or kind.startswith("DECIMAL"):
        return f"case when isfinite({column}::double) then {column}::double end as {column}"
    if kind == "VARCHAR" or kind.startswith("ENUM"):
        return f"{column}::varchar as {column}"
    raise DefinitionError(f"feature {name!r} is a {kind}; make it a number (such as epoch(...)) or a text")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """DuckDB's complaint about a definition, in one line, with the definition's name."""
    import duckdb

    try:
        yield
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
        raise DefinitionError(f"{what}: {' '.join(str(error).split(chr(10) + chr(10))[0].split())}") from None
    except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
        first = str(error).splitlines()[0]
        raise DefinitionError(f"{what}: {first}; give the aggregate fewer `decimals`, or mend the expression") from None


def _require_unique(connection: DuckDBPyConnection, lookup: Lookup, table: str) -> None:
    keys = sql.commas(map(sql.quote, lookup.key))
    with _explained(f"lookup {lookup.name!r}"):
        twice = connection.execute(
            f"select {keys}, count(*) from {table} group by all having count(*) > 1 order by all limit 1"
        ).fetchone()
    if twice and None not in twice[:-1]:
        raise DefinitionError(
            f"lookup {lookup.name!r}: {lookup.source} has {twice[-1]} rows for {', '.join(lookup.key)} = "
            f"{', '.join(map(str, twice[:-1]))}; a static table has one row for each key"
        )


def _require_equal_counts(connection: DuckDBPyConnection, spine: str, result: str) -> None:
    counts = connection.execute(f"select (select count(*) from {spine}), (select count(*) from {result})").fetchone()
    if counts is None or counts[0] != counts[1]:
        raise AssertionError(f"{counts} rows of spine and features differ: the engine is broken")
