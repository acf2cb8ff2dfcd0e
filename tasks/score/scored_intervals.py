"""Between which two numbers the labels of rows to score will lie: the champion's intervals, where it has any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.compile import quote
from refit.learners import Floats
from refit.learners.adaptive import adaptive_margins
from refit.learners.intervals import widen
from refit.learners.prediction_intervals import IntervalLearner
from refit.runtime.context import Context
from tasks import featurize
from tasks.featurize.labels import known_labels
from tasks.featurize.warehouse import Warehouse, sql_time
from tasks.score.champion_model import Champion

if TYPE_CHECKING:
    import pyarrow as pa

NAT = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Ranges:
    """Intervals of rows that were scored."""

    level: float
    band: Floats  # (rows, 2)

    def columns(self) -> dict[str, Any]:
        return {"low": self.band[:, 0], "high": self.band[:, 1]}

    def told(self) -> dict[str, Any]:
        """What a summary says of them."""
        width = float(np.diff(self.band).mean()) if len(self.band) else None
        return {"level": self.level, "mean_width": width}


def ranges(
    context: Context, warehouse: Warehouse, champion: Champion, features: pa.Table, relation: str
) -> Ranges | None:
    """The intervals of rows; none: the champion has none.

    Where margins follow labels, they go on from training through all rows whose labels have come since.

    Args:
        features: of the rows, in their order.
        relation: the same rows with all columns of their source.
    """
    learner = champion.learner
    if not isinstance(learner, IntervalLearner):
        return None
    told, rows = learner.intervals, features.num_rows
    table = _with_column(warehouse, champion, features, relation, told.within)
    band, groups = learner.band(table), learner.groups(table)
    if told.rate is None or not rows:
        return Ranges(told.level, widen(band, told.margins(groups)))
    context.progress("following the labels that have come since training")
    past, labels, known_at = _since_training(context, warehouse, champion, told.within)
    now = np.datetime64(warehouse.as_of.astimezone(UTC).replace(tzinfo=None), "us")
    predicted_at = np.minimum(table["prediction_time"].to_numpy(), now)  # rows to come are predicted now
    margins = adaptive_margins(
        told,
        np.concatenate([learner.band(past), band]),
        np.concatenate([learner.groups(past), groups]),
        np.concatenate([labels, np.full(rows, np.nan)]),
        predicted_at=np.concatenate([past["prediction_time"].to_numpy(), predicted_at]),
        known_at=np.concatenate([known_at, np.full(rows, NAT)]),
    )
    return Ranges(told.level, widen(band, margins[-rows:]))


def _since_training(
    context: Context, warehouse: Warehouse, champion: Champion, within: str | None
) -> tuple[pa.Table, Floats, np.ndarray[Any, np.dtype[np.datetime64]]]:
    """The rows that happened since the model was trained and have a label by now, with it and since when it counts."""
    labels = known_labels(warehouse, context.params, champion.key, datetime.max.replace(tzinfo=UTC))
    source = champion.definitions.feature_set.spine.source
    spine = warehouse.relation(source, champion.definitions.sources)
    warehouse.connection.register("labels_since", labels)
    key = quote(champion.key)
    relation = (
        f"(select * from {spine} where event_time >= {sql_time(champion.seen_until)} and {key}::varchar in "
        f"(select _key from labels_since) order by event_time, {key})"
    )
    features = featurize.features_of(warehouse, champion.definitions, relation, context.params)
    table = _with_column(warehouse, champion, features, relation, within)
    places = _places(table[champion.key], labels["_key"])
    found = labels.take(places)
    return table, champion.learner.spec.target.labels_or_nan(found["label"]), found["known_at"].to_numpy()


def _with_column(
    warehouse: Warehouse, champion: Champion, features: pa.Table, relation: str, column: str | None
) -> pa.Table:
    """The features with a column of the rows' source that is no feature, where margins go by it."""
    if column is None or column in features.column_names:
        return features
    key = quote(champion.key)
    rows = warehouse.arrow(f"select {key}::varchar as _key, {quote(column)} as _column from {relation}")
    return features.append_column(column, rows["_column"].take(_places(features[champion.key], rows["_key"])))


def _places(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(keys.cast(pa.string()).combine_chunks(), value_set=among.combine_chunks())
