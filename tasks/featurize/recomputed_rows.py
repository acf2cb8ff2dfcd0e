"""Finds the rows of a training table whose features may differ from a cached table's, and computes them alone.

A feature depends on its own row and on what was known of its entity by the prediction. So it is computed again if the
row is new or may have changed, if something is known of one of its entities otherwise than before and could be seen by
its prediction, or if the prediction lies beyond what the cached table's run knew. All others are copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store import parts as store
from feature_store.compile import N, commas, own, spine_sql
from feature_store.definition import FeatureSet, FeatureView
from feature_store.sql_text import literal, quote
from refit.errors import counted
from tasks.featurize.known_rows import SEEN
from tasks.featurize.parts import read_once, scratch_folder
from tasks.featurize.table_cache import CachedTable
from tasks.featurize.warehouse import Warehouse, sql_time

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

    from refit.runtime.context import Context
    from refit.schemas.feature_definitions import Definitions

Ints = NDArray[np.int64]

MOST = 0.5  # share of the rows up to which computing them alone is less work
_PLACE, _AGAIN, _NUMBERED, _POSITIONS = map(own, ("place", "again", "numbered", "positions"))
_SAME = ("event_time", "prediction_time")


def features(
    context: Context,
    warehouse: Warehouse,
    definitions: Definitions,
    rows: str,
    cached: CachedTable,
    compute: Callable[[str], DuckDBPyRelation],
) -> DuckDBPyRelation | None:
    """Copy the features that cannot differ from the cached table, and compute those of the other rows.

    The relation can be read once. Returns None where that would be no less work, or the cached table does not fit.

    Args:
        rows: a table of the rows to predict, in order.
        compute: computes the features of some of these rows, in their order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = _places(warehouse, definitions, rows, cached)
    if place is None or (place < 0).sum() > MOST * len(place):
        return None
    again = np.flatnonzero(place < 0) + 1
    context.progress(f"features of {counted(len(again), 'row')}; those of {len(place) - len(again):,} are as before")
    folder = scratch_folder(context)
    try:
        computed = folder / "again.parquet"
        store.write_some(computed, compute(_some(warehouse, rows, again)), pa.array(again))
        schema, stored = pq.read_schema(computed), pq.read_schema(cached.path)
        if any(stored.field(name).type != schema.field(name).type for name in schema.names[1:]):
            shutil.rmtree(folder)
            return None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    positions = np.zeros(pq.read_metadata(cached.path).num_rows, np.int64)
    positions[place[place >= 0]] = np.flatnonzero(place >= 0) + 1
    streams = [store.Stream.of_table(cached.path, schema, positions), store.Stream.of_file(computed)]
    return read_once(warehouse, folder, streams, len(place))


def _some(warehouse: Warehouse, rows: str, positions: Ints) -> str:
    """Create a table of the rows at some positions, from 1."""
    import pyarrow as pa

    warehouse.connection.register(_POSITIONS[1:-1], pa.table({N[1:-1]: positions}))
    numbered = f"select row_number() over () as {N}, * from {rows}"
    query = f"select * exclude ({N}) from ({numbered}) join {_POSITIONS} using ({N}) order by {N}"
    warehouse.connection.execute(f"create or replace temp table {_AGAIN} as {query}")
    warehouse.connection.unregister(_POSITIONS[1:-1])
    return _AGAIN


def _places(warehouse: Warehouse, definitions: Definitions, rows: str, cached: CachedTable) -> Ints | None:
    """Return the number of each row in the cached table, from 0, or -1 if its features are computed again.

    Returns None if the rows do not match those of the cached table.
    """
    import duckdb

    feature_set = definitions.feature_set
    columns = [feature_set.spine.key, *_SAME, *(name for view in feature_set.views for name in view.entity)]
    listed = commas(quote(name) for name in dict.fromkeys(columns))
    touched: dict[str, str | None] = {}
    moved = min(warehouse.as_of, cached.inputs.as_of) if warehouse.as_of != cached.inputs.as_of else None
    try:
        numbered = f"select {N}, {listed} from ({spine_sql(feature_set.spine, rows)})"
        warehouse.connection.execute(f"create or replace temp table {_NUMBERED} as {numbered}")
        for name in [feature_set.spine.source, *(view.source for view in feature_set.views)]:
            if name not in touched:
                touched[name] = warehouse.touched(name, definitions.sources, moved)
        again, joins = _conditions(feature_set, touched)
        if moved is not None:
            again.append(f"numbered.prediction_time > {sql_time(moved)}")
        key = quote(feature_set.spine.key)
        kept = f"select {commas([key, *_SAME])}, file_row_number as {_PLACE} from {_rows_of(cached.path)}"
        same = " and ".join(f"numbered.{each} is not distinct from kept.{each}" for each in _SAME)
        found = warehouse.arrow(
            f"select numbered.{N}, kept.{_PLACE}, coalesce({' or '.join(again) or 'false'}, false) as {_AGAIN} "
            f"from {_NUMBERED} as numbered "
            f"left join ({kept}) as kept on numbered.{key} = kept.{key} and {same} {' '.join(joins)}"
        )
        [count] = warehouse.one("select count(*) from " + _NUMBERED)
    except duckdb.Error:  # of a definition or a value, and reported where the features are computed
        return None
    finally:
        for table in (_NUMBERED, *(each for each in touched.values() if each)):
            warehouse.connection.execute(f"drop table if exists {table}")
    return _in_order(found, count)


def _conditions(feature_set: FeatureSet, touched: Mapping[str, str | None]) -> tuple[list[str], list[str]]:
    """SQL of why a numbered row is computed again, and the joins that it needs."""
    again, joins, key = list[str](), list[str](), quote(feature_set.spine.key)
    if (of_spine := touched[feature_set.spine.source]) is not None:
        again.append(f"numbered.{key} in (select {key} from {of_spine})")
    for index, view in enumerate(feature_set.views):
        if (table := touched[view.source]) is None:
            continue
        joins.append(f"left join ({_first_seen(view, table)}) as view{index} on {_same_entity(view, f'view{index}')}")
        again.append(f"numbered.prediction_time >= view{index}.{SEEN}")
    return again, joins


def _first_seen(view: FeatureView, touched: str) -> str:
    """Select since when each entity of a view may be known otherwise than before; a row without a time always may."""
    entity = "".join(f"{quote(name)}, " for name in view.entity)
    first = f"min(coalesce({SEEN}, timestamp '-infinity'))"
    return f"select {entity}{first} as {SEEN} from {touched} group by all"


def _same_entity(view: FeatureView, alias: str) -> str:
    return " and ".join(f"numbered.{quote(name)} = {alias}.{quote(name)}" for name in view.entity) or "true"


def _rows_of(path: Path) -> str:
    return f"read_parquet({literal(str(path))}, file_row_number = true)"


def _in_order(found: pa.Table, rows: int) -> Ints | None:
    """The place of each row, in the order of the rows; None unless each has at most one, and all follow that order."""
    if found.num_rows != rows:
        return None
    numbers, again = found[0].to_numpy() - 1, found[2].to_numpy()
    result = np.full(rows, -1, np.int64)
    result[numbers] = np.where(again, -1, found[1].fill_null(-1).to_numpy())
    kept = result[result >= 0]
    return result if (np.diff(kept) > 0).all() else None
