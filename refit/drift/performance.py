"""Whether the model in charge still earns its place: skill in a window against what its backtest shows by chance.

A metric by itself cannot tell: a hard month lowers it, and so does another share of positives. So what is judged is the
skill, the part of the metric that a naive guess does not reach which was refitted on this very window. How far a
model's skill moves from window to window without being stale is seen in its backtest: rows it predicted without having
seen them, kept with its version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refit.config.learning import EvaluateParams
from refit.drift.estimation import expected_metric
from refit.drift.inputs import DEFAULTS, Window
from refit.gate.comparison import Sample, leave_out
from refit.learners.calibration import Sigmoid, fit_sigmoid
from refit.metrics import METRICS
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife, leave_out_mean
from refit.metrics.scores import score
from refit.problems.target import Binary, Target

__all__ = ["Backtest", "PerformanceVerdict", "Policy", "Scored", "backtest", "judge_window", "skill", "whole_windows"]

Floats = NDArray[np.float64]
Length = Literal["day", "week", "month"]
EVALUATION = EvaluateParams()


@dataclass(frozen=True)
class Policy:
    """When a window's skill counts as lost (`drift` in the params)."""

    metric: str = EVALUATION.gate.metric
    confidence: float = EVALUATION.confidence  # of the interval that is shown
    window: Length = DEFAULTS.window
    alpha: float = DEFAULTS.alpha
    min_skill_loss: float = DEFAULTS.min_skill_loss
    min_reference_windows: int = DEFAULTS.min_reference_windows
    min_labelled_rows: int = DEFAULTS.min_labelled_rows


@dataclass(frozen=True)
class Scored:
    """Predictions beside what came true."""

    days: NDArray[np.datetime64]  # (rows,) the local day of each
    predictions: Floats  # as the task has them
    labels: Floats  # (rows,) as metrics take them; nan where the label has not come yet
    target: Target = field(default_factory=Binary)

    def within(self, window: Window) -> Scored:
        """The rows of one window."""
        first, end = np.datetime64(window.first, "D"), np.datetime64(window.end, "D")
        return self._only((self.days >= first) & (self.days < end))

    def labelled(self) -> Scored:
        """The rows whose label has come."""
        return self._only(~np.isnan(self.labels))

    def _only(self, rows: NDArray[np.bool_]) -> Scored:
        return Scored(self.days[rows], self.predictions[rows], self.labels[rows], self.target)


@dataclass(frozen=True)
class Backtest:
    """What a model's own out-of-sample rows show of it, window by window."""

    windows: tuple[Window, ...]  # those that could be judged, oldest first
    rows: float  # labelled ones of a window, on average
    skills: tuple[Estimate, ...]  # of each of them
    estimated: tuple[float, ...]  # the same windows' skill as it is estimated without labels
    calibration: Sigmoid | None  # none: there is nothing to calibrate on


@dataclass(frozen=True)
class PerformanceVerdict:
    """What one window shows; None is what its rows cannot tell."""

    window: Window
    metric: str
    rows: int
    labelled: int
    value: float | None  # the metric itself
    skill: float | None  # none: the window was not judged
    lower: float | None
    upper: float | None
    expected: float | None  # mean skill of the backtest's windows
    spread: float | None  # standard deviation between them
    threshold: float | None  # the skill below which the window is breached; none: uncalibrated
    estimated: float | None  # the metric as it is estimated without labels
    suspected: bool  # not judged yet, and the estimated skill has fallen as a breached one would
    breached: bool
    reasons: tuple[str, ...]
    estimated_skill: float | None = None  # what that estimate is worth beyond a naive guess

    @property
    def judged(self) -> bool:
        return self.skill is not None

    @property
    def calibrated(self) -> bool:
        return self.threshold is not None

    @property
    def waiting_share(self) -> float:
        """Share of the rows whose label has not come yet."""
        return 1 - self.labelled / self.rows if self.rows else 0.0

    @property
    def estimate_error(self) -> float | None:
        """By how much the estimate was above the metric that the labels then showed."""
        return None if self.estimated is None or self.value is None else self.estimated - self.value


