"""The gate promotes only what is shown, refuses everything else in words, and errs as seldom as it says."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from quick import quick

from refit.config import GateParams
from refit.gate.comparison import Sample, gain
from refit.gate.evidence import Evidence, GateOpponent, Slice
from refit.gate.promotion import decide
from refit.metrics.clusters import Clusters, Estimate
from refit.schemas.gate_decision import GateCheck, GateVerdict

START = datetime(2013, 12, 1, 5, tzinfo=UTC)
LATER = datetime(2013, 12, 2, tzinfo=UTC)
DIFFER = GateCheck(name="classes", passed=True, sentence="both classes are there")


def changed(policy: GateParams, **changes: Any) -> GateParams:
    return policy.model_copy(update=changes)


POLICY = GateParams(min_rows=2000, min_gain_over_baseline=0.05)


def champion(value: float = 0.0, error: float = 0.001, **changes: Any) -> GateOpponent:
    return replace(GateOpponent("3", "old", START, Estimate(value, error, 30.0)), **changes)


def evidence(**changes: Any) -> Evidence:
    """A candidate equal to the champion, measured precisely, with nothing to object to."""
    sound = Evidence(
        candidate="new",
        seen_until=START,
        test_start=START,
        rows=27_000,
        labels=DIFFER,
        clusters=30.0,
        metrics={"roc_auc": 0.72, "log_loss": 0.43, "accuracy": 0.8},
        over_baseline=Estimate(0.22, 0.01, 30.0),
        champion=champion(),
    )
    return replace(sound, **changes)


def refused(decision: GateVerdict, *words: str) -> None:
    assert not decision.promote
    assert any(all(word in reason for word in words) for reason in decision.reasons), decision.reasons


def test_an_equal_model_passes_non_inferiority_and_fails_superiority() -> None:
    assert decide(evidence(), POLICY).promote
    refused(decide(evidence(), changed(POLICY, mode="superiority")), "against the champion (version 3)", "is needed")


def test_rows_kept_apart_by_chance_are_unseen_only_by_models_of_the_same_rule() -> None:
    rule = "0.2 of the rows, seed 0"
    late = START + timedelta(days=30)  # every row is of the same time, so time tells nothing
    kept = evidence(split=rule, seen_until=late, champion=champion(split=rule, seen_until=late))
    assert decide(kept, POLICY).promote
    refused(decide(replace(kept, champion=champion()), POLICY), "the champion (version 3) may have seen test rows")
    other = champion(split="0.2 of the rows, seed 1")
    refused(decide(replace(kept, champion=other), POLICY), "split by 0.2 of the rows, seed 1, the test is 0.2 of the")
    refused(decide(replace(kept, split=None), POLICY), "the candidate has already seen the test window")


def test_a_better_model_passes_both_modes_and_says_by_how_much() -> None:
    better = evidence(champion=champion(0.02))
    for mode in ("non_inferiority", "superiority"):
        decision = decide(better, changed(POLICY, mode=mode))
        assert decision.promote
        assert decision.reasons[0].startswith(
            "+0.0200 ROC AUC against the champion (version 3), at least +0.0182 with 96%"
        )


def test_a_loss_that_is_small_but_not_shown_to_be_small_enough_is_refused() -> None:
    assert decide(evidence(champion=champion(-0.002, 0.001)), POLICY).promote
    refused(decide(evidence(champion=champion(-0.002, 0.004)), POLICY), "more than -0.0050 is needed")


def test_a_lower_bound_on_the_margin_itself_is_not_above_it() -> None:
    exactly = evidence(champion=champion(-0.005, 0.0))
    refused(decide(exactly, POLICY), "more than -0.0050 is needed")
    refused(decide(evidence(champion=champion(0.0, 0.0)), changed(POLICY, mode="superiority")), "more than +0.0000")


def test_a_demanded_gain_must_be_exceeded_by_the_lower_bound_not_by_the_estimate() -> None:
    policy = changed(POLICY, mode="superiority", min_gain=0.01)
    refused(decide(evidence(champion=champion(0.011, 0.001)), policy), "more than +0.0100 is needed")
    assert decide(evidence(champion=champion(0.013, 0.001)), policy).promote


def test_the_first_model_is_never_promoted_unopposed() -> None:
    first = evidence(champion=None)
    decision = decide(first, POLICY)
    assert decision.promote
    assert decision.difference is not None
    assert decision.difference.against == "baseline"
    assert "there was no champion to compare with" in decision.notes[0]
    refused(decide(replace(first, over_baseline=Estimate(0.055, 0.01, 30.0)), POLICY), "against the baseline")
    refused(decide(replace(first, over_baseline=None), POLICY), "baseline", "could not be measured")


def test_whoever_beats_the_champion_but_not_the_baseline_is_refused() -> None:
    refused(decide(evidence(champion=champion(0.02), over_baseline=Estimate(0.0, 0.01, 30.0)), POLICY), "baseline")


def test_no_difference_is_not_told_as_a_loss() -> None:
    told = decide(evidence(over_baseline=Estimate(-1e-9, 1e-12, 30.0)), POLICY)
    assert "-0.0000" not in " ".join(told.reasons)


@pytest.mark.parametrize("gain", [Estimate(math.nan, 0.01, 30), Estimate(0.1, math.nan, 30), Estimate(0.1, 0.01, 1.0)])
def test_a_gain_that_is_not_finite_is_refused(gain: Estimate) -> None:
    refused(decide(evidence(champion=champion(gain=gain)), POLICY), "champion", "could not be measured")
    refused(decide(evidence(over_baseline=gain), POLICY), "baseline", "could not be measured")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_candidate_without_a_finite_metric_is_never_promoted(value: float) -> None:
    refused(decide(evidence(metrics={"roc_auc": value}), POLICY), "ROC AUC", "not a number")
    refused(decide(evidence(metrics={}), POLICY), "ROC AUC", "not a number")


def test_too_few_rows_are_refused_and_just_enough_are_not() -> None:
    refused(decide(evidence(rows=1_999), POLICY), "1,999 test rows", "2,000")
    assert decide(evidence(rows=2_000), POLICY).promote


def test_labels_that_are_all_alike_are_refused() -> None:
    refused(
        decide(evidence(labels=GateCheck(name="classes", passed=False, sentence="both are needed")), POLICY),
        "both are needed",
    )


def test_too_few_clusters_are_refused_and_what_would_help_is_said() -> None:
    refused(decide(evidence(clusters=19.5), POLICY), "19.5 clusters by day", "needs 20", "featurize.windows.test")
    enough = decide(evidence(clusters=20.0), POLICY)
    assert enough.promote
    assert "20.0 clusters by day (counted by size), the gate needs 20" in [check.sentence for check in enough.checks]


def test_rows_taken_as_independent_are_said_so() -> None:
    decision = decide(evidence(clusters=27_000.0), changed(POLICY, cluster="row"))
    assert decision.promote
    assert any("taken as independent" in note for note in decision.notes)


@pytest.mark.parametrize("seen", [LATER, None])
def test_a_holdout_seen_by_either_model_is_refused(seen: datetime | None) -> None:
    word = "not recorded" if seen is None else "already seen"
    refused(decide(evidence(seen_until=seen), POLICY), "candidate", word)
    refused(decide(evidence(champion=champion(seen_until=seen)), POLICY), "champion (version 3)", word)


def test_the_champion_itself_is_not_promoted_again() -> None:
    refused(decide(evidence(candidate="old"), POLICY), "identical", "version 3")


def test_a_chain_of_small_losses_is_stopped_by_the_anchor() -> None:
    anchor = GateOpponent("1", "older", START, Estimate(-0.006, 0.001, 30.0))
    refused(decide(evidence(anchor=anchor), POLICY), "against the anchor (version 1)")
    assert decide(evidence(anchor=replace(anchor, gain=Estimate(-0.002, 0.001, 30.0))), POLICY).promote
    refused(
        decide(evidence(anchor=replace(anchor, gain=Estimate(0.0, 0.001, 30.0), seen_until=LATER)), POLICY), "anchor"
    )


def test_superiority_asks_for_no_anchor() -> None:
    anchor = GateOpponent("1", "older", None, Estimate(-0.1, 0.001, 30.0))
    assert decide(evidence(champion=champion(0.02), anchor=anchor), changed(POLICY, mode="superiority")).promote


def test_floors_and_ceilings_are_kept_and_what_was_not_measured_fails_them() -> None:
    assert decide(evidence(), changed(POLICY, floors={"roc_auc": 0.72}, ceilings={"log_loss": 0.43})).promote
    refused(decide(evidence(), changed(POLICY, floors={"roc_auc": 0.75})), "ROC AUC 0.7200", "at least 0.7500")
    refused(decide(evidence(), changed(POLICY, ceilings={"log_loss": 0.4})), "log loss 0.4300", "at most 0.4000")
    refused(decide(evidence(), changed(POLICY, ceilings={"latency_ms": 5.0})), "latency in ms not a number")
    refused(decide(evidence(metrics={"roc_auc": 0.72, "f1": math.nan}), changed(POLICY, floors={"f1": 0.1})), "F1")


def test_costs_too_small_for_four_digits_are_still_told() -> None:
    policy = changed(POLICY, ceilings={"cost_per_1000": 1e-7, "model_mb": 5.0})
    costly = evidence(metrics={"roc_auc": 0.72, "cost_per_1000": 2.5e-7, "model_mb": 5.25})
    refused(decide(costly, policy), "cost of 1,000 predictions 2.5e-07", "at most 1e-07")
    refused(decide(costly, policy), "model size in MB 5.2500", "at most 5.0000")


def test_error_reduction_is_demanded_where_there_is_a_champion_and_told_where_there_is_none() -> None:
    policy = changed(POLICY, floors={"error_reduction": 0.0})
    assert decide(evidence(error_reduction=Estimate(0.01, 0.02, 30.0)), policy).promote
    refused(decide(evidence(error_reduction=Estimate(-0.01, 0.02, 30.0)), policy), "error reduction -0.0100")
    refused(decide(evidence(), policy), "error reduction not a number")
    first = decide(evidence(champion=None), policy)
    assert first.promote
    assert any("error_reduction" in note for note in first.notes)


SLICED = changed(POLICY, slices={"origin": 0.02, "carrier=UA": 0.03})


def sliced(**gains: float) -> Evidence:
    """Evidence with a slice for each value of `origin`, and the one of `carrier=UA`."""
    origins = [Slice("origin", f"origin={name}", Estimate(value, 0.004, 25.0)) for name, value in gains.items()]
    return evidence(slices=(*origins, Slice("carrier=UA", "carrier=UA", Estimate(-0.02, 0.004, 25.0))))


@pytest.mark.parametrize("mode", ["non_inferiority", "superiority"])
def test_every_slice_must_be_shown_to_lose_less_than_its_own_margin(mode: Any) -> None:
    policy = changed(SLICED, mode=mode)
    better = champion(0.01)  # on all rows together nothing stands against it
    assert decide(replace(sliced(EWR=0.0, JFK=-0.01), champion=better), policy).promote
    decision = decide(replace(sliced(EWR=0.0, JFK=-0.018), champion=better), policy)
    refused(decision, "-0.0180 ROC AUC", "where origin=JFK", "more than -0.0200 is needed")
    assert len(decision.reasons) == 1
    assert [(each.against, each.must_exceed) for each in decision.slices] == [
        ("origin=EWR", -0.02),
        ("origin=JFK", -0.02),
        ("carrier=UA", -0.03),
    ]
    refused(decide(sliced(EWR=math.nan), policy), "origin=EWR", "could not be measured")


def test_a_promotion_with_many_slices_tells_of_the_closest() -> None:
    decision = decide(sliced(EWR=0.0, JFK=-0.012), SLICED)
    assert decision.promote
    assert decision.reasons[-1].startswith("all 3 slices keep their margins; the closest is origin=JFK: at least -0.01")


def test_a_slice_named_by_itself_must_be_judged_and_a_small_value_of_a_column_is_told() -> None:
    small = "it has 29 test rows, 200 are needed"
    unknown = Estimate(math.nan, math.nan, 0.0)
    found = sliced(EWR=0.0)
    named = replace(found, slices=(*found.slices[:1], Slice("carrier=UA", "carrier=UA", unknown, small)))
    refused(decide(named, SLICED), "carrier=UA", small)
    others = tuple(Slice("origin", f"origin={name}", unknown, small) for name in "abcdefg")
    decision = decide(replace(found, slices=(*found.slices, *others)), SLICED)
    assert decision.promote
    (note,) = decision.notes
    assert note.endswith("origin=a, origin=b, origin=c, origin=d, origin=e and 2 more")


def test_a_column_of_which_no_value_can_be_judged_is_refused() -> None:
    found = sliced()
    refused(decide(found, SLICED), "where origin could not be measured", "no part of it is large enough")
    refused(decide(replace(found, slices=()), SLICED), "where carrier=UA could not be measured")
    unscored = replace(found, slices=(), champion=champion(gain=Estimate(math.nan, math.nan, 0.0), problem="lost"))
    refused(decide(unscored, SLICED), "where origin could not be measured: lost")


def test_slices_are_not_asked_of_a_first_candidate_and_that_is_told() -> None:
    decision = decide(evidence(champion=None), SLICED)
    assert decision.promote
    assert not decision.slices
    assert any("slices" in note for note in decision.notes)


def test_every_failed_check_is_a_reason_not_only_the_first() -> None:
    one_class = GateCheck(name="classes", passed=False, sentence="one class only")
    decision = decide(evidence(rows=10, labels=one_class, clusters=1.0, seen_until=None), POLICY)
    assert len(decision.reasons) == 4


def test_looks_at_the_same_window_are_counted_and_shown() -> None:
    (note,) = decide(evidence(looks=3), POLICY).notes
    assert "3 times" in note
    assert "99.932%" in note
    assert not decide(evidence(), POLICY).notes


def test_the_decision_is_a_pure_function_of_the_evidence() -> None:
    assert decide(evidence(), POLICY) == decide(evidence(), POLICY)


DAYS, ROWS, RUNS = 28, 50, 1500
ALPHA = 0.05
ALLOWED = ALPHA + 0.01 + 2 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)  # one point, and what so few runs cannot tell
OPEN = GateParams(alpha=ALPHA, min_rows=100, min_gain_over_baseline=0.0)


def pair(random: np.random.Generator, days: int, noise: float) -> tuple[Sample, np.ndarray, np.ndarray]:
    """Two models of one truth, on rows whose days share luck, and are misjudged together by each model in its own way.

    The second has noise 0.8; with the same noise the first is exchangeable with it: neither is better, though on any
    one month one of them seems to be.
    """
    shape = (days, ROWS)
    truth = random.normal(size=shape) + random.normal(0, 0.6, (days, 1))
    labels = (random.random(shape) < 1 / (1 + np.exp(1.2 - 1.3 * truth))).astype(np.int64)
    sample = Sample(labels.ravel(), Clusters.of(np.repeat(np.arange(days), ROWS)))
    scores = []
    for spread in (noise, 0.8):
        judged = truth + random.normal(0, spread, shape) + random.normal(0, 0.6 * spread, (days, 1))
        scores.append(1 / (1 + np.exp(-judged.ravel())))
    return sample, scores[0], scores[1]


def promoted(policy: GateParams, noise: float) -> float:
    """The share of simulated candidates that the gate promotes."""
    random, count = np.random.default_rng(20131201), 0
    for _ in range(RUNS):
        sample, ours, theirs = pair(random, DAYS, noise)
        shown = evidence(
            metrics={policy.metric: 0.7},
            rows=len(sample.labels),
            labels=DIFFER,
            clusters=sample.clusters.effective,
            champion=champion(gain=gain(policy.metric, sample, ours, theirs)),
        )
        count += decide(shown, policy).promote
    return count / RUNS


@pytest.mark.ci
@pytest.mark.parametrize("metric", quick(["roc_auc", "average_precision", "log_loss", "brier"]))
def test_superiority_promotes_an_equal_model_no_more_often_than_it_says(metric: str) -> None:
    assert 0.02 < promoted(changed(OPEN, mode="superiority", metric=metric), noise=0.8) < ALLOWED


@pytest.mark.ci
@pytest.mark.parametrize("metric", quick(["roc_auc", "brier"]))
def test_non_inferiority_promotes_a_model_worse_by_the_margin_no_more_often_than_it_says(metric: str) -> None:
    sample, ours, theirs = pair(np.random.default_rng(1), 8_000, noise=1.1)
    loss = -gain(metric, sample, ours, theirs).value  # the true loss, near enough
    assert loss > 0.005
    assert 0.02 < promoted(changed(OPEN, metric=metric, max_loss=loss), noise=1.1) < ALLOWED


@pytest.mark.slow
def test_a_model_that_loses_the_margin_on_one_slice_is_promoted_no_more_often_than_it_says() -> None:
    """Better by far on all rows together, and worse on one part by just its margin."""
    margin = -np.mean([gain("roc_auc", *pair(np.random.default_rng(s), 8_000, noise=1.1)).value for s in (1, 2, 3)])
    policy = changed(OPEN, slices={"part=a": float(margin)})
    random, runs, count = np.random.default_rng(7), 1500, 0
    for _ in range(runs):
        part = gain("roc_auc", *pair(random, DAYS, noise=1.1))
        shown = evidence(champion=champion(0.02), slices=(Slice("part=a", "part=a", part),))
        count += decide(shown, policy).promote
    assert 0.02 < count / runs < ALPHA + 0.01 + 2 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_days_taken_for_independent_rows_would_err_far_more_often() -> None:
    """The reason for clusters: the same pairs, judged as if every row stood alone."""
    random, count = np.random.default_rng(5), 0
    for _ in range(300):
        sample, ours, theirs = pair(random, DAYS, noise=0.8)
        alone = Sample(sample.labels, Clusters.rows(len(sample.labels)))
        count += gain("brier", alone, ours, theirs).lower(ALPHA) > 0
    assert count / 300 > 0.1


def test_a_refusal_says_that_the_champion_itself_is_worse_than_the_baseline() -> None:
    def weak(decision: GateVerdict) -> list[str]:
        return [note for note in decision.notes if "itself does worse than the naive baseline" in note]

    behind = evidence(over_baseline=Estimate(0.03, 0.01, 30.0), champion=champion(0.05))  # 0.02 below the baseline
    decision = decide(behind, POLICY)
    refused(decision, "against the baseline", "is needed")
    [note] = weak(decision)
    assert note.startswith("the champion (version 3) itself does worse than the naive baseline on these test rows, by ")
    assert "by 0.0200 ROC AUC: it stays" in note
    assert "`refit promote VERSION --why ...` replaces it" in note
    assert not weak(decide(behind, changed(POLICY, min_gain_over_baseline=0.0)))  # promoted: it does not stay
    assert not weak(decide(replace(behind, champion=champion(0.02)), POLICY))  # better than the baseline
    assert not weak(decide(replace(behind, champion=champion(math.nan)), POLICY))  # not measured
