"""The gate: decides from evidence alone whether a candidate is promoted, and gives the reasons.

Nothing here opens a file, reads a clock or uses MLflow. A model is promoted only if every check passes, and a number
that is missing or not finite is a failed check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from refit.config.evaluate import GateParams
from refit.metrics.clusters import Estimate
from refit.problems import metric_named, metric_words
from refit.schemas.gate_decision import GainComparison, GateCheck, GateVerdict

__all__ = ["Evidence", "GateOpponent", "Slice", "decide"]

MONTE_CARLO_SHARE = 0.25  # of a margin, or of the distance from it: the largest error by random points
SHOWN_NAMES = 5  # of the parts that are too small to be judged


@dataclass(frozen=True)
class GateOpponent:
    """A registered model and the candidate's gain over it on the same rows, positive if the candidate is better."""

    version: str
    digest: str
    seen_until: datetime | None
    gain: Estimate
    split: str | None = None  # the rule that separated its test rows; None if they are separated by time
    problem: str = ""  # the reason if it could not be scored on these rows


@dataclass(frozen=True)
class Slice:
    """A part of the test rows named in `evaluate.gate.slices`, with the gain over the champion on it, or a problem."""

    key: str  # of the policy: the part's own name, or its column
    name: str  # column=value
    gain: Estimate
    problem: str = ""  # the reason if it cannot be judged

    @property
    def demanded(self) -> bool:
        """Whether the policy names this part itself, so that it has to be judged."""
        return self.key == self.name


@dataclass(frozen=True)
class Evidence:
    """All inputs of the gate: counts, the candidate's metrics, and its gains over other models on the same rows."""

    candidate: str  # canonical digest
    seen_until: datetime | None  # no data at or after this time was used to make the candidate
    test_start: datetime
    rows: int  # that the metric judges
    labels: GateCheck  # whether the labels of the test rows vary, so that models can be compared on them
    clusters: float  # effective number of clusters
    metrics: Mapping[str, float]
    over_baseline: Estimate | None
    champion: GateOpponent | None = None
    anchor: GateOpponent | None = None
    looks: int = 0  # how often other candidates were judged on this test window
    slices: tuple[Slice, ...] = ()  # against the champion
    stand_in: Literal["champion", "candidate"] | None = (
        None  # the one made from generated rows, if the other is from real
    )
    error_reduction: Estimate | None = None  # reduction of the champion's errors, as a share of them
    split: str | None = None  # the rule that drew the test rows at random; None if they are later than the others
    remarks: tuple[str, ...] = ()  # notes about these rows for readers of the decision
    unlabelled: int = 0  # further rows of the test window, without a label by which the metric judges


def decide(evidence: Evidence, policy: GateParams) -> GateVerdict:
    """Promote if every check passes; otherwise refuse, with the sentence of each check that failed.

    >>> from datetime import datetime
    >>> both = GateCheck(name="classes", passed=True, sentence="5,400 positive, 21,600 negative rows; both are needed")
    >>> first = Evidence("c0ffee", datetime(2013, 12, 1), datetime(2013, 12, 1), 27000, both, 31.0,
    ...                  {"roc_auc": 0.724}, over_baseline=Estimate(0.224, 0.01, 31.0))
    >>> decide(first, GateParams()).promote
    True
    >>> decide(first, GateParams(min_rows=50_000)).reasons
    ('27,000 test rows, the gate needs 50,000',)
    """
    compared = tuple(_comparisons(evidence, policy))
    slices = tuple(_slices(evidence, policy))
    checks = (
        *_conditions(evidence, policy),
        *_limits(evidence, policy),
        *_verdicts(evidence, policy, compared),
        *_slice_verdicts(evidence, policy, slices),
    )
    failed = tuple(check.sentence for check in checks if not check.passed)
    shown = tuple(check.sentence for check in checks if check.name.startswith(("gain", "floor", "ceiling")))
    return GateVerdict(
        promote=not failed,
        mode=policy.mode,
        metric=policy.metric,
        confidence=1 - policy.alpha,
        reasons=failed or (*shown, *_closest(slices)),
        notes=tuple(_notes(evidence, policy)),
        checks=checks,
        compared=compared,
        slices=slices,
        difference=next((each for role in ("champion", "baseline") for each in compared if each.against == role), None),
    )