def skill(metric: str, scored: Scored) -> Estimate:
    """What predictions are worth beyond a constant refitted on these very rows, with its error clustered by day.

    0 is a naive guess and more is better, whatever the metric: ROC AUC less .5, average precision less the base rate,
    and for any other the share of the constant's distance from perfect that is saved (Murphy 1988, "Skill scores based
    on the mean square error", Monthly Weather Review 116). Without each day the constant is refitted too.
    Not finite where the rows cannot tell, with one class for instance.

    Args:
        scored: labelled rows only.
    """
    target, clusters = scored.target, Clusters.of(scored.days)
    labels = scored.labels.astype(target.dtype)
    ours = leave_out(metric, Sample(labels, clusters, target.task), scored.predictions)
    if target.task == "binary":  # known from the base rate alone
        rate = leave_out_mean(scored.labels, clusters)
        value = float(_over_naive(metric, ours.value, rate.value))
        return jackknife(LeftOut(value, _over_naive(metric, ours.without, rate.without), ours.clusters))
    whole = _saved(metric, ours.value, labels, target)
    without = [
        _saved(metric, value, labels[clusters.codes != cluster], target) for cluster, value in enumerate(ours.without)
    ]
    return jackknife(LeftOut(whole, np.array(without), ours.clusters))


def _saved(metric: str, value: float, labels: NDArray[Any], target: Target) -> float:
    """The share of a constant's distance from perfect that is saved, the constant fitted to these labels."""
    if not len(labels):
        return math.nan
    naive = score(target.task, metric, labels, target.guess(target.naive(labels, metric), len(labels)))
    perfect = METRICS[metric].perfect
    return 1 - abs(perfect - value) / abs(perfect - naive) if naive != perfect else math.nan


def _over_naive(metric: str, value: Any, rate: Any) -> Any:
    """Skill of a metric's value where a share `rate` of the rows is 1; numbers or arrays."""
    if metric == "roc_auc":
        return value - 0.5
    if metric == "average_precision":
        return value - rate
    with np.errstate(divide="ignore", invalid="ignore"):
        naive = rate * (1 - rate) if metric == "brier" else -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        return 1 - value / naive


def backtest(scored: Scored, policy: Policy) -> Backtest:
    """Skill, measured and estimated, in each whole window of rows that the model predicted without having seen them.

    These are the validation rows, predicted by the model fitted before them, and the test rows, predicted by the model
    itself. A window that production would not judge (too few rows, one class) is left out.
    """
    known = scored.labelled()
    if len(np.unique(known.labels)) < 2:
        return Backtest((), 0.0, (), (), None)
    binary = scored.target.task == "binary"  # what there is an estimate without labels for
    calibration = fit_sigmoid(known.predictions, known.labels) if binary else None
    parts = {window: known.within(window) for window in whole_windows(known.days, policy.window)}
    parts = {window: part for window, part in parts.items() if not _problem(part, part, policy)}
    judged = list(parts.values())
    return Backtest(
        windows=tuple(parts),
        rows=sum(len(part.labels) for part in judged) / max(1, len(judged)),
        skills=tuple(skill(policy.metric, part) for part in judged),
        estimated=tuple(_estimate(policy.metric, part.predictions, calibration)[1] for part in judged),
        calibration=calibration,
    )


def whole_windows(days: NDArray[np.datetime64], length: Length) -> tuple[Window, ...]:
    """The whole windows between the first and the last day, oldest first.

    Months are those of the calendar. Weeks are counted back from the last day: each holds every weekday once, as a week
    from Monday does, and two months always hold eight of them, of which the calendar would often cut one off.

    >>> june = np.arange("2013-06-01", "2013-06-20", dtype="datetime64[D]")
    >>> [str(window.first) for window in whole_windows(june, "week")]
    ['2013-06-06', '2013-06-13']
    >>> whole_windows(june, "month")
    ()
    """
    if not len(days):
        return ()
    first, end = days.min().astype(date), days.max().astype(date) + timedelta(days=1)
    found: list[Window] = []
    while (begin := _previous(end, length)) >= first:
        if length != "month" or end.day == 1:
            found.append(Window(begin, end))
        end = begin
    return tuple(reversed(found))


def _previous(end: date, length: Length) -> date:
    if length == "month":
        return (end - timedelta(days=1)).replace(day=1)
    return end - timedelta(days=7 if length == "week" else 1)


