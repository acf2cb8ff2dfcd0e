"""Detects a loss of performance: compares the champion's skill in a window with the variation in its backtest.

A metric alone cannot show a loss: a hard month lowers it, and so does another share of positives. The skill is the part
of the metric beyond a naive guess that is refitted on the same window. The backtest, out-of-sample predictions stored
with the model's version, shows how far its skill varies between windows by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refit.drift.estimation import expected_metric
from refit.gate.comparison import Sample, leave_out
from refit.learners.calibration import Sigmoid, fit_sigmoid
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife, leave_out_mean
from refit.problems.binary import Binary
from refit.problems.contract import Problem
from refit.schemas.drift_decision import DayWindow, DecisionPolicy, PerformanceVerdict

__all__ = [
    "Backtest",
    "ScoredRows",
    "backtest",
    "finite_or_none",
    "judge_window",
    "skill",
    "whole_windows",
]

Floats = NDArray[np.float64]
Length = Literal["day", "week", "month"]


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


@dataclass(frozen=True)
class Backtest:
    """A model's skill on its own out-of-sample rows, window by window."""

    windows: tuple[DayWindow, ...]  # windows that could be judged, oldest first
    rows: float  # average number of labelled rows in a window
    skills: tuple[Estimate, ...]  # of each window
    estimated: tuple[float, ...]  # skill of each window, estimated without labels
    calibration: Sigmoid | None  # None if there are no rows to calibrate on


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
    if target.estimable:  # known from the base rate alone
        rate = leave_out_mean(scored.labels, clusters)
        value = float(_over_naive(metric, ours.value, rate.value))
        return jackknife(LeftOut(value, _over_naive(metric, ours.without, rate.without), ours.clusters))
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
    return 1 - abs(perfect - value) / abs(perfect - naive) if naive != perfect else math.nan


def _over_naive(metric: str, value: Any, rate: Any) -> Any:
    """Skill of a metric's value if a share `rate` of the rows is 1; numbers or arrays."""
    if metric == "roc_auc":
        return value - 0.5
    if metric == "average_precision":
        return value - rate
    with np.errstate(divide="ignore", invalid="ignore"):
        naive = rate * (1 - rate) if metric == "brier" else -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        return 1 - value / naive


def backtest(scored: ScoredRows, policy: DecisionPolicy) -> Backtest:
    """Measure and estimate the skill in each whole window of out-of-sample rows.

    These are the validation rows, predicted by the model fitted before them, and the test rows, predicted by the model
    itself. A window that production would not judge (too few rows, one class) is left out.
    """
    labelled = scored.labelled()
    if len(np.unique(labelled.labels)) < 2:
        return Backtest((), 0.0, (), (), None)
    estimable = scored.problem.estimable
    calibration = fit_sigmoid(labelled.predictions, labelled.labels) if estimable else None
    parts = {window: labelled.within(window) for window in whole_windows(labelled.days, policy.window)}
    parts = {window: part for window, part in parts.items() if not _problem(part, part, policy)}
    judged = list(parts.values())
    return Backtest(
        windows=tuple(parts),
        rows=sum(len(part.labels) for part in judged) / max(1, len(judged)),
        skills=tuple(skill(policy.metric, part) for part in judged),
        estimated=tuple(_estimate(policy.metric, part.predictions, calibration)[1] for part in judged),
        calibration=calibration,
    )


def whole_windows(days: NDArray[np.datetime64], length: Length) -> tuple[DayWindow, ...]:
    """The whole windows between the first and the last day, oldest first.

    Months are calendar months. Weeks are counted back from the last day: each holds every weekday once, and two months
    always hold eight of them, while weeks from Monday would often lose one.

    >>> june = np.arange("2013-06-01", "2013-06-20", dtype="datetime64[D]")
    >>> [str(window.first) for window in whole_windows(june, "week")]
    ['2013-06-06', '2013-06-13']
    >>> whole_windows(june, "month")
    ()
    """
    if not len(days):
        return ()
    first, end = days.min().astype(date), days.max().astype(date) + timedelta(days=1)
    windows: list[DayWindow] = []
    while (begin := _previous(end, length)) >= first:
        if length != "month" or end.day == 1:
            windows.append(DayWindow(first=begin, end=end))
        end = begin
    return tuple(reversed(windows))


def _previous(end: date, length: Length) -> date:
    if length == "month":
        return (end - timedelta(days=1)).replace(day=1)
    return end - timedelta(days=7 if length == "week" else 1)


def judge_window(
    reference: Backtest, observed: ScoredRows, window: DayWindow, policy: DecisionPolicy
) -> PerformanceVerdict:
    """Compare a window's skill with the skill in the windows of the backtest.

    The window is breached if its skill lies below the backtest's mean by at least `min_skill_loss` and by more than one
    further window would by chance: Student's t for a new observation, t * sd * sqrt(1 + 1 / W) with W - 1 degrees of
    freedom, one-sided at `alpha` (Hahn and Meeker 1991, "Statistical Intervals"). With fewer than
    `min_reference_windows` windows it is uncalibrated, and never breached.

    Args:
        observed: rows of production, including those without a label so far; rows outside the window are ignored.
    """
    rows = observed.within(window)
    labelled = rows.labelled()
    problem = _problem(rows, labelled, policy)
    measured = Estimate(math.nan, math.nan, 0.0) if problem else skill(policy.metric, labelled)
    lower, upper = measured.interval(policy.confidence)
    limit = _limit([each.value for each in reference.skills], policy, _excess(reference, len(labelled.labels)))
    estimated, estimated_skill = _estimate(policy.metric, rows.predictions, reference.calibration)
    suspicious = _limit(reference.estimated, policy).passed_by(estimated_skill)
    verdict = PerformanceVerdict(
        metric=policy.metric,
        rows=len(rows.labels),
        labelled=len(labelled.labels),
        value=None if problem else finite_or_none(_value(policy.metric, labelled)),
        skill=finite_or_none(measured.value),
        lower=finite_or_none(lower),
        upper=finite_or_none(upper),
        expected=finite_or_none(limit.mean),
        spread=finite_or_none(limit.spread),
        threshold=finite_or_none(limit.threshold),
        estimated=finite_or_none(estimated),
        suspected=bool(problem) and suspicious,
        breached=limit.passed_by(measured.value),
        reasons=(),
        estimated_skill=finite_or_none(estimated_skill),
    )
    reasons = _reasons(verdict, problem, len(reference.skills), policy, estimable=observed.problem.estimable)
    return verdict.model_copy(update={"reasons": tuple(reasons)})