def _check(name: str, passed: bool, sentence: str) -> GateCheck:
    return GateCheck(name=name, passed=bool(passed), sentence=sentence)


def _conditions(evidence: Evidence, policy: GateParams) -> Iterator[GateCheck]:
    """Check the conditions for comparing models at all."""
    judged = f" with a label ({evidence.unlabelled:,} have none)" if evidence.unlabelled else ""
    yield _check(
        "rows",
        evidence.rows >= policy.min_rows,
        f"{evidence.rows:,} test rows{judged}, the gate needs {policy.min_rows:,}",
    )
    yield evidence.labels
    if evidence.stand_in == "candidate":
        sentence = "the candidate was made from a GENERATED stand-in, the champion from real data: it stays"
        yield _check("real", False, sentence)
    yield _clusters(evidence, policy)
    yield _unseen("the candidate", evidence.seen_until, evidence.split, evidence)
    if evidence.champion:
        yield _unseen_by(evidence.champion, "champion", evidence)
        yield _check(
            "different",
            evidence.champion.digest != evidence.candidate,
            f"the candidate {'differs from' if evidence.champion.digest != evidence.candidate else 'is identical to'} "
            f"{_named('champion', evidence.champion)}",
        )
    if evidence.anchor and policy.mode == "non_inferiority":
        yield _unseen_by(evidence.anchor, "anchor", evidence)
    value = evidence.metrics.get(policy.metric, math.nan)
    yield _check(
        "finite",
        _finite(value),
        f"the candidate's {metric_named(policy.metric).words} on the test window is {_number(value)}",
    )


def _clusters(evidence: Evidence, policy: GateParams) -> GateCheck:
    kind = "rows taken as independent" if policy.cluster == "row" else f"clusters by {policy.cluster} (counted by size)"
    enough = evidence.clusters >= policy.min_clusters
    advice = "" if enough else "; a longer test window has more (featurize.windows.test, or featurize.split.test)"
    if not enough and evidence.split and policy.cluster == "day" and evidence.clusters <= 1:
        advice = (
            "; all rows are of one day: set evaluate.gate.cluster: row if each counts for itself, or a column whose "
            "equal values belong together"
        )
    return _check("clusters", enough, f"{evidence.clusters:,.1f} {kind}, the gate needs {policy.min_clusters}{advice}")


def _unseen_by(opponent: GateOpponent, role: str, evidence: Evidence) -> GateCheck:
    return _unseen(_named(role, opponent), opponent.seen_until, opponent.split, evidence)


def _unseen(who: str, seen_until: datetime | None, split: str | None, evidence: Evidence) -> GateCheck:
    """Check that a model has not seen the test rows: it is older than they are, or the same rule excluded them."""
    test_start = evidence.test_start
    if evidence.split:
        if split == evidence.split:
            return _check("unseen", True, f"{who} has not seen the test rows (kept apart by one rule: {split})")
        rule = f"split by {split}" if split else "not split so"
        return _check("unseen", False, f"{who} may have seen test rows: it was {rule}, the test is {evidence.split}")
    if seen_until is None:
        return _check(
            "unseen", False, f"it is not recorded until when {who} has seen data, so the test may be no test of it"
        )
    passed = seen_until <= test_start
    verb = "has not seen" if passed else "has already seen"
    when = f"data up to {seen_until:%Y-%m-%d %H:%M}, test from {test_start:%Y-%m-%d %H:%M}"
    return _check("unseen", passed, f"{who} {verb} the test window ({when})")


