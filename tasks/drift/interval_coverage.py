"""How many labels the champion's prediction intervals held lately: skill may last while they miss their level."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from refit.config.windows import local_days
from refit.evaluation.holdout import with_interval
from refit.evaluation.interval_coverage import shortfall
from refit.learners.intervals import score
from refit.metrics.clusters import Clusters, jackknife, leave_out_mean
from refit.runtime.context import Context
from refit.schemas.drift_decision import DayWindow, WatchedCoverage
from refit.schemas.validated import Validated
from refit.storage.prediction_log import KEY
from tasks.score import intervals_between
from tasks.score.champion_model import Champion

if TYPE_CHECKING:
    import pyarrow as pa


def interval_coverage(
    context: Context, champion: Champion, validated: Validated, labels: pa.Table, windows: Sequence[DayWindow]
) -> WatchedCoverage | None:
    """The coverage of the intervals in some windows, with the labels that have come; None without either.

    Args:
        labels: `_key` and `label`.
        windows: those that the decision considers, oldest first.
    """
    import pyarrow.compute as pc

    zone = context.params.project.zone
    first, end = windows[0].first, windows[-1].end
    start, until = (datetime.combine(day, datetime.min.time(), zone) for day in (first, end))
    found = intervals_between(context, champion, validated, start, until)
    if found is None:
        return None
    rows, intervals = found
    keys = rows[KEY].cast("string").combine_chunks()
    came = labels["label"].take(pc.index_in(keys, value_set=labels[KEY].cast("string").combine_chunks()))
    values = champion.learner.spec.problem.labels_or_nan(came)
    labelled = ~np.isnan(values)
    if labelled.sum() < context.params.drift.min_labelled_rows:
        return None
    held = (score(intervals.band[labelled], values[labelled]) <= 0).astype(np.float64)
    clusters = Clusters.of(local_days(rows["event_time"], zone)[labelled])
    coverage = with_interval(jackknife(leave_out_mean(held, clusters)), context.params.evaluate.confidence, 0.0, 1.0)
    return WatchedCoverage(
        first=first,
        end=end,
        level=intervals.level,
        labelled=int(labelled.sum()),
        coverage=coverage,
        warning=shortfall(coverage, intervals.level),
    )
