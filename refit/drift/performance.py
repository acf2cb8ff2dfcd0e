"""Detects a loss of performance: compares the champion's skill in a window with the variation in its backtest.

The backtest, out-of-sample predictions stored with the model's version, shows how far its skill varies between windows
by chance. Windows of it that are low themselves do not count (`refit.drift.sequential.usual`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refit.drift.estimation import expected_metric
from refit.drift.measures import ScoredRows, measured, over_naive, skill, watched
from refit.drift.sequential import LossEvidence, Usual, evidence_of_loss, usual
from refit.learners.calibration import Sigmoid, fit_sigmoid
from refit.metrics.clusters import Estimate
from refit.plain_text import number
from refit.schemas.drift_decision import (
    CALIBRATION,
    DayWindow,
    DecisionPolicy,
    LastingLoss,
    PerformanceVerdict,
    WatchedMeasure,
)

__all__ = ["Backtest", "backtest", "finite_or_none", "judge_window", "lasting_loss", "whole_windows"]

Floats = NDArray[np.float64]
Length = Literal["day", "week", "month"]

SKILL = "skill"  # by the gate's metric
USELESS = {CALIBRATION: -0.5}  # minus the error of probabilities half of which are wrong all the way; any skill: 0


@dataclass(frozen=True)
class Backtest:
    """A model's skill on its own out-of-sample rows, window by window."""

    windows: tuple[DayWindow, ...]  # windows that could be judged, oldest first
    rows: float  # average number of labelled rows in a window
    skills: tuple[Estimate, ...]  # of each window
    estimated: tuple[float, ...]  # skill of each window, estimated without labels
    calibration: Sigmoid | None  # None if there are no rows to calibrate on
    others: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)  # further measures, of each window

    def usual(self, measure: str) -> Usual:
        """The usual level of a measure in the windows in which it is a finite number; more is better."""
        return usual(tuple(each.value for each in self.estimates(measure)))

    def estimates(self, measure: str) -> tuple[Estimate, ...]:
        """A measure in each window."""
        return self.skills if measure == SKILL else self.others.get(measure, ())

    @property
    def excluded(self) -> tuple[DayWindow, ...]:
        """The windows whose skill by the gate's metric is low itself, so that it does not count as usual."""
        defined = [window for window in self.windows if window not in self.undefined(SKILL)]
        return tuple(defined[index] for index in self.usual(SKILL).excluded)

    def undefined(self, measure: str) -> tuple[DayWindow, ...]:
        """The windows in which a measure is no finite number, such as mape where a label is 0."""
        estimates = zip(self.windows, self.estimates(measure), strict=True)
        return tuple(window for window, each in estimates if not math.isfinite(each.value))


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
        others={
            name: tuple(measured(name, part) for part in judged) for name in watched(scored.problem, policy.metric)[1:]
        },
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

    The window is breached if its skill, by the gate's metric or a proper score, lies below the backtest's mean by at
    least `min_skill_loss` and by more than one further window would by chance: Student's t for a new observation,
    t * sd * sqrt(1 + 1 / W) for W windows, one-sided at `alpha` for all measures together (Hahn and Meeker 1991,
    "Statistical Intervals"). The calibration error, in probability, is judged in the same way with the sign turned.
    With fewer than `min_reference_windows` windows it is uncalibrated, and never breached. Where the threshold lies at
    or beyond the value of a model that is of no use, the measure cannot be judged, unless it is breached even so.

    Args:
        observed: rows of production, including those without a label so far; rows outside the window are ignored.
    """
    rows = observed.within(window)
    labelled = rows.labelled()
    problem = _problem(rows, labelled, policy)
    own = Estimate(math.nan, math.nan, 0.0) if problem else skill(policy.metric, labelled)
    if not problem and not math.isfinite(own.value):
        problem = f"skill by {policy.metric} is no finite number for its labels"
    lower, upper = own.interval(policy.confidence)
    names = watched(observed.problem, policy.metric)
    excess = _excess(reference.skills, reference.rows, len(labelled.labels))
    limit = _limit(reference.usual(SKILL), policy, len(names), excess)
    unjudged = "" if problem else limit.not_judged(own.value)
    estimated, estimated_skill = _estimate(policy.metric, rows.predictions, reference.calibration)
    suspicious = _limit(usual(reference.estimated), policy).passed_by(estimated_skill)
    others = () if problem else tuple(_watched(name, reference, labelled, policy, len(names)) for name in names[1:])
    verdict = PerformanceVerdict(
        metric=policy.metric,
        rows=len(rows.labels),
        labelled=len(labelled.labels),
        value=None if problem else finite_or_none(_value(policy.metric, labelled)),
        skill=finite_or_none(own.value),
        lower=finite_or_none(lower),
        upper=finite_or_none(upper),
        expected=finite_or_none(limit.mean),
        spread=finite_or_none(limit.spread),
        threshold=None if unjudged else finite_or_none(limit.threshold),
        estimated=finite_or_none(estimated),
        suspected=bool(problem) and suspicious,
        breached=limit.passed_by(own.value) or any(each.breached for each in others),
        reasons=(),
        estimated_skill=finite_or_none(estimated_skill),
        others=others,
        unjudged=unjudged,
    )
    reasons = _reasons(verdict, problem, reference, policy, estimable=observed.problem.estimable)
    return verdict.model_copy(update={"reasons": tuple(reasons)})


def _watched(
    name: str, reference: Backtest, labelled: ScoredRows, policy: DecisionPolicy, measures: int
) -> WatchedMeasure:
    """Judge a window by a measure other than the gate's metric."""
    excess = _excess(reference.estimates(name), reference.rows, len(labelled.labels))
    limit = _limit(reference.usual(name), policy, measures, excess, useless=USELESS.get(name, 0.0))
    value = measured(name, labelled).value
    sign = -1.0 if name == CALIBRATION else 1.0
    if name == CALIBRATION:  # fewer rows are further from it by chance
        value *= math.sqrt(min(1.0, len(labelled.labels) / reference.rows)) if reference.rows else 1.0
    unjudged = limit.not_judged(value)
    return WatchedMeasure(
        name=name,
        value=finite_or_none(sign * value),
        expected=finite_or_none(sign * limit.mean),
        threshold=None if unjudged else finite_or_none(sign * limit.threshold),
        breached=limit.passed_by(value),
        unjudged=unjudged,
    )


