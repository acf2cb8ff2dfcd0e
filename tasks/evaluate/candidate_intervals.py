"""Computes the candidate's prediction intervals for the test rows, with adaptive margins where they are set."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Bands
from refit.files.artifacts import VALIDATED
from refit.learners import Learner
from refit.learners.adaptive import adaptive_margins
from refit.learners.intervals import widen
from refit.learners.prediction_intervals import IntervalLearner
from refit.runtime.context import Context
from refit.schemas.validated import Validated
from tasks.featurize.labels import known_labels
from tasks.featurize.warehouse import open_warehouse


def bands(context: Context, learner: Learner, test: Holdout, key: str) -> Bands | None:
    """Return the learner's intervals for the test rows, or None if it has no intervals.

    Args:
        key: the column that names a row.
    """
    if not isinstance(learner, IntervalLearner):
        return None
    intervals, band, groups = learner.intervals, learner.band(test.table), learner.groups(test.table)
    plain = widen(band, intervals.margins(groups))
    if intervals.rate is None:
        return Bands(intervals, groups, plain)
    predicted_at = test.table.column("prediction_time").to_numpy()
    known_at = _known_at(context, test, key)
    margins = adaptive_margins(intervals, band, groups, test.labels, predicted_at=predicted_at, known_at=known_at)
    return Bands(intervals, groups, plain, widen(band, margins))


def _known_at(context: Context, test: Holdout, key: str) -> NDArray[np.datetime64]:
    """Return when the label of each test row became known, shape (rows,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with open_warehouse(context.project, Validated.read(context.path(VALIDATED)), context.params) as warehouse:
        labels = known_labels(warehouse, context.params, key, datetime.max.replace(tzinfo=UTC))
    keys = test.table.column(key).cast(pa.string())
    indices = pc.index_in(keys, value_set=labels["_key"].combine_chunks())
    times: NDArray[np.datetime64] = labels["known_at"].take(indices.combine_chunks()).to_numpy()
    return times
