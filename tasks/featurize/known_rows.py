"""Since when each row of a source whose rows change was known, and until when: late rows, newer versions, deletions.

A row is known when it was available (`available_at`) and had arrived, whichever came later. A version counts until a
newer one arrives. `available_at` of a version is when its row would have been known if it had never been corrected: a
correction changes what is known of a row, not when the row came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.compile import SINCE, UNTIL, commas, own
from feature_store.definition import Source, Spine
from feature_store.sql_guard import require_row_level
from feature_store.sql_text import quote
from refit.config import SourceParams

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ARRIVED, ID = own("arrived"), own("id")  # of each row: when it arrived, null if in the course of time; its key
DELETES = own("deletes")  # of a snapshot: whether the row was missing in a delivery
_AVAILABLE, _DELETED, _VERSION, _KEPT, _PLACE = map(own, ("available", "deleted", "version", "kept", "place"))
SEEN = own("seen")  # of rows that are new or have new versions: the earliest time at which a difference can be seen
_THERE = own("there")  # since when a version replaces the one before, whether or not it is available itself


@dataclass(frozen=True)
class Changing:
    """How the rows of a raw table change: SQL over its columns."""

    key: tuple[str, ...]
    arrived_at: str  # a TIMESTAMP in UTC; null for a row that arrived in the course of time
    version: str | None  # the largest is the newest; None if a row never changes
    deleted: str  # whether this version deletes its row

    @classmethod
    def of(cls, source: SourceParams, zone: str) -> Changing:
        """Args: zone: the project's time zone."""
        changes = source.changes

        def inside(column: str) -> str:
            return quote(source.inside(column) or "event_time")

        if changes.is_snapshot:
            newest = f"coalesce({ARRIVED}, timestamp '-infinity')"
            return cls(tuple(map(inside, source.key)), ARRIVED, newest, DELETES)
        version = None if changes.version is None else inside(changes.version)
        arrived_at = source.arrival(zone) or ARRIVED
        return cls(tuple(map(inside, source.key)), arrived_at, version, changes.deleted or "false")


def create_known(
    connection: DuckDBPyConnection,
    source: Source,
    expressions: Mapping[str, str],
    changing: Changing,
    table: str,
    as_of: str,
) -> None:
    """Create the table of an event source: what was known by `as_of`, with `ARRIVED` and `ID`.

    If a row has several versions by then, or one that was deleted, the table also has `SINCE` and `UNTIL`.

    Raises:
        DefinitionError: the params' SQL uses other rows.
        duckdb.Error: it does not fit the raw columns.
    """
    raw = connection.sql(f"select * from {quote(source.table)}").columns
    for what, expression in (("changes.arrived_at", changing.arrived_at), ("changes.deleted", changing.deleted)):
        require_row_level(connection, what, expression, raw)
    columns = [name for name in expressions if name != "available_at"]
    rows = _versions_sql(source.table, source.where, expressions, changing)
    # `greatest` passes over what is null.
    since = f"case when {_AVAILABLE} is not null then greatest({_AVAILABLE}, {ARRIVED}) end as {SINCE}"
    known = f"select *, {since} from ({rows}) where {_THERE} <= {as_of}"
    listed = commas(map(quote, columns))
    if changing.version is None:
        query = f"select {listed}, {SINCE} as available_at, {_AVAILABLE}, {ARRIVED}, {ID} from ({known}) where {_KEPT}"
        connection.execute(f"create temp table {table} as select * from ({query}) where available_at <= {as_of}")
        return
    # Ingest refuses two equal versions; where an older store has them in two periods, the one that came last counts.
    newer = (
        f"partition by {ID} order by {_VERSION}, {_THERE}, {_PLACE} rows between 1 following and unbounded following"
    )
    first = f"first_value({ARRIVED}) over (partition by {ID} order by {_THERE}, {_VERSION}, {_PLACE})"
    query = (
        f"select {listed}, greatest({_AVAILABLE}, {first}) as available_at, {_AVAILABLE}, {ARRIVED}, {ID}, "
        f"{SINCE}, min({_THERE}) over ({newer}) as {UNTIL}, {_KEPT}, {_DELETED} from ({known})"
    )
    counts = f"select * exclude ({_KEPT}, {_DELETED}) from ({query}) where {_KEPT} and not {_DELETED}"
    connection.execute(
        f"create temp table {table} as select * from ({counts}) where {SINCE} <= {as_of} "
        f"and ({UNTIL} > {SINCE}) is distinct from false"
    )
    plain = f"select count(*) = 0 from {table} where {UNTIL} is not null or {SINCE} <> available_at"
    if connection.execute(plain).fetchall() == [(True,)]:
        for column in (SINCE, UNTIL):
            connection.execute(f"alter table {table} drop column {column}")


