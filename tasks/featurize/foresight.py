"""Warns of what may leak the future: features made from times after the prediction, and labels known only after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from feature_store.sql_guard import TIMES, column_of, columns_in, times_in
from feature_store.sql_text import quote
from tasks.featurize.labels import CHOSEN, LABEL_KNOWN_AT, WINDOW
from tasks.featurize.warehouse import Warehouse, sql_time

if TYPE_CHECKING:
    from feature_store.definition import Source
    from refit.config import Params
    from refit.schemas.feature_definitions import Definitions

NOTABLE = 0.01  # share of the rows that have the time
OURS = ("event_time", "available_at", "prediction_time", "forecast_time", "target_time", "season_time")


def advice(warehouse: Warehouse, definitions: Definitions) -> Iterator[str]:
    """Yield a message for each feature made from a time that often lies after the prediction.

    A planned time, such as a due date, is known then; an actual one, such as a closing, is not.
    """
    spine = definitions.feature_set.spine
    source = definitions.sources[spine.source]
    relation = warehouse.rows(spine, definitions.sources)
    raw = quote(source.table)
    plain = {name: _no_times(warehouse, name) for name in (relation, raw)}
    declared = {column.lower(): sql for column, sql in source.columns.items()}
    for feature in spine.features:
        later = _share(warehouse, feature.sql, relation, relation, spine.prediction_time, plain[relation])
        if later is None:
            for name in sorted(columns_in(warehouse.connection, feature.sql) & declared.keys()):
                sql = declared[name]
                later = later or _share(warehouse, sql, raw, _raw(source), spine.prediction_time, plain[raw])
        if later:
            part, share = later
            yield (
                f"feature {feature.name}: {part} lies after the prediction in {share:.0%} of the rows, and counts as "
                "known; if it is not known ahead, as a due date is, leave it out (featurize.exclude: "
                f"[{feature.name}]), or cut an event source that says when it is known (available_at, Refit's "
                "docs/features.md)"
            )


def known_too_early(warehouse: Warehouse, definitions: Definitions, params: Params) -> Iterator[str]:
    """Yield a message for each window with predictions of before labels that the model judged on them has learned.

    Windows are cut by events. A prediction long before its event may lie before labels that were known when the
    window opened; then the model is better informed than the one that made this prediction can have been.
    """
    spine = definitions.feature_set.spine
    if params.featurize.split or spine.prediction_time == "event_time" or params.featurize.label.column is None:
        return
    predicted = f"({spine.prediction_time})"
    for name, learned in (("validation", ("train",)), ("test", ("train", "validation"))):
        of = ", ".join(f"'{each}'" for each in learned)
        newest = f"(select max({quote(LABEL_KNOWN_AT)}) from {CHOSEN} where {quote(WINDOW)} in ({of}))"
        early, rows, hours = warehouse.one(
            f"select count(*) filter ({predicted} < {newest}), count(*), epoch({newest} - min({predicted})) / 3600 "
            f"from {CHOSEN} where {quote(WINDOW)} = '{name}'"
        )
        if rows and early / rows >= NOTABLE:
            needed = math.ceil(params.featurize.label.delay_hours + hours)
            yield (
                f"{early / rows:.0%} of the {name} rows were predicted up to {hours:,.1f} hours before labels were "
                "known that the model judged on them has learned: it may look better than it can be; set "
                f"featurize.label.delay_hours: {needed} (Refit's docs/training.md)"
            )


def _raw(source: Source) -> str:
    return f"(select * from {quote(source.table)}" + (f" where ({source.where})" if source.where else "") + ")"


def _no_times(warehouse: Warehouse, relation: str) -> frozenset[str]:
    """Return the columns of a relation that are not times, in lower case."""
    rows = warehouse.connection.sql(f"select * from {relation}")
    kinds = zip(rows.columns, map(str, rows.types), strict=True)
    return frozenset(name.lower() for name, kind in kinds if not kind.startswith(TIMES))


def _share(
    warehouse: Warehouse, sql: str, named: str, rows: str, prediction: str, plain: frozenset[str]
) -> tuple[str, float] | None:
    """Return the first time in an expression that is often later than the prediction, with the share of such rows.

    Args:
        plain: columns that are not times; an expression that is just one of them is skipped.
    """
    import duckdb

    if (column_of(sql) or "").lower() in plain:
        return None
    try:
        parts = list(times_in(warehouse.connection, sql, named, OURS))
    except duckdb.Error:  # an invalid expression, reported in full where features are computed
        return None
    for part in parts:
        try:
            there, later = warehouse.one(
                f"select count(*), count(*) filter (try(({part})::timestamp) > ({prediction})) from {rows} "
                f"where try({part}) is not null and event_time <= {sql_time(warehouse.as_of)}"
            )
        except duckdb.Error:  # the prediction time uses columns other than the raw ones
            continue
        if there and later >= NOTABLE * there:
            return part, later / there
    return None
