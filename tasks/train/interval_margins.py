"""Learns the margins of prediction intervals from out-of-fold predictions."""

from __future__ import annotations

import numpy as np

from refit.config import Params
from refit.learners import Floats, Learner, Spec, make
from refit.learners.contract import middle_iterations
from refit.learners.intervals import ends_of, fit_intervals, groups_in, require_rows
from refit.learners.prediction_intervals import IntervalLearner
from refit.learners.quantiles import quantile_of
from refit.runtime.context import Progress
from refit.schemas.postprocessing import MarginsByGroup
from tasks.train.calibration_and_threshold import pooled
from tasks.train.folds import Development
from tasks.train.trial import Trial, fit_fold, fit_rows


def check(rows: Development, params: Params) -> None:
    """Check before fitting that intervals can be made.

    Raises:
        UserError: there are too few out-of-fold rows for the level, or the column to group margins by is missing.
    """
    if intervals := params.train.intervals:
        groups_in(rows.whole.rows.slice(0, 0), intervals.within)
        require_rows(len(rows.unseen), intervals.level)


def with_intervals(learner: Learner, best: Trial, rows: Development, params: Params, progress: Progress) -> Learner:
    """Add intervals to the candidate, if they are configured.

    Args:
        learner: fitted on all rows.
        best: its trial, with out-of-fold predictions.

    Raises:
        UserError: see `check`.
    """
    intervals = params.train.intervals
    if intervals is None:
        return learner
    unseen = rows.whole.at(best.unseen)
    groups = groups_in(unseen.rows, intervals.within)
    if intervals.by == "residuals":
        band = np.column_stack([best.predicted, best.predicted])
        return IntervalLearner(learner, fit_intervals(band, unseen.label, groups, intervals))
    low, high = (_end(best.learner.spec, level, rows, progress) for level in ends_of(intervals.level))
    band = np.column_stack([low[1], high[1]])
    return IntervalLearner(learner, fit_intervals(band, unseen.label, groups, intervals), (low[0], high[0]))


def _end(spec: Spec, level: float, rows: Development, progress: Progress) -> tuple[Learner, Floats]:
    """Return a learner of a quantile fitted on all rows, and its out-of-fold predictions."""
    quantile = quantile_of(spec, level)
    fits = []
    for number, fold in enumerate(rows.folds, start=1):
        progress(f"fitting {spec.name}, quantile {level:.4g}, fold {number} of {len(rows.folds)}")
        fits.append(fit_fold(quantile, rows, fold, progress))
    end = make(quantile)
    fit_rows(end, rows.whole, iterations=middle_iterations([fit.report for fit in fits]), progress=progress)
    return end, pooled(rows, [fit.predicted for fit in fits])


def interval_summary(learner: Learner) -> MarginsByGroup | None:
    """Return what `models/training.json` says of a candidate's intervals."""
    return learner.intervals.summary() if isinstance(learner, IntervalLearner) else None