@dataclass(frozen=True)
class _Limit:
    mean: float
    spread: float
    threshold: float  # nan: uncalibrated

    def passed_by(self, value: float) -> bool:
        return value < self.threshold  # nan is below nothing


def _limit(values: Sequence[float], policy: DecisionPolicy, excess: float = 0.0) -> _Limit:
    """The lowest skill that one further window may have; `excess` is its variance beyond that of the windows."""
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    spread = float(np.std(values, ddof=1)) if count > 1 else math.nan
    if count < max(2, policy.min_reference_windows):
        return _Limit(mean, spread, math.nan)
    from scipy.special import stdtrit

    by_chance = float(stdtrit(count - 1, 1 - policy.alpha)) * math.sqrt(spread**2 * (1 + 1 / count) + excess)
    return _Limit(mean, spread, mean - max(by_chance, policy.min_skill_loss))


def _excess(reference: Backtest, labelled: int) -> float:
    """The variance of a window beyond that of the backtest's windows because fewer of its rows are labelled.

    It comes from their standard errors, not from its own, which would widen the limit after one unusual day.
    """
    variances = [each.standard_error**2 for each in reference.skills if each.finite]
    if not variances or not labelled:
        return 0.0
    return max(0.0, reference.rows / labelled - 1) * float(np.mean(variances))


def _estimate(metric: str, predictions: Floats, calibration: Sigmoid | None) -> tuple[float, float]:
    """The metric and the skill expected from calibrated predictions."""
    if calibration is None or not len(predictions) or not np.isfinite(predictions).all():
        return math.nan, math.nan
    p = calibration.probabilities(predictions)
    value = expected_metric(metric, predictions, p)
    return value, float(_over_naive(metric, value, p.mean()))


def _problem(rows: ScoredRows, labelled: ScoredRows, policy: DecisionPolicy) -> str:
    """The reason why a window cannot be judged; empty if it can."""
    if not len(rows.labels):
        return "no row was scored in it"
    if rows.problem.of_features:
        return f"the naive guess of task {rows.problem.task!r} is of the features, which scored rows do not hold"
    if not_finite := int((~np.isfinite(rows.predictions.reshape(len(rows.labels), -1)).all(axis=1)).sum()):
        return f"{not_finite:,} of {len(rows.labels):,} predictions are not finite numbers"
    if len(labelled.labels) < policy.min_labelled_rows:
        count = f"{len(labelled.labels):,} of {len(rows.labels):,} rows are labelled"
        return f"{count}, {policy.min_labelled_rows:,} are needed"
    return labelled.problem.constant_labels(labelled.labels.astype(labelled.problem.dtype))


def _value(metric: str, labelled: ScoredRows) -> float:
    return labelled.problem.score(metric, labelled.labels.astype(labelled.problem.dtype), labelled.predictions)


def _reasons(
    verdict: PerformanceVerdict, problem: str, windows: int, policy: DecisionPolicy, *, estimable: bool
) -> Iterator[str]:
    if problem:
        yield f"not judged: {problem}"
    else:
        yield _measured(verdict, windows)
    if not verdict.calibrated:
        yield (
            f"uncalibrated: the backtest holds {windows} whole windows, {policy.min_reference_windows} are needed "
            "to tell a loss from chance"
        )
    if verdict.waiting_share and verdict.labelled:
        yield f"{verdict.waiting_share:.0%} of {verdict.rows:,} rows still wait for their label"
    if verdict.estimated is not None:
        yield _estimated(verdict)
    elif verdict.waiting_share and not estimable:
        yield "what it would be without labels is estimated for binary tasks alone"


def _measured(verdict: PerformanceVerdict, windows: int) -> str:
    band = "" if verdict.lower is None else f" (between {verdict.lower:.3f} and {verdict.upper:.3f})"
    text = (
        f"skill {verdict.skill:.3f}{band} by {verdict.metric} {verdict.value:.3f} of {verdict.labelled:,} labelled rows"
    )
    if verdict.threshold is None:
        return text
    side = "below" if verdict.breached else "not below"
    usual = f"the mean of the backtest's {windows} windows is {verdict.expected:.3f}"
    return f"{text}, {side} {verdict.threshold:.3f}; {usual}"


def _estimated(verdict: PerformanceVerdict) -> str:
    text = f"{verdict.metric} estimated without labels {verdict.estimated:.3f}"
    if verdict.estimate_error is not None:
        return f"{text}, {abs(verdict.estimate_error):.3f} too {'high' if verdict.estimate_error > 0 else 'low'}"
    return f"{text}, lower than the backtest lets expect" if verdict.suspected else text


def finite_or_none(value: float) -> float | None:
    """A number as decisions store it: None if it is not finite."""
    return float(value) if math.isfinite(value) else None