def _limits(evidence: Evidence, policy: GateParams) -> Iterator[GateCheck]:
    """Check floors and ceilings: absolute limits for the candidate's own metrics."""
    for kind, limits in (("floor", policy.floors), ("ceiling", policy.ceilings)):
        for metric, limit in sorted(limits.items()):
            if metric == "error_reduction" and not evidence.champion:
                continue  # a first candidate has no champion's errors to reduce; a note says so
            value = _measured(evidence, metric)
            passed = _finite(value) and (value >= limit if kind == "floor" else value <= limit)
            bound = "at least" if kind == "floor" else "at most"
            sentence = f"{metric_words(metric)} {_number(value)}, {bound} {_number(limit)} is demanded"
            yield _check(f"{kind}: {metric}", passed, sentence)


def _measured(evidence: Evidence, metric: str) -> float:
    if metric == "error_reduction":
        return evidence.error_reduction.value if evidence.error_reduction else math.nan
    return evidence.metrics.get(metric, math.nan)


def _comparisons(evidence: Evidence, policy: GateParams) -> Iterator[GainComparison]:
    if evidence.champion:
        needed = policy.min_gain if policy.mode == "superiority" else -policy.max_loss
        yield _compare("champion", evidence.champion.version, evidence.champion.gain, needed, policy)
    if evidence.anchor and policy.mode == "non_inferiority":
        yield _compare("anchor", evidence.anchor.version, evidence.anchor.gain, -policy.max_loss, policy)
    unmeasured = Estimate(math.nan, math.nan, 0.0)
    yield _compare("baseline", None, evidence.over_baseline or unmeasured, policy.min_gain_over_baseline, policy)


def _compare(against: str, version: str | None, gain: Estimate, needed: float, policy: GateParams) -> GainComparison:
    lower, upper = gain.lower(policy.alpha), gain.upper(policy.alpha)
    is_finite = _finite(lower) and _finite(upper)
    return GainComparison(
        against=against,
        version=version,
        estimate=gain.value if is_finite else None,
        lower=lower if is_finite else None,
        upper=upper if is_finite else None,
        must_exceed=needed,
        passed=is_finite and bool(lower > needed),
        monte_carlo_error=gain.monte_carlo_error if is_finite and gain.monte_carlo_error else None,
    )


def _verdicts(evidence: Evidence, policy: GateParams, compared: tuple[GainComparison, ...]) -> Iterator[GateCheck]:
    for each in compared:
        who = f"the {each.against}" + (f" (version {each.version})" if each.version else "")
        yield _verdict(f"gain over {each.against}", each, who, _why(each, evidence), policy)
        yield from _by_points(each, who)


def _by_points(each: GainComparison, against: str) -> Iterator[GateCheck]:
    """Check that random points which estimate a metric decide nothing, where it has such points."""
    if each.monte_carlo_error is None or each.estimate is None:
        return
    most = MONTE_CARLO_SHARE * max(abs(each.must_exceed), abs(each.estimate - each.must_exceed))
    sentence = (
        f"the difference from {against} is known to ± {each.monte_carlo_error:.2g} by the random points that estimate "
        f"it (one standard error), at most {most:.2g} is allowed: {MONTE_CARLO_SHARE:g} of the margin, or of the "
        "distance from it; fewer columns or a wider margin help"
    )
    yield _check(f"points: {each.against}", each.monte_carlo_error <= most, sentence)


def _verdict(name: str, each: GainComparison, against: str, problem: str, policy: GateParams) -> GateCheck:
    word = metric_named(policy.metric).words
    if each.estimate is None or each.lower is None:
        return _check(name, False, f"the difference in {word} against {against} could not be measured{problem}")
    return _check(
        name,
        each.passed,
        f"{each.estimate:+z.4f} {word} against {against}, at least {each.lower:+z.4f} with {1 - policy.alpha:.0%} "
        f"confidence; more than {each.must_exceed:+z.4f} {'was' if each.passed else 'is'} needed",
    )


