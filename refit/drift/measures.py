"""What is measured in a window: skill by the gate's metric and by proper scores, and the error of probabilities.

A metric alone cannot show a loss: a hard month lowers it, and so does another share of positives. The skill is the part
of the metric beyond a naive guess that is refitted on the same window. A metric of ranks, such as ROC AUC, does not see
that a probability of .8 has come to mean .6; a proper score and the calibration error do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.gate.comparison import Sample, leave_out
from refit.learners.calibration import fit_sigmoid
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife, leave_out_mean
from refit.problems.binary import Binary
from refit.problems.contract import Problem
from refit.schemas.drift_decision import CALIBRATION, DayWindow

__all__ = ["ScoredRows", "calibration_error", "measured", "over_naive", "skill", "watched"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredRows:
    """Predictions with the labels that have come so far."""

    days: NDArray[np.datetime64]  # (rows,) local day of each row
    predictions: Floats  # in the form of the task
    labels: Floats  # (rows,) in the form of the metrics; nan if the label has not come yet
    problem: Problem = field(default_factory=Binary)

    def within(self, window: DayWindow) -> ScoredRows:
        """The rows of one window."""
        first, end = np.datetime64(window.first, "D"), np.datetime64(window.end, "D")
        return self._only((self.days >= first) & (self.days < end))

    def labelled(self) -> ScoredRows:
        """The rows whose label has come."""
        return self._only(~np.isnan(self.labels))

    def _only(self, rows: NDArray[np.bool_]) -> ScoredRows:
        return ScoredRows(self.days[rows], self.predictions[rows], self.labels[rows], self.problem)


def watched(problem: Problem, metric: str) -> tuple[str, ...]:
    """What the drift watch measures: the gate's metric, then the problem's proper scores and calibration, if any.

    >>> watched(Binary(), "roc_auc")
    ('roc_auc', 'brier', 'calibration')
    """
    calibration = (CALIBRATION,) if problem.probabilities else ()
    return tuple(dict.fromkeys((metric, *problem.proper_scores, *calibration)))


def measured(measure: str, scored: ScoredRows) -> Estimate:
    """The skill by a metric, or minus the calibration error: more is better."""
    if measure == CALIBRATION:
        return Estimate(-calibration_error(scored), math.nan, 0.0)
    return skill(measure, scored)


def calibration_error(scored: ScoredRows) -> float:
    """The root mean square distance of the probabilities from those that these rows would have them be.

    The latter are a sigmoid of the former, fitted to the labels of the rows (Platt 1999); for several classes, of the
    probability of the predicted class and whether it came. Rows alone make it about sqrt(2 p (1 - p) / rows).

    Args:
        scored: labelled rows only.
    """
    if not len(scored.labels):
        return math.nan
    p, came = scored.predictions, scored.labels
    if p.ndim == 2:
        p, came = p.max(axis=1), (p.argmax(axis=1) == scored.labels).astype(np.float64)
    return float(np.sqrt(np.mean((fit_sigmoid(p, came).probabilities(p) - p) ** 2)))


def skill(metric: str, scored: ScoredRows) -> Estimate:
    """The skill of predictions over a constant that is refitted on the same rows, with its error clustered by day.

    0 is a naive guess and more is better, for any metric: ROC AUC minus .5, average precision minus the base rate, and
    for others the reduction of the constant's distance from perfect, as a share of it (Murphy 1988, "Skill scores based
    on the mean square error", Monthly Weather Review 116). The jackknife refits the constant without each day, too.
    Not finite if the rows cannot show it, for instance with one class only.

    Args:
        scored: labelled rows only.
    """
    target, clusters = scored.problem, Clusters.of(scored.days)
    labels = scored.labels.astype(target.dtype)
    ours = leave_out(metric, Sample(labels, clusters, target), scored.predictions)
    clusters = clusters.pooled(len(ours.without))  # as a metric of ranks has merged them
    if target.estimable:  # known from the base rate alone
        rate = leave_out_mean(scored.labels, clusters)
        value = float(over_naive(metric, ours.value, rate.value))
        return jackknife(LeftOut(value, over_naive(metric, ours.without, rate.without), ours.clusters))
    whole = _saved(metric, ours.value, labels, target)
    without = [
        _saved(metric, value, labels[clusters.codes != cluster], target) for cluster, value in enumerate(ours.without)
    ]
    return jackknife(LeftOut(whole, np.array(without), ours.clusters))


def _saved(metric: str, value: float, labels: NDArray[Any], target: Problem) -> float:
    """The reduction of a constant's distance from perfect, as a share of it; the constant is fitted to these labels."""
    if not len(labels):
        return math.nan
    naive = target.score(metric, labels, target.guess(target.naive(labels, metric), len(labels)))
    perfect = target.metric(metric).perfect
    if naive == perfect or not (
        math.isfinite(value) and math.isfinite(naive)
    ):  # mape of a label of 0 is infinite, for both
        return math.nan
    return 1 - abs(perfect - value) / abs(perfect - naive)


def over_naive(metric: str, value: Any, rate: Any) -> Any:
    """Skill of a metric's value if a share `rate` of the rows is 1; numbers or arrays."""
    if metric == "roc_auc":
        return value - 0.5
    if metric == "average_precision":
        return value - rate
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "accuracy_at_half":
            return 1 - (1 - value) / np.minimum(rate, 1 - rate)
        naive = rate * (1 - rate) if metric == "brier" else -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        return 1 - value / naive