def lasting_loss(
    reference: Backtest, verdicts: Sequence[PerformanceVerdict], policy: DecisionPolicy, windows: Sequence[DayWindow]
) -> LastingLoss | None:
    """The evidence of all judged windows together that skill has been lost for good; None if it cannot be measured.

    The evidence is the mean of that of each measure, and a measure whose loss is smaller than `min_skill_loss` adds
    nothing. Without a loss, it reaches its limit once in `false_alarm_days` on average, at most.

    Args:
        windows: of the verdicts, oldest first.
    """
    judged = [(window, each) for window, each in zip(windows, verdicts, strict=True) if each.skill is not None]
    if not judged or policy.false_alarm_days is None:
        return None
    if len(reference.usual(SKILL).values) < policy.min_reference_windows:
        return None
    names = (SKILL, *reference.others)
    found = {name: _evidence(name, reference, [each for _, each in judged]) for name in names}
    counted = {name: each.value if each.loss >= policy.min_skill_loss else 0.0 for name, each in found.items()}
    worst = max(counted, key=lambda name: (counted[name], found[name].value))
    return LastingLoss(
        evidence=sum(counted.values()) / len(names),
        limit=max(2.0, policy.false_alarm_days / judged[-1][0].days),
        measure=policy.metric if worst == SKILL else worst,
        since=judged[found[worst].since or 0][0].first,
        loss=found[worst].loss,
    )


def _evidence(name: str, reference: Backtest, verdicts: Sequence[PerformanceVerdict]) -> LossEvidence:
    """The evidence of one measure, from the windows in which it is known; `since` is an index of the verdicts."""
    values = [each.skill if name == SKILL else each.measured(name) for each in verdicts]
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    level, estimates = reference.usual(name), reference.estimates(name)
    if not math.isfinite(level.mean + level.spread):
        return LossEvidence(0.0)
    excess = np.array([_excess(estimates, reference.rows, verdicts[index].labelled) for index, _ in known])
    variances = 1 + excess / level.spread**2 if level.spread else None
    evidence = evidence_of_loss(level, [value for _, value in known], variances)
    return evidence if evidence.since is None else replace(evidence, since=known[evidence.since][0])


@dataclass(frozen=True)
class _Limit:
    mean: float
    spread: float
    threshold: float  # nan: uncalibrated
    useless: float  # the value of a model that is of no use
    by_params: bool = False  # the threshold is `min_skill_loss`, more than windows differ by chance

    def passed_by(self, value: float) -> bool:
        return value < self.threshold  # nan is below nothing

    def not_judged(self, value: float) -> str:
        """The reason why a value cannot be judged; empty if it can."""
        if math.isnan(self.threshold) or self.by_params or self.threshold > self.useless or self.passed_by(value):
            return ""
        worst = "a model no better than a naive guess" if self.useless == 0 else "probabilities off by .5"
        varies = f"{abs(self.mean):.3f} on average in the backtest, with {self.spread:.3f} between its windows"
        return f"{varies}, so that even {worst} would be usual"


