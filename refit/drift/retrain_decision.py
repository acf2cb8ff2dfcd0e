"""Decides whether to retrain the champion, from drift evidence alone, and gives the reasons.

Nothing here opens a file or reads a clock. A retraining needs a cause that the project lists in `retrain_on`, shown by
calibrated evidence over several windows; everything else is at most a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from refit.config import DriftParams
from refit.drift.multivariate import LEAST_AUC, WARNING_P
from refit.evaluation.interval_coverage import percent, reached_percent
from refit.schemas.drift_decision import (
    CALIBRATION,
    Cause,
    DayWindow,
    InputVerdict,
    LastingLoss,
    PerformanceVerdict,
    Separation,
    Verdict,
    WatchedCoverage,
)

__all__ = ["DriftEvidence", "EmptyWindow", "RetrainDecision", "decide"]

_ORDER: tuple[Verdict, ...] = ("retrain", "warn", "ok")  # reasons that decide come first
_BUDGET_DAYS = 30
_SHOWN = 5  # columns named in one sentence


@dataclass(frozen=True)
class EmptyWindow:
    """A window of a retraining at the decision's moment that holds no row with a label."""

    name: str
    end: date  # the first day after it
    newest: date | None  # of the newest row with a label; None if there is none


@dataclass(frozen=True)
class DriftEvidence:
    """All inputs of the decision on one model.

    `inputs` and `performance` hold a verdict for each of `windows`, from the oldest to the newest, or none at all.
    """

    as_of: datetime
    trained_as_of: datetime  # `as_of` of the newest registered version
    new_labelled: int  # rows labelled since then
    empty: EmptyWindow | None = None  # the first such window; None if a retraining now finds rows in all of them
    windows: tuple[DayWindow, ...] = ()
    inputs: tuple[InputVerdict, ...] = ()
    performance: tuple[PerformanceVerdict, ...] = ()
    lasting: LastingLoss | None = None  # what all judged windows together show; None if not measured
    changed: date | None = None  # when the newest loss that an earlier decision answered began
    learned_from: date | None = None  # the first day of the rows that the champion learned from
    multivariate: Separation | None = None  # of the newest window from the reference; None if not measured
    coverage: WatchedCoverage | None = None  # of the newest windows; None without prediction intervals
    retrained: tuple[datetime, ...] = ()  # `as_of` of earlier decisions to retrain
    watched: bool = True  # False if no window was evaluated, because the policy needs none
    zone: tzinfo = UTC  # of the days

    @property
    def dated_inputs(self) -> list[tuple[DayWindow, InputVerdict]]:
        """The windows, each with its verdict on inputs."""
        return list(zip(self.windows, self.inputs, strict=True)) if self.inputs else []

    @property
    def dated_performance(self) -> list[tuple[DayWindow, PerformanceVerdict]]:
        """The windows, each with its verdict on performance."""
        return list(zip(self.windows, self.performance, strict=True)) if self.performance else []


@dataclass(frozen=True)
class RetrainDecision:
    """The verdict: `causes` are what asks for a retraining, `blocked` the reasons why it is held back."""

    verdict: Verdict
    reasons: tuple[str, ...]
    causes: tuple[Cause, ...] = ()
    blocked: tuple[str, ...] = ()
    since: date | None = None  # when the loss began that asks for a retraining


@dataclass(frozen=True)
class _Finding:
    """One observation, and the verdict that it alone would lead to."""

    asks: Verdict
    sentence: str
    cause: Cause | None = None  # set if this asks for a retraining
    since: date | None = None  # when the loss began


def decide(evidence: DriftEvidence, policy: DriftParams) -> RetrainDecision:
    """Retrain for a listed cause that nothing blocks; warn about other anomalies; otherwise ok, with what was checked.

    >>> from datetime import UTC
    >>> monday = datetime(2013, 12, 2, tzinfo=UTC)
    >>> due = DriftEvidence(as_of=monday, trained_as_of=monday - timedelta(days=31), new_labelled=27_000)
    >>> decide(due, DriftParams()).reasons[0]
    'schedule: the newest version was trained 31.0 days ago, a new one is due every 30'
    >>> decide(due, DriftParams(min_new_labelled_rows=50_000)).verdict
    'warn'
    """
    findings = sorted(_findings(evidence, policy), key=lambda finding: _ORDER.index(finding.asks))
    causes = tuple(dict.fromkeys(finding.cause for finding in findings if finding.cause))
    blocked = tuple(_blocks(evidence, policy)) if causes else ()
    reasons = (*(f"held back: {sentence}" for sentence in blocked), *(finding.sentence for finding in findings))
    if causes and not blocked:
        began = max((finding.since for finding in findings if finding.since), default=None)  # a new change is followed
        return RetrainDecision("retrain", reasons, causes, since=began)
    warned = causes or any(finding.asks == "warn" for finding in findings)
    return RetrainDecision("warn" if warned else "ok", reasons, causes, blocked)


