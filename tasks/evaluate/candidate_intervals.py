"""The candidate's intervals for the test rows, margins that follow labels included."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Bands
from refit.files.artifacts import VALIDATED, read_json
from refit.learners import Learner
from refit.learners.adaptive import followed
from refit.learners.intervals import widened
from refit.learners.prediction_intervals import Ranged
from refit.runtime.context import Context
from tasks.featurize.labels import known_labels
from tasks.featurize.warehouse import open_warehouse

if TYPE_CHECKING:
    pass


Report = dict[str, Any]


def bands(context: Context, learner: Learner, test: Holdout, key: str) -> Bands | None:
    """The learner's intervals for the test rows; none: it has none.

    Args:
        key: the column that names a row.
    """
    if not isinstance(learner, Ranged):
        return None
    told, band, groups = learner.intervals, learner.band(test.table), learner.groups(test.table)
    plain = widened(band, told.margins(groups))
    if told.rate is None:
        return Bands(told, groups, plain)
    predicted_at = test.table.column("prediction_time").to_numpy()
    known_at = _known_at(context, test, key)
    margins = followed(told, band, groups, test.labels, predicted_at=predicted_at, known_at=known_at)
    return Bands(told, groups, plain, widened(band, margins))


def _known_at(context: Context, test: Holdout, key: str) -> NDArray[np.datetime64]:
    """(rows,) since when the label of each test row is known."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with open_warehouse(context.project, read_json(context.path(VALIDATED)), context.params) as warehouse:
        found = known_labels(warehouse, context.params, key, datetime.max.replace(tzinfo=UTC))
    keys = test.table.column(key).cast(pa.string())
    places = pc.index_in(keys, value_set=found["_key"].combine_chunks())
    times: NDArray[np.datetime64] = found["known_at"].take(places.combine_chunks()).to_numpy()
    return times
