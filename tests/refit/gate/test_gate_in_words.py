"""Whole decisions of the gate, word by word: each check that was made, in order, and what a reader is shown of it."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from refit.config import GateParams
from refit.evaluation.holdout import with_interval
from refit.gate.evidence import Evidence, GateOpponent, Slice
from refit.gate.promotion import decide
from refit.metrics.clusters import Estimate
from refit.metrics.serial_correlation import RHO, DaysError
from refit.schemas.gate_decision import DaysDependence, GateCheck, GateVerdict

START, LATER = datetime(2013, 12, 1, 5, tzinfo=UTC), datetime(2013, 12, 2, tzinfo=UTC)
CHAMPION = GateOpponent("3", "old", START, Estimate(0.0, 0.001, 30.0))
ANCHOR = GateOpponent("1", "older", START, Estimate(0.01, 0.001, 30.0))
EVIDENCE = Evidence(
    candidate="new",
    seen_until=START,
    test_start=START,
    rows=27_000,
    labels=GateCheck(name="classes", passed=True, sentence="both classes are there"),
    clusters=30.0,
    metrics={"roc_auc": 0.72, "log_loss": 0.43},
    over_baseline=Estimate(0.22, 0.01, 30.0),
    champion=CHAMPION,
    anchor=ANCHOR,
    looks=1,
    slices=(Slice("origin", "origin=EWR", Estimate(0.0, 0.004, 25.0)),),
    error_reduction=Estimate(0.01, 0.02, 30.0),
    remarks=("a remark",),
)


def changed(policy: GateParams, **changes: Any) -> GateParams:
    return policy.model_copy(update=changes)


UNKNOWN = Estimate(math.nan, math.nan, 0.0)
POLICY = GateParams(
    min_gain_over_baseline=0.05,
    floors={"roc_auc": 0.7, "error_reduction": 0.0},
    ceilings={"log_loss": 0.5},
    slices={"origin": 0.02},
)


SECOND = 1 - 0.05 * 0.2 * 6 / math.pi**2  # confidence of the second look at a window


def checks(decision: GateVerdict, *, passed: bool, confidence: float = 0.96) -> list[tuple[str, str]]:
    assert decision.promote is passed
    assert (decision.mode, decision.metric) == ("non_inferiority", "roc_auc")
    assert decision.confidence == pytest.approx(confidence, abs=1e-12)
    return [(check.name, check.sentence) for check in decision.checks if check.passed is passed]


def test_a_promotion_shows_its_gains_floors_ceilings_and_closest_slice() -> None:
    seen = "(data up to 2013-12-01 05:00, test from 2013-12-01 05:00)"
    gains = [
        "+0.0000 ROC AUC against the champion (version 3), at least -0.0027 with 99.392% confidence; more than -0.0050 "
        "was needed",
        "+0.0100 ROC AUC against the anchor (version 1), at least +0.0073 with 99.392% confidence; more than -0.0050 "
        "was needed",
        "+0.2200 ROC AUC against the baseline, at least +0.1933 with 99.392% confidence; more than +0.0500 was needed",
    ]
    limits = [
        "error reduction 0.0100, at least 0.0000 is demanded",
        "ROC AUC 0.7200, at least 0.7000 is demanded",
        "log loss 0.4300, at most 0.5000 is demanded",
    ]
    decision = decide(EVIDENCE, POLICY)
    assert checks(decision, passed=True, confidence=SECOND) == [
        ("rows", "27,000 test rows, the gate needs 2,000"),
        ("classes", "both classes are there"),
        ("clusters", "30.0 clusters by day (counted by size), the gate needs 20"),
        ("unseen", f"the candidate has not seen the test window {seen}"),
        ("unseen", f"the champion (version 3) has not seen the test window {seen}"),
        ("different", "the candidate differs from the champion (version 3)"),
        ("unseen", f"the anchor (version 1) has not seen the test window {seen}"),
        ("finite", "the candidate's ROC AUC on the test window is 0.7200"),
        ("looks", "this test window has judged 1 before it: this look spends 0.60793% of alpha 5%"),
        ("floor: error_reduction", limits[0]),
        ("floor: roc_auc", limits[1]),
        ("ceiling: log_loss", limits[2]),
        ("gain over champion", gains[0]),
        ("gain over anchor", gains[1]),
        ("gain over baseline", gains[2]),
        (
            "slice origin=EWR",
            "+0.0000 ROC AUC against the champion (version 3) where origin=EWR, at least -0.0108 with 99.392% "
            "confidence; more than -0.0200 was needed",
        ),
    ]
    closest = "the slice origin=EWR: at least -0.0108, more than -0.0200 was needed"
    assert decision.reasons == (*limits, *gains, closest)
    assert decision.notes == (
        "a remark",
        "this test window has judged other candidates once before: for a chance of 5% that it ever promotes wrongly, "
        "this one needs 99.392% confidence, and the first one on a newer window 96%",
    )
    by_name = {each.against: each for each in (*decision.compared, *decision.slices)}
    assert {name: (each.version, each.estimate, each.must_exceed) for name, each in by_name.items()} == {
        "champion": ("3", 0.0, -0.005),
        "anchor": ("1", 0.01, -0.005),
        "baseline": (None, 0.22, 0.05),
        "origin=EWR": ("3", 0.0, -0.02),
    }
    for each in by_name.values():
        assert each.lower is not None
        assert each.upper is not None
        assert each.upper + each.lower == pytest.approx(2 * (each.estimate or 0))
        assert each.upper > each.lower > each.must_exceed
    assert decision.difference == by_name["champion"]


def test_a_refusal_gives_every_reason_and_nothing_else() -> None:
    wrong = replace(
        EVIDENCE,
        rows=1,
        labels=GateCheck(name="classes", passed=False, sentence="both are needed"),
        clusters=1.0,
        seen_until=None,
        metrics={},
        stand_in="candidate",
        candidate="old",
        champion=replace(CHAMPION, gain=Estimate(math.nan, 1.0, 30.0), problem="it is lost", seen_until=LATER),
        anchor=replace(ANCHOR, seen_until=None, gain=Estimate(-1.0, 0.1, 30.0)),
        over_baseline=None,
        slices=(),
        error_reduction=None,
        looks=0,
        remarks=(),
    )
    decision = decide(wrong, POLICY)
    unknown = "has seen data, so the test may be no test of it"
    assert checks(decision, passed=False) == [
        ("rows", "1 test rows, the gate needs 2,000"),
        ("classes", "both are needed"),
        (
            "real",
            "the candidate was made from a GENERATED stand-in, the champion from real data: it stays",
        ),
        (
            "clusters",
            "1.0 clusters by day (counted by size), the gate needs 20; a longer test window has more "
            "(featurize.windows.test, or featurize.split.test)",
        ),
        ("unseen", f"it is not recorded until when the candidate {unknown}"),
        (
            "unseen",
            "the champion (version 3) has already seen the test window (data up to 2013-12-02 00:00, test from "
            "2013-12-01 05:00)",
        ),
        ("different", "the candidate is identical to the champion (version 3)"),
        ("unseen", f"it is not recorded until when the anchor (version 1) {unknown}"),
        ("finite", "the candidate's ROC AUC on the test window is not a number"),
        ("floor: error_reduction", "error reduction not a number, at least 0.0000 is demanded"),
        ("floor: roc_auc", "ROC AUC not a number, at least 0.7000 is demanded"),
        ("ceiling: log_loss", "log loss not a number, at most 0.5000 is demanded"),
        (
            "gain over champion",
            "the difference in ROC AUC against the champion (version 3) could not be measured: it is lost",
        ),
        (
            "gain over anchor",
            "-1.0000 ROC AUC against the anchor (version 1), at least -1.1814 with 96% confidence; more than -0.0050 "
            "is needed; these days show only that it loses no more than 1.1814",
        ),
        ("gain over baseline", "the difference in ROC AUC against the baseline could not be measured"),
        ("slice origin", "the loss where origin could not be measured: it is lost"),
    ]
    assert decision.reasons == tuple(check.sentence for check in decision.checks if check.name != "looks")
    assert decision.notes == ()
    unmeasured = [each for each in decision.compared if each.against != "anchor"]
    assert [(each.estimate, each.lower, each.upper, each.passed) for each in unmeasured] == [(None,) * 3 + (False,)] * 2


def test_rows_of_one_day_that_a_rule_divides_need_another_cluster() -> None:
    here = replace(EVIDENCE, split="a rule", champion=replace(CHAMPION, split="a rule"), anchor=None, clusters=1.0)
    assert decide(here, POLICY).reasons == (
        "1.0 clusters by day (counted by size), the gate needs 20; all rows are of one day: set evaluate.gate.cluster: "
        "row if each counts for itself, or a column whose equal values belong together",
    )


def test_a_first_candidate_is_not_asked_what_compares_with_a_champion() -> None:
    first = replace(EVIDENCE, champion=None, anchor=None, looks=0, remarks=(), stand_in="champion", split="a rule")
    decision = decide(replace(first, split=None), changed(POLICY, cluster="row"))
    assert [name for name, _ in checks(decision, passed=True)] == [
        "rows",
        "classes",
        "clusters",
        "unseen",
        "finite",
        "looks",
        "floor: roc_auc",
        "ceiling: log_loss",
        "gain over baseline",
    ]
    assert decision.checks[2].sentence == "30.0 rows taken as independent, the gate needs 20"
    assert decision.notes == (
        "the champion was made from a GENERATED stand-in and counts as none: the candidate had to beat the "
        "naive baseline",
        "not asked, as they compare with a champion: slices and error_reduction",
        "rows are taken as independent (evaluate.gate.cluster: row); if they are not, the bounds are too narrow",
    )
    assert decision.difference == decision.compared[-1]
    nobody = decide(replace(first, stand_in=None, split=None), changed(POLICY, slices={}, floors={}))
    assert nobody.notes == ("there was no champion to compare with: the candidate had to beat the naive baseline",)


@pytest.mark.parametrize(
    ("looks", "words"), [(1, "once before: .* 5% .* 99.392%"), (2, "2 times .* 99.848%"), (40, ".* 100%")]
)
def test_each_further_look_at_a_window_needs_more_confidence(looks: int, words: str) -> None:
    import re

    (note,) = decide(replace(EVIDENCE, looks=looks, remarks=()), POLICY).notes
    assert re.search(words, note)


def test_all_looks_at_a_window_together_spend_alpha_and_no_more() -> None:
    for share in (0.5, 0.8, 0.99):
        policy = changed(POLICY, first_look=share)
        parts = [policy.spent(looks) for looks in range(20_000)]
        assert parts == sorted(parts, reverse=True)
        assert parts[0] == pytest.approx(policy.alpha * share)
        assert policy.alpha * 0.9999 < sum(parts) < policy.alpha


def test_a_candidate_that_predicts_the_same_as_the_champion_is_refused_in_one_line() -> None:
    same = replace(EVIDENCE, unchanged=True)
    assert decide(same, POLICY).reasons == (
        "the candidate predicts the same as the champion (version 3) on every test row: it would bring no change",
    )
    assert decide(replace(same, champion=None, anchor=None), POLICY).promote  # a first candidate changes nothing either


@pytest.mark.parametrize(
    ("cluster", "looks", "words"),
    [
        ("day", 0, "about 64 days like these would show such a gain"),
        ("row", 0, "about 64 rows like these would show such a gain"),
        ("week", 1, "about 64 clusters by week of a newer test window would show such a gain"),
    ],
)
def test_a_refusal_for_want_of_evidence_says_how_much_would_be_enough(cluster: str, looks: int, words: str) -> None:
    """The estimate is above the margin, its bound is not: with so many clusters the bound would be, too."""
    short = replace(CHAMPION, gain=Estimate(0.0, 0.004, 30.0))
    few = replace(EVIDENCE, champion=short, anchor=None, looks=looks)
    policy = changed(POLICY, cluster=cluster)
    decision = decide(few, policy)
    (reason,) = decision.reasons
    assert reason.endswith(f"more than -0.0050 is needed; {words}")
    assert decision.difference is not None
    assert decision.difference.enough == 64
    for clusters, promoted in ((40, False), (64, True)):
        longer = replace(short, gain=Estimate(0.0, 0.004 * math.sqrt(30 / clusters), float(clusters)))
        assert decide(replace(few, champion=longer, looks=0), policy).promote is promoted


@pytest.mark.parametrize(
    ("gain", "margin", "words"),
    [
        (Estimate(-0.004, 0.004, 30.0), -0.005, "these days show only that it loses no more than 0.0113"),
        (Estimate(-0.006, 0.004, 30.0), -0.005, "these days show only that it loses no more than 0.0133"),
        (Estimate(0.001, 0.004, 30.0), 0.001, "more than +0.0010 is needed"),
        (Estimate(0.08, 0.0006, 5.0), 0.079, "about 20 days like these would show such a gain"),
        (Estimate(-0.002, 0.004, 30.0), -0.005, " days like these would show such a small loss"),
    ],
)
def test_where_no_window_of_a_sensible_length_is_enough_the_refusal_says_what_loss_it_excludes(
    gain: Estimate, margin: float, words: str
) -> None:
    modes = {"max_loss": -margin} if margin < 0 else {"min_gain": margin, "mode": "superiority"}
    decision = decide(replace(EVIDENCE, champion=replace(CHAMPION, gain=gain), looks=0), changed(POLICY, **modes))
    assert any(reason.endswith(words) for reason in decision.reasons), decision.reasons


def test_the_correlation_of_the_days_and_what_it_costs_are_in_the_decision() -> None:
    days = DaysError(np.r_[0.25, np.zeros(len(RHO) - 2), 0.75], np.full(len(RHO), 0.002), 23.0)
    gain = Estimate(0.01, 0.001, 30.0, days=days)
    decision = decide(replace(EVIDENCE, champion=replace(CHAMPION, gain=gain), looks=0, remarks=()), POLICY)
    assert decision.difference is not None
    widening = 2 * t.ppf(0.96, 23) / t.ppf(0.96, 29)
    correlation = 0.75 * 0.9 * 0.5  # of the last dependence: rho 0.9, half of the luck is new every day
    assert decision.difference.days == DaysDependence(
        correlation=round(correlation, 4), independent=0.25, widening=round(float(widening), 4)
    )
    assert decision.difference.lower == pytest.approx(0.01 - 0.002 * t.ppf(0.96, 23))
    assert decision.notes == (
        "the gain over the champion correlates by 0.34 from one day to the next (25% likely that days are "
        f"independent): its bounds lie {widening:.2f} times as far from it as those of independent days",
    )
    assert [each.days for each in decision.compared[1:]] == [None, None]
    weekly = replace(gain, days=replace(days, step=7.0))
    (note,) = decide(replace(EVIDENCE, champion=replace(CHAMPION, gain=weekly), looks=0, remarks=()), POLICY).notes
    assert "correlates by 0.34 over 7 days (25% likely" in note


def test_labels_still_to_come_are_counted_with_the_gain_that_they_may_have_at_least() -> None:
    decision = decide(replace(EVIDENCE, looks=0, remarks=(), pending=3_000), POLICY)
    assert decision.promote
    (note,) = decision.notes
    assert decision.difference is not None
    assert decision.difference.lower is not None
    limit = (30_000 * -0.005 - 27_000 * decision.difference.lower) / 3_000
    assert note == (
        "3,000 of 30,000 test rows (10.0%) have no label yet, and rows with late labels may differ: counted as a mean "
        f"over rows, the check against the champion holds as long as the gain on them is above {limit:+.4f} ROC AUC"
    )
    strict = decide(replace(EVIDENCE, looks=0, remarks=(), pending=3_000), POLICY.model_copy(update={"max_loss": 0.0}))
    assert not strict.promote
    assert "the check against the champion would hold if the gain on them were above +" in strict.notes[0]
    unknown = replace(EVIDENCE, looks=0, remarks=(), pending=3, champion=replace(CHAMPION, gain=UNKNOWN))
    assert decide(unknown, POLICY).notes == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.001, "0.0010"), (-0.001, "-0.0010"), (0.0009, "0.0009"), (2.5e-7, "2.5e-07"), (True, "not a")],
)
def test_numbers_have_four_decimals_or_three_digits_that_count(value: float, text: str) -> None:
    shown = decide(replace(EVIDENCE, metrics={"roc_auc": 0.7, "log_loss": value}), POLICY)
    sentence = next(check.sentence for check in shown.checks if check.name == "ceiling: log_loss")
    assert sentence.startswith(f"log loss {text}")


def test_a_model_that_another_rule_or_none_kept_apart_may_have_seen_test_rows() -> None:
    here = replace(EVIDENCE, split="rule A", champion=replace(CHAMPION, split="rule A"), anchor=None)
    (seen, _) = [check for check in decide(here, POLICY).checks if check.name == "unseen"]
    sentence = "the candidate has not seen the test rows (kept apart by one rule: rule A)"
    assert seen == GateCheck(name="unseen", passed=True, sentence=sentence)
    for split, words in (("rule B", "split by rule B"), (None, "not split so")):
        decision = decide(replace(here, champion=replace(CHAMPION, split=split)), POLICY)
        assert decision.reasons == (
            f"the champion (version 3) may have seen test rows: it was {words}, the test is rule A",
        )


def test_an_anchor_counts_only_for_non_inferiority_and_slices_only_where_the_policy_names_them() -> None:
    strict = replace(EVIDENCE, champion=replace(CHAMPION, gain=Estimate(0.02, 0.001, 30.0)))
    decision = decide(strict, changed(POLICY, mode="superiority", min_gain=0.01, slices={}))
    assert decision.promote
    assert decision.slices == ()
    assert [(each.against, each.must_exceed) for each in decision.compared] == [("champion", 0.01), ("baseline", 0.05)]
    assert sum(check.name == "unseen" for check in decision.checks) == 2


def test_what_cannot_be_measured_of_a_part_or_has_no_words_of_its_own_is_said_plainly() -> None:
    unknown = replace(EVIDENCE, slices=(Slice("origin", "origin=EWR", Estimate(math.nan, 0.1, 9.0)),))
    assert decide(unknown, POLICY).reasons == (
        "the difference in ROC AUC against the champion (version 3) where origin=EWR could not be measured",
    )
    lost = replace(EVIDENCE, anchor=replace(ANCHOR, gain=Estimate(math.nan, 0.1, 9.0), problem="its files are gone"))
    assert decide(lost, POLICY).reasons == (
        "the difference in ROC AUC against the anchor (version 1) could not be measured: its files are gone",
    )
    none = replace(EVIDENCE, slices=())
    assert decide(none, POLICY).reasons == (
        "the loss where origin could not be measured: no part of it is large enough to be judged",
    )
    decision = decide(EVIDENCE, changed(POLICY, floors={"smiles": 1.0}))
    assert decision.reasons == ("smiles not a number, at least 1.0000 is demanded",)
    other = decide(replace(EVIDENCE, split="rule A", anchor=None), POLICY)
    assert [check.name for check in other.checks if not check.passed] == ["unseen"]


def test_of_two_slices_the_closest_is_shown_with_their_number() -> None:
    two = (*EVIDENCE.slices, Slice("origin", "origin=JFK", Estimate(-0.002, 0.004, 25.0)))
    assert decide(replace(EVIDENCE, slices=two), POLICY).reasons[-1] == (
        "all 2 slices keep their margins; the closest is origin=JFK: at least -0.0128, more than -0.0200 was needed"
    )


def test_values_of_a_column_that_are_too_small_are_named_up_to_five() -> None:
    small = [Slice("origin", f"origin={name}", Estimate(math.nan, math.nan, 0.0), "small") for name in "abcde"]
    (note,) = decide(replace(EVIDENCE, slices=(*EVIDENCE.slices, *small), looks=0, remarks=()), POLICY).notes
    names = "origin=a, origin=b, origin=c, origin=d, origin=e"
    assert note == f"too small to be judged by evaluate.gate.slices: {names}"


def test_a_metric_in_small_units_is_shown_and_stored_by_its_first_digits() -> None:
    gained = Estimate(3.217e-13, 1e-14, 30.0)
    assert with_interval(gained, 0.95).value == 3.217e-13
    policy = GateParams(mode="superiority", metric="rmse", min_gain=1e-13)
    small = replace(EVIDENCE, metrics={"rmse": 4e-12}, champion=replace(CHAMPION, gain=gained), slices=(), looks=0)
    (check,) = [each for each in decide(small, policy).checks if each.name == "gain over champion"]
    assert "+3.22e-13" in check.sentence
    assert "more than +1e-13 was needed" in check.sentence or "more than +1e-13 is needed" in check.sentence