def _versions_sql(table: str, where: str | None, expressions: Mapping[str, str], changing: Changing) -> str:
    """Select every version of each row of a raw table, known or not, with the columns of this module."""
    cells = [f"({sql}) as {quote(name)}" for name, sql in expressions.items() if name != "available_at"]
    cells += [
        f"({expressions['available_at']}) as {_AVAILABLE}",
        f"({changing.arrived_at})::timestamp as {ARRIVED}",
        f"row({commas(changing.key)}) as {ID}",
        f"({where or 'true'}) as {_KEPT}",
        f"coalesce(({changing.deleted})::boolean, false) as {_DELETED}",
        f"({changing.version or 'null'}) as {_VERSION}",
        f"row_number() over () as {_PLACE}",
    ]
    there = f"coalesce({ARRIVED}, {_AVAILABLE}, event_time) as {_THERE}"
    return f"select *, {there} from (select {commas(cells)} from {quote(table)})"


def touched_sql(
    source: Source,
    expressions: Mapping[str, str],
    changing: Changing | None,
    added: str | None,
    after: str | None,
) -> str:
    """Select what is known otherwise than before: the columns of rows, and `SEEN`, the earliest time of a difference.

    Nothing that was known before a version arrived depends on it, so that this is the earliest time for all versions of
    its row. The old ones are selected too: they may have been known of another entity.

    Args:
        added: a table of new rows, with the columns of the source's raw table; may be None only with `after`.
        after: SQL of a time; rows with a version that arrived, or was available, after it count as new.
    """
    if changing is None:
        cells = commas(f"({sql}) as {quote(name)}" for name, sql in expressions.items())
        rows = f"select {cells} from {quote(added or source.table)} where ({source.where or 'true'})"
        return f"select *, coalesce(available_at, event_time) as {SEEN} from ({rows})"
    new = []
    if added is not None:
        new.append(f"select *, {_THERE} as {SEEN} from ({_versions_sql(added, source.where, expressions, changing)})")
    if changing.version is None:
        return new[0]
    every = _versions_sql(source.table, source.where, expressions, changing)
    if after is not None:
        later = f"greatest({_THERE}, {_AVAILABLE}, {ARRIVED}) > {after}"
        new.append(f"select *, {_THERE} as {SEEN} from ({every}) where {later}")
    changed = f"select {ID}, min({SEEN}) as {SEEN} from ({' union all '.join(new)}) group by {ID}"
    return f"select * from ({every}) join ({changed}) using ({ID})"


def has_versions(connection: DuckDBPyConnection, relation: str) -> bool:
    """Whether a relation has several versions of a row."""
    return UNTIL[1:-1] in connection.sql(f"select * from {relation}").columns


def newest(connection: DuckDBPyConnection, relation: str) -> str:
    """The relation with the newest version of each row alone."""
    return f"(select * from {relation} where {UNTIL} is null)" if has_versions(connection, relation) else relation


def predicted_sql(connection: DuckDBPyConnection, relation: str, spine: Spine) -> str:
    """Select the rows to predict, each as known at its prediction, and without the columns of this module.

    A row to predict is there with the request, so `available_at` is as declared, whenever the row arrived: if nothing
    of it had arrived by its prediction, its first version counts. A row that was moved in time, and was to be predicted
    twice, counts as it was known last. One that is deleted by now is left out.
    """
    rows = f"(select * exclude ({_AVAILABLE}) replace ({_AVAILABLE} as available_at) from {relation})"
    if not has_versions(connection, relation):
        return f"select * exclude ({ARRIVED}, {ID}) from {rows}"
    predicted = f"({spine.prediction_time})"
    current = f"({ARRIVED} > {predicted}) is distinct from true and ({UNTIL} > {predicted}) is distinct from false"
    order = f"case when {current} then 0 when {SINCE} > {predicted} then 1 else 2 end"
    return (
        f"select * exclude ({ARRIVED}, {ID}, {SINCE}, {UNTIL}) from (select * from {rows} "
        f"where {ID} in (select {ID} from {relation} where {UNTIL} is null) qualify row_number() over "
        f"(partition by {ID} order by {order}, case when {current} then {SINCE} end desc, {SINCE}) = 1)"
    )
