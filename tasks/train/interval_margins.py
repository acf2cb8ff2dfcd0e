"""From predictions to intervals: margins learned from the predictions of rows that no fit had seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from refit.config import Params
from refit.learners import Floats, Learner, Spec, make
from refit.learners.contract import middle_iterations
from refit.learners.intervals import ends_of, fit_intervals, groups_in, require_rows
from refit.learners.prediction_intervals import IntervalLearner
from refit.learners.quantiles import quantile_of
from refit.runtime.context import Progress
from tasks.train.calibration_and_threshold import pooled
from tasks.train.folds import Development
from tasks.train.trial import Trial, fit_fold


def check(rows: Development, params: Params) -> None:
    """Find before anything is fitted what would stop the intervals afterwards.

    Raises:
        UserError: there are too few rows that no fit will see for the level, or no column to tell margins apart by.
    """
    if asked := params.train.intervals:
        groups_in(rows.whole.rows.slice(0, 0), asked.within)
        require_rows(len(rows.unseen), asked.level)


def ranged(learner: Learner, best: Trial, rows: Development, params: Params, progress: Progress) -> Learner:
    """The candidate with its intervals, where they are asked for.

    Args:
        learner: fitted on all rows.
        best: its trial, with predictions of the rows that its fits had not seen.

    Raises:
        UserError: see `check`.
    """
    asked = params.train.intervals
    if asked is None:
        return learner
    unseen = rows.whole.at(best.unseen)
    groups = groups_in(unseen.rows, asked.within)
    if asked.by == "residuals":
        band = np.column_stack([best.predicted, best.predicted])
        return IntervalLearner(learner, fit_intervals(band, unseen.label, groups, asked))
    low, high = (_end(best.learner.spec, level, rows, progress) for level in ends_of(asked.level))
    band = np.column_stack([low[1], high[1]])
    return IntervalLearner(learner, fit_intervals(band, unseen.label, groups, asked), (low[0], high[0]))


def _end(spec: Spec, level: float, rows: Development, progress: Progress) -> tuple[Learner, Floats]:
    """The learner asked for a quantile and fitted on all rows, and what fits said of rows that they had not seen."""
    asked = quantile_of(spec, level)
    fits = []
    for number, fold in enumerate(rows.folds, start=1):
        progress(f"fitting {spec.name}, quantile {level:.4g}, fold {number} of {len(rows.folds)}")
        fits.append(fit_fold(asked, rows, fold, progress))
    end = make(asked)
    end.fit(
        rows.whole.rows, rows.whole.label, iterations=middle_iterations([fit.report for fit in fits]), progress=progress
    )
    return end, pooled(rows, [fit.predicted for fit in fits])


def told_of(learner: Learner) -> dict[str, Any] | None:
    """A candidate's intervals as `models/training.json` has them."""
    return learner.intervals.summary() if isinstance(learner, IntervalLearner) else None
