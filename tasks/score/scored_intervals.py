"""Computes the champion's prediction intervals for rows to score."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.sql_text import quote
from refit.learners import Floats
from refit.learners.adaptive import adaptive_margins
from refit.learners.intervals import widen
from refit.learners.prediction_intervals import IntervalLearner
from refit.runtime.context import Context
from refit.schemas.score_report import IntervalWidth
from tasks import featurize
from tasks.featurize.labels import known_labels
from tasks.featurize.warehouse import Warehouse, sql_time
from tasks.score.champion_model import Champion

if TYPE_CHECKING:
    import pyarrow as pa

NAT = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class ScoredIntervals:
    """Prediction intervals of scored rows."""

    level: float
    band: Floats  # (rows, 2)

    def columns(self) -> dict[str, object]:
        return {"low": self.band[:, 0], "high": self.band[:, 1]}

    def summary(self) -> IntervalWidth:
        """Return their level and mean width."""
        width = float(np.diff(self.band).mean()) if len(self.band) else None
        return IntervalWidth(level=self.level, mean_width=width)


def intervals_of(
    context: Context, warehouse: Warehouse, champion: Champion, features: pa.Table, relation: str
) -> ScoredIntervals | None:
    """Return the intervals of rows, or None if the champion has no intervals.

    Adaptive margins are continued from training through all rows whose labels have arrived since.

    Args:
        features: features of the rows, in their order.
        relation: the same rows with all columns of their source.
    """
    learner = champion.learner
    if not isinstance(learner, IntervalLearner):
        return None
    intervals, rows = learner.intervals, features.num_rows
    table = _with_column(warehouse, champion, features, relation, intervals.within)
    band, groups = learner.band(table), learner.groups(table)
    if intervals.rate is None or not rows:
        return ScoredIntervals(intervals.level, widen(band, intervals.margins(groups)))
    context.progress("following the labels that have come since training")
    past, labels, known_at = _since_training(context, warehouse, champion, intervals.within)
    now = np.datetime64(warehouse.as_of.astimezone(UTC).replace(tzinfo=None), "us")
    predicted_at = np.minimum(table["prediction_time"].to_numpy(), now)  # future rows are predicted now
    margins = adaptive_margins(
        intervals,
        np.concatenate([learner.band(past), band]),
        np.concatenate([learner.groups(past), groups]),
        np.concatenate([labels, np.full(rows, np.nan)]),
        predicted_at=np.concatenate([past["prediction_time"].to_numpy(), predicted_at]),
        known_at=np.concatenate([known_at, np.full(rows, NAT)]),
    )
    return ScoredIntervals(intervals.level, widen(band, margins[-rows:]))


def _since_training(
    context: Context, warehouse: Warehouse, champion: Champion, within: str | None
) -> tuple[pa.Table, Floats, np.ndarray[Any, np.dtype[np.datetime64]]]:
    """Return the labelled rows since the model was trained, their labels, and when these became known."""
    labels = known_labels(warehouse, context.params, champion.key, datetime.max.replace(tzinfo=UTC))
    spine = warehouse.rows(champion.definitions.feature_set.spine, champion.definitions.sources)
    warehouse.connection.register("labels_since", labels)
    key = quote(champion.key)
    relation = (
        f"(select * from {spine} where event_time >= {sql_time(champion.seen_until)} and {key}::varchar in "
        f"(select _key from labels_since) order by event_time, {key})"
    )
    features = featurize.features_of(warehouse, champion.definitions, relation, context, champion.find(context))
    table = _with_column(warehouse, champion, features, relation, within)
    indices = _indices(table[champion.key], labels["_key"])
    matching = labels.take(indices)
    return table, champion.learner.spec.problem.labels_or_nan(matching["label"]), matching["known_at"].to_numpy()


def _with_column(
    warehouse: Warehouse, champion: Champion, features: pa.Table, relation: str, column: str | None
) -> pa.Table:
    """Add the column that margins are grouped by, if it is a column of the source but not a feature."""
    if column is None or column in features.column_names:
        return features
    key = quote(champion.key)
    rows = warehouse.arrow(f"select {key}::varchar as _key, {quote(column)} as _column from {relation}")
    return features.append_column(column, rows["_column"].take(_indices(features[champion.key], rows["_key"])))


def _indices(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(keys.cast(pa.string()).combine_chunks(), value_set=among.combine_chunks())
