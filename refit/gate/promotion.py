"""The gate: decides from evidence alone whether a candidate is promoted, and gives the reasons.

Nothing here opens a file, reads a clock or uses MLflow. A model is promoted only if every check passes, and a number
that is missing or not finite is a failed check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

from refit.config.evaluate import GateParams
from refit.gate.evidence import Evidence, GateOpponent
from refit.metrics.clusters import Estimate
from refit.plain_text import number, signed
from refit.problems import metric_named, metric_words
from refit.schemas.gate_decision import DaysDependence, GainComparison, GateCheck, GateVerdict

MONTE_CARLO_SHARE = 0.25  # of a margin, or of the distance from it: the largest error by random points
SHOWN_NAMES = 5  # of the parts that are too small to be judged
MOST_TIMES = 30  # as long as the test window: of a longer one than that, a refusal says nothing


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
    difference = next((each for role in ("champion", "baseline") for each in compared if each.against == role), None)
    naive = _over_naive(evidence, policy)
    slices = tuple(_slices(evidence, policy))
    checks = (
        *_conditions(evidence, policy),
        _look(evidence, policy),
        *_limits(evidence, policy),
        *_verdicts(evidence, policy, compared),
        *_naive_verdicts(naive, evidence, policy),
        *_slice_verdicts(evidence, policy, slices),
        *evidence.behaviour,
    )
    failed = tuple(check.sentence for check in checks if not check.passed)
    shown = tuple(check.sentence for check in checks if check.name.startswith(("gain", "floor", "ceiling")))
    return GateVerdict(
        promote=not failed,
        mode=policy.mode,
        metric=policy.metric,
        confidence=1 - policy.spent(evidence.looks),
        reasons=failed or (*shown, *_closest(slices)),
        notes=(
            *_notes(evidence, policy),
            *_doubts(evidence, policy, difference),
            *(evidence.weak_champion(metric_named(policy.metric).words) if failed else ()),
        ),
        checks=checks,
        compared=compared,
        naive=naive,
        slices=slices,
        difference=difference,
    )


def _look(evidence: Evidence, policy: GateParams) -> GateCheck:
    before = f"{evidence.looks} before it" if evidence.looks else "none before it"
    part = f"{_percent(policy.spent(evidence.looks))} of alpha {_percent(policy.alpha)}"
    return _check("looks", True, f"this test window has judged {before}: this look spends {part}")


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
            f"{evidence.champion.named('champion')}",
        )
        if evidence.unchanged:
            same = f"the candidate predicts the same as {evidence.champion.named('champion')} on every test row"
            yield _check("change", False, f"{same}: it would bring no change")
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
    return _unseen(opponent.named(role), opponent.seen_until, opponent.split, evidence)


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
    def compare(against: str, version: str | None, gain: Estimate, needed: float) -> GainComparison:
        return _compare(against, version, gain, needed, evidence, policy)

    if evidence.champion:
        needed = policy.min_gain if policy.mode == "superiority" else -policy.max_loss
        yield compare("champion", evidence.champion.version, evidence.champion.gain, needed)
    if evidence.anchor and policy.mode == "non_inferiority":
        yield compare("anchor", evidence.anchor.version, evidence.anchor.gain, -policy.max_loss)
    unmeasured = Estimate(math.nan, math.nan, 0.0)
    yield compare("baseline", None, evidence.over_baseline or unmeasured, policy.min_gain_over_baseline)


def _over_naive(evidence: Evidence, policy: GateParams) -> GainComparison | None:
    needed = policy.min_gain if policy.mode == "superiority" else -policy.max_loss
    best = evidence.naive
    return None if best is None else _compare(best.name, None, best.gain, needed, evidence, policy)


def _compare(
    against: str, version: str | None, gain: Estimate, needed: float, evidence: Evidence, policy: GateParams
) -> GainComparison:
    alpha = policy.spent(evidence.looks)
    lower, upper = gain.lower(alpha), gain.upper(alpha)
    is_finite = _finite(lower) and _finite(upper)
    passed = is_finite and bool(lower > needed)
    return GainComparison(
        against=against,
        version=version,
        estimate=gain.value if is_finite else None,
        lower=lower if is_finite else None,
        upper=upper if is_finite else None,
        must_exceed=needed,
        passed=passed,
        enough=_enough(gain, needed, policy) if is_finite and not passed else None,
        monte_carlo_error=gain.monte_carlo_error if is_finite and gain.monte_carlo_error else None,
        days=_dependence(gain, alpha) if is_finite else None,
    )


def _enough(gain: Estimate, needed: float, policy: GateParams) -> int | None:
    """About how many clusters like these would show the gain, as the first look at a newer window; None if too many.

    The distance of the bounds falls with the root of their number at least.
    """
    above = gain.value - needed
    if above <= 0 or (times := ((gain.value - gain.lower(policy.spent(0))) / above) ** 2) > MOST_TIMES:
        return None
    return max(math.floor(gain.clusters * times) + 1, policy.min_clusters)


def _dependence(gain: Estimate, alpha: float) -> DaysDependence | None:
    if gain.days is None:
        return None
    return DaysDependence(
        correlation=round(gain.days.correlation, 4),
        independent=round(gain.days.independence, 4),
        widening=round(gain.widening(alpha), 4),
        step=gain.days.step,
    )


def _verdicts(evidence: Evidence, policy: GateParams, compared: tuple[GainComparison, ...]) -> Iterator[GateCheck]:
    for each in compared:
        who = f"the {each.against}" + (f" (version {each.version})" if each.version else "")
        yield _verdict(f"gain over {each.against}", each, who, _why(each, evidence), evidence, policy)
        yield from _by_points(each, who)


def _naive_verdicts(each: GainComparison | None, evidence: Evidence, policy: GateParams) -> Iterator[GateCheck]:
    """Check that the candidate does better than the best naive opponent, and loses little on slices of forecasts."""
    if each is not None:
        yield _verdict(f"gain over {each.against}", each, f"the {each.against}", "", evidence, policy)
        if each.estimate is not None and each.estimate <= 0:
            sentence = f"a candidate has to do better than the {each.against} on the test rows: {signed(each.estimate)}"
            yield _check(f"better than {each.against}", False, sentence)
    for part in evidence.naive_slices:
        gain = _compare(part.name, None, part.gain, -policy.slices[part.key], evidence, policy)
        why = f": {part.problem}" if part.problem else ""
        yield _verdict(f"naive {part.name}", gain, f"the {part.name}", why, evidence, policy)


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


def _verdict(
    name: str, each: GainComparison, against: str, problem: str, evidence: Evidence, policy: GateParams
) -> GateCheck:
    word = metric_named(policy.metric).words
    if each.estimate is None or each.lower is None:
        return _check(name, False, f"the difference in {word} against {against} could not be measured{problem}")
    sure = _percent(1 - policy.spent(evidence.looks))
    return _check(
        name,
        each.passed,
        f"{signed(each.estimate)} {word} against {against}, at least {signed(each.lower)} with {sure} "
        f"confidence; more than {signed(each.must_exceed)} {'was' if each.passed else 'is'} needed"
        f"{_remedy(each, evidence, policy)}",
    )


def _remedy(each: GainComparison, evidence: Evidence, policy: GateParams) -> str:
    """What would be enough to pass: so many days, or the margin that these days can show."""
    if each.passed or each.lower is None or each.estimate is None:
        return ""
    units = {"day": "days", "row": "rows"}.get(policy.cluster, f"clusters by {policy.cluster}")
    if each.enough is not None:
        where = f"{units} of a newer test window" if evidence.looks else f"{units} like these"
        return f"; about {each.enough:,} {where} would show such a {'gain' if each.estimate >= 0 else 'small loss'}"
    if each.must_exceed < 0:
        return f"; these {units} show only that it loses no more than {number(-each.lower)}"
    return ""


def _slices(evidence: Evidence, policy: GateParams) -> Iterator[GainComparison]:
    """Compare on each part that is large enough, at the same `alpha` as on all rows.

    All parts have to pass, so promoting a model that loses too much on one of them takes an error on that part: this is
    an intersection-union test (Berger 1982, Technometrics 24(4)), which does not become more lenient with more parts.
    """
    if champion := evidence.champion:
        for part in evidence.slices:
            if part.key in policy.slices and not part.problem:
                yield _compare(part.name, champion.version, part.gain, -policy.slices[part.key], evidence, policy)


def _slice_verdicts(evidence: Evidence, policy: GateParams, slices: tuple[GainComparison, ...]) -> Iterator[GateCheck]:
    if not evidence.champion:
        return
    for each in slices:
        against = f"{evidence.champion.named('champion')} where {each.against}"
        yield _verdict(f"slice {each.against}", each, against, "", evidence, policy)
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
        which = f"all {len(measured)} slices keep their margins; the closest is" if len(measured) > 1 else "the slice"
        yield f"{which} {each.against}: at least {signed(each.lower)}, more than {signed(each.must_exceed)} was needed"


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
        opening = "there was no champion to compare with"
        if evidence.stand_in == "champion":
            opening = "the champion was made from a GENERATED stand-in and counts as none"
        yield f"{opening}: the candidate had to beat the naive baseline"
        unasked = [
            *(["slices"] if set(policy.slices) - {part.key for part in evidence.naive_slices} else []),
            *({"error_reduction"} & set(policy.floors)),
        ]
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
            f"this test window has judged other candidates {times} before: for a chance of {_percent(policy.alpha)} "
            f"that it ever promotes wrongly, this one needs {_percent(1 - policy.spent(evidence.looks))} confidence, "
            f"and the first one on a newer window {_percent(1 - policy.spent(0))}"
        )


def _doubts(evidence: Evidence, policy: GateParams, difference: GainComparison | None) -> Iterator[str]:
    """Say how far the bounds rest on what the rows cannot show: luck that lasts over days, and labels still to come."""
    if difference is None or difference.lower is None:
        return
    if days := difference.days:
        yield (
            f"the gain over the {difference.against} correlates by {days.correlation:.2f} {days.apart} "
            f"({days.independent:.0%} likely that days are independent): its bounds lie {days.widening:.2f} times as "
            "far from it as those of independent days"
        )
    if evidence.pending:
        total = evidence.rows + evidence.pending
        limit = (total * difference.must_exceed - evidence.rows * difference.lower) / evidence.pending
        holds = "holds as long as the gain on them is" if difference.passed else "would hold if the gain on them were"
        yield (
            f"{evidence.pending:,} of {total:,} test rows ({evidence.pending / total:.1%}) have no label yet, and rows "
            f"with late labels may differ: counted as a mean over rows, the check against the {difference.against} "
            f"{holds} above {signed(limit)} {metric_named(policy.metric).words}"
        )


def _percent(share: float) -> str:
    """A share in percent, with as many digits as it takes to tell 99.9% from all.

    >>> _percent(0.95), _percent(0.99392), _percent(0.00002)
    ('95%', '99.392%', '0.002%')
    """
    return f"{100 * share:.5g}%"


def _finite(value: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: float) -> str:
    return number(value) if _finite(value) else "not a number"