def _limit(
    reference: Usual, policy: DecisionPolicy, measures: int = 1, excess: float = 0.0, useless: float = 0.0
) -> _Limit:
    """The lowest skill that one further window may have; `excess` is its variance beyond that of the windows."""
    mean, spread = reference.mean, reference.spread
    if len(reference.values) < max(2, policy.min_reference_windows):
        return _Limit(mean, spread, math.nan, useless)
    from scipy.special import stdtrit

    t = float(stdtrit(reference.freedom, 1 - policy.alpha / measures))
    by_chance = t * math.sqrt(spread**2 * (1 + 1 / reference.kept) + excess)
    lost = policy.min_skill_loss
    return _Limit(mean, spread, mean - max(by_chance, lost), useless, by_params=by_chance <= lost)


def _excess(estimates: Sequence[Estimate], usual_rows: float, labelled: int) -> float:
    """The variance of a window beyond that of the backtest's windows because fewer of its rows are labelled.

    It comes from their standard errors, not from its own, which would widen the limit after one unusual day.
    """
    variances = [each.standard_error**2 for each in estimates if each.finite]
    if not variances or not labelled:
        return 0.0
    return max(0.0, usual_rows / labelled - 1) * float(np.mean(variances))


def _estimate(metric: str, predictions: Floats, calibration: Sigmoid | None) -> tuple[float, float]:
    """The metric and the skill expected from calibrated predictions."""
    if calibration is None or not len(predictions) or not np.isfinite(predictions).all():
        return math.nan, math.nan
    p = calibration.probabilities(predictions)
    value = expected_metric(metric, predictions, p)
    return value, float(over_naive(metric, value, p.mean()))


def _problem(rows: ScoredRows, labelled: ScoredRows, policy: DecisionPolicy) -> str:
    """The reason why a window cannot be judged; empty if it can."""
    if not len(rows.labels):
        return "no row was scored in it"
    if rows.problem.naive_of_rows:
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
    verdict: PerformanceVerdict, problem: str, reference: Backtest, policy: DecisionPolicy, *, estimable: bool
) -> Iterator[str]:
    known = reference.usual(SKILL)
    if problem:
        yield f"not judged: {problem}"
    else:
        yield _measured(verdict, known.kept)
    if not verdict.calibrated:
        yield (
            f"uncalibrated: the backtest holds {len(known.values)} whole windows, "
            f"{policy.min_reference_windows} are needed to tell a loss from chance"
        )
    for name in (SKILL, *reference.others):
        if left_out := reference.undefined(name):
            measure = policy.metric if name == SKILL else name
            yield f"left out of the backtest, as {measure} is no finite number there: {', '.join(map(str, left_out))}"
    if verdict.waiting_share and verdict.labelled:
        yield f"{verdict.waiting_share:.0%} of {verdict.rows:,} rows still wait for their label"
    if verdict.estimated is not None:
        yield _estimated(verdict)
    elif verdict.waiting_share and not estimable:
        yield "what it would be without labels is estimated for binary tasks alone"


def _measured(verdict: PerformanceVerdict, windows: int) -> str:
    band = "" if verdict.lower is None else f" (between {verdict.lower:.3f} and {verdict.upper:.3f})"
    figure = number(verdict.value or 0.0, 3)
    text = f"skill {verdict.skill:.3f}{band} by {verdict.metric} {figure} of {verdict.labelled:,} labelled rows"
    further = [*(_in_addition(each) for each in verdict.others if each.breached), *_not_judged(verdict)]
    if verdict.threshold is None:
        return "; ".join([text, *further])
    side = "below" if verdict.skill is not None and verdict.skill < verdict.threshold else "not below"
    usually = f"the mean of the backtest's {windows} windows is {verdict.expected:.3f}"
    return "; ".join([f"{text}, {side} {verdict.threshold:.3f}; {usually}", *further])


def _not_judged(verdict: PerformanceVerdict) -> Iterator[str]:
    """The number of measures that cannot be judged, which, and why."""
    if unjudged := verdict.cannot_be_judged:
        named = "; ".join(f"{name} ({why})" for name, why in unjudged.items())
        yield f"{len(unjudged)} of {1 + len(verdict.others)} measures of performance cannot be judged: {named}"


def _in_addition(each: WatchedMeasure) -> str:
    """A breach by another measure than the gate's metric."""
    if each.name == CALIBRATION:
        return f"calibration error {each.value:.3f}, above {each.threshold:.3f}; {each.expected:.3f} is usual"
    return f"skill by {each.name} {each.value:.3f}, below {each.threshold:.3f}; {each.expected:.3f} is usual"


def _estimated(verdict: PerformanceVerdict) -> str:
    text = f"{verdict.metric} estimated without labels {verdict.estimated:.3f}"
    if verdict.estimate_error is not None:
        return f"{text}, {abs(verdict.estimate_error):.3f} too {'high' if verdict.estimate_error > 0 else 'low'}"
    return f"{text}, lower than the backtest lets expect" if verdict.suspected else text


def finite_or_none(value: float) -> float | None:
    """A number as decisions store it: None if it is not finite."""
    return float(value) if math.isfinite(value) else None