def _findings(evidence: DriftEvidence, policy: DriftParams) -> Iterator[_Finding]:
    measured = [(window, each) for window, each in evidence.dated_performance if each.skill is not None]
    filled = [(window, each) for window, each in evidence.dated_inputs if each.columns][-policy.windows :]
    if measured:
        yield _performance(measured[-policy.windows :], policy)
    if evidence.lasting and evidence.lasting.shown:
        yield _lasting(evidence.lasting, policy)
    if evidence.changed and evidence.learned_from:
        yield from _follow_up(evidence, evidence.changed, evidence.learned_from, policy)
    if evidence.performance:
        yield from _unlabelled(*evidence.dated_performance[-1])
    if filled:
        yield _inputs(filled, policy)
    if evidence.multivariate:
        yield _multivariate(evidence.multivariate)
    if evidence.coverage:
        yield _coverage(evidence.coverage)
    yield from _silence(evidence)
    yield from _schedule(evidence, policy)
    if evidence.watched and not measured and not filled:
        yield _Finding("ok", "nothing to judge yet: no window holds rows that the model has scored")


def _performance(measured: Sequence[tuple[DayWindow, PerformanceVerdict]], policy: DriftParams) -> _Finding:
    """Check whether the newest window and enough of those before it are breached; one that cannot be judged is not."""
    (window, newest), breached = measured[-1], sum(each.breached for _, each in measured)
    shown = f"{_dates(window)}: {'; '.join(newest.reasons[: 1 if newest.calibrated else 2])}"
    if not breached:
        return _Finding("ok", f"performance: {shown}")
    judged = sum(each.judged for _, each in measured)
    counted = f"performance: {_of(breached, judged)} breached, {policy.breached} ask for a retraining"
    if not newest.breached:
        return _Finding("ok", f"{counted} if the newest is among them, and it is not; {shown}")
    if breached < policy.breached:
        return _Finding("ok", f"{counted}; {shown}")
    if "performance" in policy.retrain_on:
        since = next(each.first for each, verdict in measured if verdict.breached)
        return _Finding("retrain", f"{counted}; {shown}", "performance", since)
    return _Finding("warn", f"{counted} only if retrain_on lists performance; {shown}")


def _lasting(lasting: LastingLoss, policy: DriftParams) -> _Finding:
    """Ask for a retraining where all windows together show a loss, whether or not single ones are breached."""
    measure = "the calibration error" if lasting.measure == CALIBRATION else f"skill by {lasting.measure}"
    shown = (
        f"performance: {measure} is worse by {lasting.loss:.3f} since {lasting.since}: the evidence is "
        f"{min(lasting.evidence, 1e6):,.0f} times that of no loss, {lasting.limit:.0f} ask for a retraining"
    )
    if "performance" in policy.retrain_on:
        return _Finding("retrain", shown, "performance", lasting.since)
    return _Finding("warn", f"{shown} only if retrain_on lists performance")


def _follow_up(evidence: DriftEvidence, changed: date, learned_from: date, policy: DriftParams) -> Iterator[_Finding]:
    """Ask for another retraining each time the days since a change have doubled, while the champion knows older rows.

    A model trained soon after a change has seen little of what holds since then, or nothing if those days are its test
    window, and its own skill is no measure of what is possible. The gate may have refused the newest model.
    """
    moments = (evidence.trained_as_of, evidence.as_of)
    trained, now = (moment.astimezone(evidence.zone).date() - changed for moment in moments)
    if (
        learned_from < changed
        and timedelta(0) <= trained < now
        and now >= 2 * trained
        and "performance" in policy.retrain_on
    ):
        yield _Finding(
            "retrain",
            f"performance: the newest model was trained {trained.days} days after the loss of {changed} began, and the "
            f"champion learned from rows of before it; {now.days} days have passed since then",
            "performance",
            changed,
        )


def _unlabelled(window: DayWindow, newest: PerformanceVerdict) -> Iterator[_Finding]:
    """Report the estimate for a window without labels yet; it warns at most."""
    if newest.skill is not None:
        return
    shown = f"performance: {_dates(window)}: {'; '.join(newest.reasons)}"
    yield _Finding("warn" if newest.suspected else "ok", shown)


def _inputs(filled: Sequence[tuple[DayWindow, InputVerdict]], policy: DriftParams) -> _Finding:
    """Check whether a column is breached in the newest window and in enough of the windows before it."""
    (window, newest), verdicts = filled[-1], [verdict for _, verdict in filled]
    times = {
        drifted: sum(any(each.column == drifted and each.breached for each in verdict.columns) for verdict in verdicts)
        for drifted in (each.column for each in newest.columns if each.breached)
    }
    lasting = {column: count for column, count in times.items() if count >= policy.breached}
    shown = f"input: {_dates(window)}: {newest.reasons[0]}"
    if not times:
        return _Finding("ok", shown)
    enough = f"in {policy.breached} or more of the newest {len(filled)} windows"
    if not lasting:
        return _Finding("ok", f"{shown}; none of them {enough}")
    shown = f"{shown}; {enough}: {_columns(lasting)}"
    if not all(verdict.calibrated for verdict in verdicts):
        return _Finding("warn", f"{shown}; uncalibrated, so it may be chance")
    if "input" not in policy.retrain_on:
        return _Finding("warn", f"{shown}; retrain_on does not list input")
    return _Finding("retrain", shown, "input")


