"""`reports/drift/decisions/*.json`: what each `refit drift` decided about the champion, with all that it measured."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.schemas.artifact import Artifact, Part, UtcTime, omitted
from refit.schemas.measured import Measured

__all__ = [
    "CALIBRATION",
    "BacktestWindow",
    "CategoryDistribution",
    "Cause",
    "ColumnDrift",
    "Comparison",
    "DayWindow",
    "DecisionPolicy",
    "Distribution",
    "DriftDecision",
    "InputVerdict",
    "JudgedWindow",
    "LastingLoss",
    "NumberDistribution",
    "Pair",
    "PerformanceVerdict",
    "Separation",
    "Statistic",
    "Verdict",
    "WatchedCoverage",
    "WatchedMeasure",
]

CALIBRATION = "calibration"  # the name of a measure, next to those of metrics

Verdict = Literal["ok", "warn", "retrain"]
Cause = Literal["performance", "schedule", "input"]
Statistic = Literal["psi", "wasserstein", "jensen_shannon", "unseen", "missing"]
Pair = tuple[float, float]  # in the reference, and now


class DayWindow(Part):
    """Local days from `first` up to, not including, `end`.

    >>> str(DayWindow(first=date(2013, 12, 9), end=date(2013, 12, 16)))
    '2013-12-09 to 2013-12-15'
    """

    first: date
    end: date

    @property
    def days(self) -> int:
        """Its length."""
        return (self.end - self.first).days

    @property
    def span(self) -> DayWindow:
        """The window without what was measured in it."""
        return DayWindow(first=self.first, end=self.end)

    def __str__(self) -> str:
        last = self.end - timedelta(days=1)
        return str(last) if last == self.first else f"{self.first} to {last}"


class Comparison(NamedTuple):
    """The size of an effect, and the one from which on it counts as drift."""

    statistic: Statistic
    size: float
    limit: float


class ColumnDrift(Part):
    """A column's effects and the thresholds for a breach; `breached` if any effect reaches its threshold.

    `p` is the column's p-value, before false-discovery control; None without calibration.
    """

    column: str
    kind: Literal["number", "text", "category"]
    effects: Mapping[Statistic, float]
    thresholds: Mapping[Statistic, float | None]  # None if it cannot be judged
    p: float | None
    breached: bool
    unjudged: Mapping[Statistic, str] = omitted({})  # effect -> why it cannot be judged

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each effect that has a threshold."""
        limits = {name: self.thresholds.get(name) for name in self.effects}
        return tuple(Comparison(name, self.effects[name], limit) for name, limit in limits.items() if limit is not None)

    @property
    def largest(self) -> Comparison | None:
        """The largest effect, as a multiple of its threshold."""
        return max(self.comparisons, key=lambda each: each.size / (each.limit or 1), default=None)

    @property
    def severity(self) -> float:
        """The largest effect as a multiple of its threshold; at least 1 if breached."""
        return max((each.size / each.limit for each in self.comparisons if each.limit), default=0.0)


class InputVerdict(Part):
    """The drift of one window, worst column first; without calibration, thresholds are the policy's `min_effect`."""

    rows: int
    calibrated: bool
    reference_windows: int
    columns: tuple[ColumnDrift, ...]
    breached: bool
    reasons: tuple[str, ...]


class WatchedMeasure(Part):
    """What is measured in addition to the gate's metric: the skill by another one, or the calibration error."""

    name: str  # a metric, or `calibration`
    value: float | None
    expected: float | None  # mean of the backtest's windows that are not low themselves
    threshold: float | None  # beyond which the window is breached; None if uncalibrated, or if it cannot be judged
    breached: bool
    unjudged: str = omitted("")  # why it cannot be judged; empty if it can


class PerformanceVerdict(Part):
    """The performance in one window; None is what its rows cannot show."""

    metric: str
    rows: int
    labelled: int
    value: float | None  # the metric itself
    skill: float | None  # None if the window was not judged
    lower: float | None
    upper: float | None
    expected: float | None  # mean skill of the backtest's windows
    spread: float | None  # standard deviation between them
    threshold: float | None  # below which the window is breached; None if uncalibrated, or if it cannot be judged
    estimated: float | None  # the metric, estimated without labels
    suspected: bool  # not judged yet, but the estimated skill is as low as in a breached window
    breached: bool
    reasons: tuple[str, ...]
    estimated_skill: float | None = None  # skill of that estimate over a naive guess
    others: tuple[WatchedMeasure, ...] = omitted(())  # further measures; `breached` is by any of them
    unjudged: str = omitted("")  # why the skill by the gate's metric cannot be judged; empty if it can

    def measured(self, name: str) -> float | None:
        """The value of one of `others`, more being better: of calibration, minus the error."""
        value = next((each.value for each in self.others if each.name == name), None)
        return None if value is None else -value if name == CALIBRATION else value

    @property
    def judged(self) -> bool:
        """Whether its skill could be measured, and any measure can be judged."""
        return self.skill is not None and len(self.cannot_be_judged) < 1 + len(self.others)

    @property
    def calibrated(self) -> bool:
        """Whether the backtest is long enough to say how low a skill is unusual."""
        return self.threshold is not None or bool(self.unjudged)

    @property
    def cannot_be_judged(self) -> Mapping[str, str]:
        """The measures that cannot be judged, each with the reason."""
        own = {self.metric: self.unjudged} if self.unjudged else {}
        return own | {each.name: each.unjudged for each in self.others if each.unjudged}

    @property
    def usual(self) -> Pair | None:
        """The threshold and its mirror image above the mean; None if uncalibrated."""
        if self.threshold is None or self.expected is None:
            return None
        return self.threshold, 2 * self.expected - self.threshold

    @property
    def waiting_share(self) -> float:
        """Share of the rows without a label so far."""
        return 1 - self.labelled / self.rows if self.rows else 0.0

    @property
    def estimate_error(self) -> float | None:
        """The estimate minus the metric on the labels."""
        return None if self.estimated is None or self.value is None else self.estimated - self.value