def judge_window(reference: Backtest, observed: Scored, window: Window, policy: Policy) -> PerformanceVerdict:
    """Compare a window's skill with that of the windows of the backtest.

    It is breached where the skill lies below the backtest's mean by at least `min_skill_loss` and by more than one
    further window would by chance: Student's t for a new observation, t * sd * sqrt(1 + 1 / W) with W - 1 degrees of
    freedom, one-sided at `alpha` (Hahn and Meeker 1991, "Statistical Intervals"). Fewer than
    `min_reference_windows` windows cannot tell chance: uncalibrated, and never breached.

    Args:
        observed: production's rows, those that still wait for their label among them; others than the window's count
            for nothing.
    """
    rows = observed.within(window)
    known = rows.labelled()
    problem = _problem(rows, known, policy)
    measured = Estimate(math.nan, math.nan, 0.0) if problem else skill(policy.metric, known)
    lower, upper = measured.interval(policy.confidence)
    limit = _limit([each.value for each in reference.skills], policy, _excess(reference, len(known.labels)))
    estimated, estimated_skill = _estimate(policy.metric, rows.predictions, reference.calibration)
    suspicious = _limit(reference.estimated, policy).passed_by(estimated_skill)
    verdict = PerformanceVerdict(
        window=window,
        metric=policy.metric,
        rows=len(rows.labels),
        labelled=len(known.labels),
        value=None if problem else _known(_value(policy.metric, known)),
        skill=_known(measured.value),
        lower=_known(lower),
        upper=_known(upper),
        expected=_known(limit.mean),
        spread=_known(limit.spread),
        threshold=_known(limit.threshold),
        estimated=_known(estimated),
        suspected=bool(problem) and suspicious,
        breached=limit.passed_by(measured.value),
        reasons=(),
        estimated_skill=_known(estimated_skill),
    )
    return replace(
        verdict,
        reasons=tuple(
            _reasons(verdict, problem, len(reference.skills), policy, estimable=observed.target.task == "binary")
        ),
    )


@dataclass(frozen=True)
class _Limit:
    mean: float
    spread: float
    threshold: float  # nan: uncalibrated

    def passed_by(self, value: float) -> bool:
        return value < self.threshold  # nan is below nothing


def _limit(values: Sequence[float], policy: Policy, excess: float = 0.0) -> _Limit:
    """How low one further window may lie; `excess` is variance that it has beyond that of the windows before."""
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    spread = float(np.std(values, ddof=1)) if count > 1 else math.nan
    if count < max(2, policy.min_reference_windows):
        return _Limit(mean, spread, math.nan)
    from scipy.special import stdtrit

    by_chance = float(stdtrit(count - 1, 1 - policy.alpha)) * math.sqrt(spread**2 * (1 + 1 / count) + excess)
    return _Limit(mean, spread, mean - max(by_chance, policy.min_skill_loss))


def _excess(reference: Backtest, labelled: int) -> float:
    """The variance that a window has beyond that of the backtest's windows because fewer of its rows are labelled.

    From their standard errors, not from its own, which would widen what counts as chance after one odd day.
    """
    variances = [each.standard_error**2 for each in reference.skills if each.finite]
    if not variances or not labelled:
        return 0.0
    return max(0.0, reference.rows / labelled - 1) * float(np.mean(variances))


def _estimate(metric: str, predictions: Floats, calibration: Sigmoid | None) -> tuple[float, float]:
    """The metric and the skill that calibrated predictions let expect."""
    if calibration is None or not len(predictions) or not np.isfinite(predictions).all():
        return math.nan, math.nan
    p = calibration.probabilities(predictions)
    value = expected_metric(metric, predictions, p)
    return value, float(_over_naive(metric, value, p.mean()))


def _problem(rows: Scored, known: Scored, policy: Policy) -> str:
    """Why a window cannot be judged; empty where it can."""
    if not len(rows.labels):
        return "no row was scored in it"
    if wrong := int((~np.isfinite(rows.predictions.reshape(len(rows.labels), -1)).all(axis=1)).sum()):
        return f"{wrong:,} of {len(rows.labels):,} predictions are not finite numbers"
    if len(known.labels) < policy.min_labelled_rows:
        return (
            f"{len(known.labels):,} of {len(rows.labels):,} rows are labelled, {policy.min_labelled_rows:,} are needed"
        )
    return known.target.constant_labels(known.labels.astype(known.target.dtype))


def _value(metric: str, known: Scored) -> float:
    return score(known.target.task, metric, known.labels.astype(known.target.dtype), known.predictions)


def _reasons(
    verdict: PerformanceVerdict, problem: str, windows: int, policy: Policy, *, estimable: bool
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


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