def _multivariate(separation: Separation) -> _Finding:
    """Report the classifier's skill; it finds any difference, so it warns at most, and only above the usual skill."""
    auc = f"ROC AUC {separation.auc:.3f}"
    shown = f"input: a classifier tells the newest window's rows from the reference's with {auc}"
    if separation.unjudged:
        return _Finding("ok", f"input: the classifier over all columns cannot be judged: {separation.unjudged}")
    if separation.p is None:
        few = f"uncalibrated: {len(separation.usual)} windows of the reference are too few"
        if (p := separation.p_exchangeable) is None:
            return _Finding("ok", f"{shown}; {few}")
        far = p < WARNING_P and separation.auc >= LEAST_AUC
        return _Finding("warn" if far else "ok", f"{shown} (p {p:.3f} if rows are independent); {few}")
    mean = sum(separation.usual) / len(separation.usual)
    usual = f"{mean:.3f} is usual between windows of the reference (p {separation.p:.3f})"
    return _Finding("warn" if separation.p < WARNING_P else "ok", f"{shown}, {usual}")


def _coverage(coverage: WatchedCoverage) -> _Finding:
    """Warn about prediction intervals that miss their level; another training need not mend them."""
    held = reached_percent(coverage.coverage.value)
    days = DayWindow(first=coverage.first, end=coverage.end)
    shown = f"intervals: {days}: {percent(coverage.level)} intervals held {held} of {coverage.labelled:,} labels"
    return _Finding("warn", f"{shown}; {coverage.warning}") if coverage.warning else _Finding("ok", shown)


def _silence(evidence: DriftEvidence) -> Iterator[_Finding]:
    """Warn about a newest window without rows: nothing happened, or the source stopped delivering."""
    if evidence.inputs and not evidence.inputs[-1].rows:
        yield _Finding("warn", f"input: {_dates(evidence.windows[-1])}: no row came; does the source still deliver?")


def _schedule(evidence: DriftEvidence, policy: DriftParams) -> Iterator[_Finding]:
    every, age = policy.retrain_every_days, _days(evidence.as_of - evidence.trained_as_of)
    if "schedule" in policy.retrain_on and every is not None and (age >= every or not evidence.watched):
        due = f"the newest version was trained {age:.1f} days ago, a new one is due every {every:g}"
        yield (
            _Finding("retrain", f"schedule: {due}", "schedule") if age >= every else _Finding("ok", f"schedule: {due}")
        )
    elif not evidence.watched:
        yield _Finding("ok", "schedule: drift.retrain_every_days is null, so none is ever due")


def _blocks(evidence: DriftEvidence, policy: DriftParams) -> Iterator[str]:
    """The reasons that hold back any retraining; decisions after `as_of` do not count."""
    if empty := evidence.empty:
        newest = f"; the newest row with a label is of {empty.newest}" if empty.newest else ""
        yield (
            f"no row with a label lies in the {empty.name} window of a retraining now, which ends "
            f"{empty.end - timedelta(days=1)}{newest}"
        )
    ages = [_days(evidence.as_of - moment) for moment in evidence.retrained if moment <= evidence.as_of]
    if ages and min(ages) < policy.cooldown_days:
        yield f"the last retraining was decided {min(ages):.1f} days ago, {policy.cooldown_days:g} lie between two"
    recent = sum(age < _BUDGET_DAYS for age in ages)
    if recent >= policy.monthly_budget:
        yield f"{recent} retrainings were decided within {_BUDGET_DAYS} days, the budget is {policy.monthly_budget}"
    if evidence.new_labelled < policy.min_new_labelled_rows:
        yield (
            f"{evidence.new_labelled:,} rows were labelled since the newest training, "
            f"{policy.min_new_labelled_rows:,} are needed"
        )


def _columns(times: Mapping[str, int]) -> str:
    """`dep_hour (3), carrier (2) and 4 others`, ordered by how often they drifted."""
    named = [f"{column} ({count})" for column, count in sorted(times.items(), key=lambda each: -each[1])]
    more = f" and {len(named) - _SHOWN} others" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + more


def _of(count: int, windows: int) -> str:
    return f"{count} of the newest {windows} judged windows {'is' if count == 1 else 'are'}"


def _dates(window: DayWindow) -> str:
    return f"{window.first} to {window.end - timedelta(days=1)}"


def _days(time: timedelta) -> float:
    return time / timedelta(days=1)