def _slices(evidence: Evidence, policy: GateParams) -> Iterator[GainComparison]:
    """Compare on each part that is large enough, at the gate's full `alpha`.

    All parts have to pass, so promoting a model that loses too much on one of them takes an error on that part: this is
    an intersection-union test (Berger 1982, Technometrics 24(4)), which does not become more lenient with more parts.
    """
    if evidence.champion:
        for part in evidence.slices:
            if part.key in policy.slices and not part.problem:
                yield _compare(part.name, evidence.champion.version, part.gain, -policy.slices[part.key], policy)


def _slice_verdicts(evidence: Evidence, policy: GateParams, slices: tuple[GainComparison, ...]) -> Iterator[GateCheck]:
    if not evidence.champion:
        return
    for each in slices:
        against = f"{_named('champion', evidence.champion)} where {each.against}"
        yield _verdict(f"slice {each.against}", each, against, "", policy)
    judged = {part.key for part in evidence.slices if not part.problem}
    problems = {part.key: part.problem for part in evidence.slices if part.demanded}
    for key in sorted(set(policy.slices) - judged):
        why = evidence.champion.problem or problems.get(key, "no part of it is large enough to be judged")
        yield _check(f"slice {key}", False, f"the loss where {key} could not be measured: {why}")


def _closest(slices: tuple[GainComparison, ...]) -> Iterator[str]:
    """One sentence for all slices that passed, to keep a promotion with many slices readable."""
    measured = [(each.lower - each.must_exceed, each) for each in slices if each.lower is not None]
    if measured:
        _, each = min(measured, key=lambda pair: pair[0])
        opening = f"all {len(measured)} slices keep their margins; the closest is" if len(measured) > 1 else "the slice"
        yield f"{opening} {each.against}: at least {each.lower:+z.4f}, more than {each.must_exceed:+z.4f} was needed"


def _why(each: GainComparison, evidence: Evidence) -> str:
    opponent = {"champion": evidence.champion, "anchor": evidence.anchor}.get(each.against)
    if opponent and opponent.problem:
        return f": {opponent.problem}"
    gain = opponent.gain if opponent else evidence.over_baseline
    unknown = gain is not None and _finite(gain.value) and math.isnan(gain.monte_carlo_error)
    return ": too few random points lie where rows do to estimate it; leave out columns" if unknown else ""


def _notes(evidence: Evidence, policy: GateParams) -> Iterator[str]:
    yield from evidence.remarks
    if not evidence.champion:
        opening = "there is no champion yet"
        if evidence.stand_in == "champion":
            opening = "the champion was made from a GENERATED stand-in and counts as none"
        yield f"{opening}: the candidate had to beat the naive baseline"
        unasked = [*(["slices"] if policy.slices else []), *({"error_reduction"} & set(policy.floors))]
        if unasked:
            yield f"not asked, as they compare with a champion: {' and '.join(unasked)}"
    for key in policy.slices:
        if small := [part.name for part in evidence.slices if part.key == key and part.problem and not part.demanded]:
            others = f" and {len(small) - SHOWN_NAMES} more" if len(small) > SHOWN_NAMES else ""
            yield f"too small to be judged by evaluate.gate.slices: {', '.join(small[:SHOWN_NAMES])}{others}"
    if policy.cluster == "row":
        yield "rows are taken as independent (evaluate.gate.cluster: row); if they are not, the bounds are too narrow"
    if evidence.looks:
        times = "once" if evidence.looks == 1 else f"{evidence.looks} times"
        yield (
            f"this test window has judged other candidates {times} before: the chance of a wrong promotion among all "
            f"of them is up to {min(1.0, (evidence.looks + 1) * policy.alpha):.0%}"
        )


def _named(role: str, opponent: GateOpponent) -> str:
    return f"the {role} (version {opponent.version})"


def _finite(value: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: float) -> str:
    if not _finite(value):
        return "not a number"
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"  # costs can be very small