class LastingLoss(Part):
    """The evidence of all judged windows together that skill has been lost for good (`refit.drift.sequential`)."""

    evidence: float
    limit: float  # without a loss the evidence reaches it once in that many windows on average, at most
    measure: str  # that shows most of it
    since: date  # first day of the window at which the loss most likely began
    loss: float  # since then, in skill; for `calibration`, in probability

    @property
    def shown(self) -> bool:
        """Whether the evidence suffices."""
        return self.evidence >= self.limit


class Separation(Part):
    """Out-of-fold ROC AUC of separating current rows from the reference; .5 is chance.

    `usual` holds the same for windows of the reference against the rest of it. `p` is the chance that one more such
    window is separated at least as well, if they are normal (a one-sided prediction bound by Student's t); None if that
    cannot be judged, for the reason `unjudged`, and with fewer than 8 windows. Then `p_exchangeable` is the chance that
    rows of the same source are separated as well, if all of them are independent; only for arrays.
    """

    auc: float
    usual: tuple[float, ...]
    p: float | None
    p_exchangeable: float | None = omitted(None)
    unjudged: str = omitted("")


class WatchedCoverage(Part):
    """How many labels the champion's prediction intervals held in the newest windows."""

    first: date
    end: date
    level: float
    labelled: int
    coverage: Measured
    warning: str  # empty if they hold about as many as they state


class JudgedWindow(DayWindow):
    """One window of production, and what was measured in it."""

    inputs: InputVerdict
    performance: PerformanceVerdict


class BacktestWindow(DayWindow):
    """The usual skill: that of the model on its own out-of-sample rows in one window."""

    skill: float | None
    lower: float | None
    upper: float | None
    estimated_skill: float | None
    excluded: bool = omitted(False)  # low itself, by the gate's metric, so that it does not count as usual


class _Distribution(Part):
    """Shares of the rows that have a value, in the reference (`then`) and now; `missing` is of all rows."""

    column: str
    rows: tuple[int, int]
    then: tuple[float, ...]
    now: tuple[float, ...]
    missing: Pair


class NumberDistribution(_Distribution):
    """Shares per bar between `edges` (one more than bars, in the column's unit); `beyond` lies outside of them."""

    kind: Literal["number", "text"]
    edges: tuple[float, ...]
    beyond: Pair


class CategoryDistribution(_Distribution):
    """Shares per frequent name, of the reference's `other` names, and of names `unseen` in the reference."""

    kind: Literal["category"]
    names: tuple[str, ...]
    other: Pair
    unseen: Pair


Distribution = Annotated[NumberDistribution | CategoryDistribution, Field(discriminator="kind")]


class DecisionPolicy(DriftParams):
    """The params of a decision, with the gate's metric and confidence."""

    metric: str
    confidence: float  # of the interval that is shown

    @classmethod
    def of(cls, drift: DriftParams, evaluate: EvaluateParams) -> DecisionPolicy:
        """The policy that these params state."""
        return cls(**dict(drift), metric=evaluate.gate.metric, confidence=evaluate.confidence)


class DriftDecision(Artifact):
    """The verdict on a champion at `as_of`, its reasons, and the measurements behind them, oldest window first.

    `causes` ask for a retraining, `blocked` says why it is held back, `columns` are those that drifted in the newest
    window.
    """

    REMEDY: ClassVar[str] = "move it away and run again"

    model: str
    version: str
    as_of: UtcTime
    verdict: Verdict
    reasons: tuple[str, ...]
    causes: tuple[Cause, ...]
    blocked: tuple[str, ...]
    window: DayWindow | None  # the newest one; None if none is over yet
    columns: tuple[str, ...]
    multivariate: Separation | None
    trained_as_of: UtcTime  # of the newest training, whether or not its model was promoted
    new_labelled: int  # rows labelled since then
    windows: tuple[JudgedWindow, ...]
    seen_until: date  # the first local day whose data the champion has not seen
    policy: DecisionPolicy
    backtest: tuple[BacktestWindow, ...]
    distributions: tuple[Distribution, ...]  # of the columns that drifted most in the newest window
    report: str  # path of the page
    lasting: LastingLoss | None = omitted(None)  # None if it cannot be measured
    since: date | None = omitted(None)  # the day on which the loss that asks for a retraining began
    coverage: WatchedCoverage | None = omitted(None)  # None without intervals, or without labels
    made_at: UtcTime | None = omitted(None)  # when it was made last; None if an older Refit made it

    @property
    def newest_columns(self) -> tuple[ColumnDrift, ...]:
        """The columns of the newest window, worst first."""
        return self.windows[-1].inputs.columns if self.windows else ()

    @property
    def newest_judged(self) -> PerformanceVerdict | None:
        """The performance of the newest window whose skill could be measured; None if it cannot be judged."""
        measured = [window.performance for window in self.windows if window.performance.skill is not None]
        return measured[-1] if measured and measured[-1].judged else None

    @property
    def skill_measured(self) -> bool:
        """Whether the skill of any window could be measured, be it judged or not."""
        return any(window.performance.skill is not None for window in self.windows)

    @property
    def anything_judged(self) -> bool:
        """Whether any window had columns to compare, or enough labels to judge skill."""
        return any(
            window.performance.judged or any(column.comparisons for column in window.inputs.columns)
            for window in self.windows
        )
