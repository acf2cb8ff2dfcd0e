"""Each rule of the decision, by the one piece of evidence that it turns on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from refit.config import DriftParams
from refit.drift.retrain_decision import DriftEvidence, RetrainDecision, decide
from refit.schemas.drift_decision import (
    ColumnDrift,
    DayWindow,
    InputVerdict,
    LastingLoss,
    PerformanceVerdict,
    Separation,
)

NOW = datetime(2013, 12, 4, tzinfo=UTC)
POLICY = DriftParams()
SOUND = DriftEvidence(as_of=NOW, trained_as_of=NOW - timedelta(days=20), new_labelled=18_000)


def changed(**changes: object) -> DriftParams:
    """The default policy with changes."""
    return DriftParams.model_validate({**POLICY.model_dump(), **changes})


def week(back: int) -> DayWindow:
    end = date(2013, 12, 2) - timedelta(weeks=back)
    return DayWindow(first=end - timedelta(days=7), end=end)


def performance(*breached: bool, labelled: int = 6_000, **changes: object) -> tuple[PerformanceVerdict, ...]:
    """One verdict a week, the newest last."""
    return tuple(
        PerformanceVerdict(
            metric="roc_auc",
            rows=6_000,
            labelled=labelled,
            value=0.6 if each else 0.7,
            skill=0.1 if each else 0.2,
            lower=0.08,
            upper=0.22,
            expected=0.21,
            spread=0.01,
            threshold=0.18,
            estimated=0.7,
            suspected=False,
            breached=each,
            reasons=("skill below 0.180" if each else "skill not below 0.180", "another sentence"),
        ).model_copy(update=changes)
        for each in breached
    )


def column(name: str, breached: bool, **effects: float) -> ColumnDrift:
    return ColumnDrift(
        column=name,
        kind="number",
        effects=effects,
        thresholds=dict.fromkeys(effects, 0.1),
        p=0.5,
        breached=breached,
    )


def inputs(*drifted: str, calibrated: bool = True, names: str = "abc") -> tuple[InputVerdict, ...]:
    """One verdict a week, each naming its drifted columns out of `names`; none where there was no row to judge."""
    return tuple(
        InputVerdict(
            rows=6_000 if names else 0,
            calibrated=calibrated,
            reference_windows=9,
            columns=tuple(column(name, name in each, psi=0.2) for name in names),
            breached=bool(each),
            reasons=(f"{len(each)} of 3 columns moved",),
        )
        for each in drifted
    )


def separation(p: float | None) -> Separation:
    return Separation(auc=0.71, usual=(0.55, 0.57), p=p)


def decided(
    policy: DriftParams = POLICY,
    *,
    performance: tuple[PerformanceVerdict, ...] = (),
    inputs: tuple[InputVerdict, ...] = (),
    **changes: object,
) -> RetrainDecision:
    """The decision on one window a week, the newest last."""
    weeks = max(len(performance), len(inputs))
    windows = tuple(week(weeks - 1 - i) for i in range(weeks))
    return decide(replace(SOUND, windows=windows, performance=performance, inputs=inputs, **changes), policy)


def says(decision: RetrainDecision, *words: str) -> bool:
    return any(all(word in reason for word in words) for reason in decision.reasons)


def test_nothing_to_judge_is_ok_and_says_so() -> None:
    decision = decided()
    assert decision == RetrainDecision("ok", ("nothing to judge yet: no window holds rows that the model has scored",))


def test_calm_windows_are_ok_and_show_what_was_looked_at() -> None:
    decision = decided(performance=performance(False, False, False), inputs=inputs("", "", ""))
    assert (decision.verdict, decision.causes, decision.blocked) == ("ok", (), ())
    assert decision.reasons == (
        "performance: 2013-11-25 to 2013-12-01: skill not below 0.180",
        "input: 2013-11-25 to 2013-12-01: 0 of 3 columns moved",
    )


def test_a_loss_that_lasts_retrains() -> None:
    decision = decided(performance=performance(True, False, True))
    assert (decision.verdict, decision.causes) == ("retrain", ("performance",))
    assert decision.reasons[0] == (
        "performance: 2 of the newest 3 judged windows are breached, 2 ask for a retraining; "
        "2013-11-25 to 2013-12-01: skill below 0.180"
    )


def test_a_single_breached_window_is_named_and_asks_for_nothing() -> None:
    decision = decided(performance=performance(False, False, True))
    assert decision.verdict == "ok"
    assert says(decision, "1 of the newest 3 judged windows is breached, 2 ask")


def test_the_newest_window_must_be_among_the_breached() -> None:
    decision = decided(performance=performance(True, True, False))
    assert decision.verdict == "ok"
    assert says(decision, "if the newest is among them, and it is not")


def test_windows_older_than_the_newest_n_do_not_count() -> None:
    assert decided(performance=performance(True, False, False, True)).verdict == "ok"
    assert decided(changed(windows=4), performance=performance(True, False, False, True)).verdict == "retrain"


def test_windows_without_labels_are_passed_over_not_counted_as_sound() -> None:
    waiting = performance(False, labelled=0, skill=None, value=None)
    decision = decided(performance=(*performance(True, False, True), *waiting))
    assert decision.verdict == "retrain"


def test_a_performance_that_is_not_listed_warns_at_most() -> None:
    decision = decided(changed(retrain_on=("schedule",)), performance=performance(True, True, True))
    assert (decision.verdict, decision.causes) == ("warn", ())
    assert says(decision, "only if retrain_on lists performance")


def test_an_uncalibrated_window_says_so_and_asks_for_nothing() -> None:
    unsure = performance(False, False, threshold=None, reasons=("skill 0.100", "uncalibrated: 3 windows"))
    decision = decided(performance=unsure)
    assert decision.verdict == "ok"
    assert says(decision, "skill 0.100; uncalibrated: 3 windows")


def test_an_estimate_that_fell_warns_and_never_retrains() -> None:
    low = performance(False, labelled=0, skill=None, suspected=True, reasons=("not judged", "estimated lower"))
    decision = decided(performance=low)
    assert (decision.verdict, decision.causes) == ("warn", ())
    assert says(decision, "estimated lower")
    calm = performance(False, labelled=0, skill=None, reasons=("not judged: 0 of 6,000 rows are labelled",))
    assert decided(performance=calm).verdict == "ok"
    assert says(decided(performance=calm), "0 of 6,000 rows are labelled")


def test_drift_of_one_column_that_lasts_warns() -> None:
    decision = decided(inputs=inputs("a", "", "ab"))
    assert len(decision.reasons) == 1
    assert (decision.verdict, decision.causes) == ("warn", ())
    assert says(
        decision, "2 of 3 columns moved; in 2 or more of the newest 3 windows: a (2); retrain_on does not list input"
    )


def test_another_column_each_week_is_what_chance_looks_like() -> None:
    decision = decided(inputs=inputs("a", "b", "c"))
    assert decision.verdict == "ok"
    assert says(decision, "1 of 3 columns moved; none of them in 2 or more of the newest 3 windows")


def test_drift_that_ended_or_lies_long_back_is_ok() -> None:
    assert decided(inputs=inputs("a", "a", "")).verdict == "ok"
    assert decided(inputs=inputs("a", "", "", "a")).verdict == "ok"


def test_input_retrains_where_the_project_says_so_and_only_if_calibrated() -> None:
    policy = changed(retrain_on=("input",))
    assert decided(policy, inputs=inputs("a", "a", "a")).verdict == "retrain"
    assert decided(policy, inputs=inputs("a", "a", "a")).causes == ("input",)
    unsure = decided(policy, inputs=inputs("a", "a", "a", calibrated=False))
    assert (unsure.verdict, unsure.causes) == ("warn", ())
    assert says(unsure, "uncalibrated")


def test_an_empty_window_is_no_evidence() -> None:
    assert says(decided(inputs=inputs("", names="")), "nothing to judge yet")
    assert decided(inputs=(*inputs("a", "a"), *inputs("", names=""))).verdict == "warn"


def test_many_drifted_columns_are_counted_not_listed() -> None:
    many = tuple(f"column_{i}" for i in range(9))
    columns = tuple(column(name, True) for name in many)
    verdicts = tuple(each.model_copy(update={"columns": columns}) for each in inputs("a", "a"))
    assert says(decided(inputs=verdicts), "column_4 (2) and 4 others")


def test_a_classifier_that_tells_then_from_now_more_than_is_usual_warns_at_most() -> None:
    policy = changed(retrain_on=("input",))
    decision = decided(policy, inputs=inputs("", "", ""), multivariate=separation(0.004))
    assert (decision.verdict, decision.causes) == ("warn", ())
    assert says(decision, "ROC AUC 0.710, 0.560 is usual between windows of the reference (p 0.004)")
    usual = decided(policy, inputs=inputs("", "", ""), multivariate=separation(0.05))
    assert usual.verdict == "ok"
    assert says(usual, "(p 0.050)")
    unsure = decided(policy, inputs=inputs("", "", ""), multivariate=separation(None))
    assert unsure.verdict == "ok"
    assert says(unsure, "uncalibrated: 2 windows of the reference are too few")


@pytest.mark.parametrize(
    ("auc", "p", "verdict"),
    [(0.6, 0.009, "warn"), (0.9, 0.01, "ok"), (0.59, 1e-9, "ok")],
    ids=["far", "chance", "near"],
)
def test_embeddings_without_windows_warn_if_they_are_far_away_and_not_by_chance(
    auc: float, p: float, verdict: str
) -> None:
    policy = changed(retrain_on=("input",))
    separated = Separation(auc=auc, usual=(), p=None, p_exchangeable=p)
    decision = decided(policy, inputs=inputs("", "", ""), multivariate=separated)
    assert (decision.verdict, decision.causes) == (verdict, ())
    assert says(decision, f"(p {p:.3f} if rows are independent); uncalibrated: 0 windows of the reference are too few")


@pytest.mark.parametrize(("p", "verdict"), [(0.009, "warn"), (0.01, "ok"), (0.03, "ok")])
def test_a_classifier_warns_only_below_one_chance_in_a_hundred(p: float, verdict: str) -> None:
    assert decided(inputs=inputs(""), multivariate=separation(p)).verdict == verdict


@pytest.mark.parametrize(("age", "verdict"), [(29.9, "ok"), (30, "retrain")])
def test_the_schedule_retrains_when_it_is_due(age: float, verdict: str) -> None:
    decision = decided(trained_as_of=NOW - timedelta(days=age), performance=performance(False))
    assert decision.verdict == verdict
    assert decision.causes == (("schedule",) if verdict == "retrain" else ())


def test_what_was_not_watched_is_said_with_the_schedule_alone() -> None:
    young = decided(watched=False, trained_as_of=NOW - timedelta(days=29))
    due = "schedule: the newest version was trained {} days ago, a new one is due every 30"
    assert young == RetrainDecision("ok", (due.format("29.0"),))
    assert decided(watched=False, trained_as_of=NOW - timedelta(days=30)).reasons == (due.format("30.0"),)
    never = decided(changed(retrain_every_days=None), watched=False)
    assert never == RetrainDecision("ok", ("schedule: drift.retrain_every_days is null, so none is ever due",))
    unlisted = decided(changed(retrain_on=("performance",)), watched=False, trained_as_of=NOW)
    assert unlisted.verdict == "ok"


def test_a_window_without_rows_and_one_without_labels_are_told_in_a_sentence_each() -> None:
    decision = decided(
        inputs=inputs("", names=""),
        performance=performance(False, labelled=0, skill=None, suspected=True, reasons=("not judged", "lower")),
    )
    assert decision == RetrainDecision(
        "warn",
        (
            "performance: 2013-11-25 to 2013-12-01: not judged; lower",
            "input: 2013-11-25 to 2013-12-01: no row came; does the source still deliver?",
            "nothing to judge yet: no window holds rows that the model has scored",
        ),
    )


def test_a_cause_comes_first_and_what_warns_before_what_is_well() -> None:
    decision = decided(
        inputs=inputs("a", "a"), performance=performance(False, False), trained_as_of=NOW - timedelta(days=30)
    )
    assert decision == RetrainDecision(
        "retrain",
        (
            "schedule: the newest version was trained 30.0 days ago, a new one is due every 30",
            "input: 2013-11-25 to 2013-12-01: 1 of 3 columns moved; in 2 or more of the newest 2 windows: a (2); "
            "retrain_on does not list input",
            "performance: 2013-11-25 to 2013-12-01: skill not below 0.180",
        ),
        ("schedule",),
    )


def test_columns_that_drifted_most_often_are_named_first() -> None:
    decision = decided(inputs=inputs("b", "ab", "ab"))
    assert says(decision, "in 2 or more of the newest 3 windows: b (3), a (2); retrain_on")


def test_no_schedule_is_ever_due_that_is_not_asked_for() -> None:
    old = NOW - timedelta(days=900)
    assert decided(changed(retrain_every_days=None), trained_as_of=old).verdict == "ok"
    assert decided(changed(retrain_on=("performance",)), trained_as_of=old).verdict == "ok"


def test_the_cool_down_holds_a_retraining_back_and_says_so() -> None:
    stale = performance(True, True, True)
    decision = decided(performance=stale, retrained=(NOW - timedelta(days=6.5),))
    assert (decision.verdict, decision.causes) == ("warn", ("performance",))
    assert decision.blocked == ("the last retraining was decided 6.5 days ago, 7 lie between two",)
    assert decision.reasons[0] == f"held back: {decision.blocked[0]}"
    assert decided(performance=stale, retrained=(NOW - timedelta(days=7),)).verdict == "retrain"


def test_the_budget_holds_a_retraining_back_and_says_so() -> None:
    stale = performance(True, True, True)
    four = tuple(NOW - timedelta(days=days) for days in (8, 15, 22, 29))
    decision = decided(performance=stale, retrained=four)
    assert decision.verdict == "warn"
    assert decision.blocked == ("4 retrainings were decided within 30 days, the budget is 4",)
    assert decided(performance=stale, retrained=(*four[:3], NOW - timedelta(days=30))).verdict == "retrain"


def test_too_few_new_labels_hold_a_retraining_back_and_say_so() -> None:
    decision = decided(performance=performance(True, True), new_labelled=499)
    assert decision.verdict == "warn"
    assert decision.blocked == ("499 rows were labelled since the newest training, 500 are needed",)
    assert decided(performance=performance(True, True), new_labelled=500).verdict == "retrain"


def test_what_blocks_is_told_together_and_blocks_a_schedule_too() -> None:
    decision = decided(trained_as_of=NOW - timedelta(days=40), new_labelled=3, retrained=(NOW,))
    assert (decision.verdict, len(decision.blocked)) == ("warn", 2)


def test_where_nothing_asks_for_a_retraining_nothing_holds_one_back() -> None:
    decision = decided(performance=performance(False), new_labelled=3, retrained=(NOW,))
    assert (decision.verdict, decision.blocked) == ("ok", ())
    assert decision.reasons == ("performance: 2013-11-25 to 2013-12-01: skill not below 0.180",)


def test_of_an_uncalibrated_window_two_sentences_are_shown_and_of_another_one() -> None:
    three = ("one", "two", "three")
    for threshold, shown in ((0.18, "one"), (None, "one; two")):
        decision = decided(performance=performance(False, threshold=threshold, reasons=three))
        assert decision.reasons == (f"performance: 2013-11-25 to 2013-12-01: {shown}",)


def test_inputs_that_retrain_say_which_columns_moved_how_often() -> None:
    decision = decided(changed(retrain_on=("input",)), inputs=inputs("a", "", "a"))
    shown = "2013-11-25 to 2013-12-01: 1 of 3 columns moved; in 2 or more of the newest 3 windows: a (2)"
    assert decision == RetrainDecision("retrain", (f"input: {shown}",), ("input",))


def test_decisions_later_than_as_of_are_not_known_yet() -> None:
    later = (NOW + timedelta(days=1),) * 9
    assert decided(performance=performance(True, True), retrained=later).verdict == "retrain"


def test_every_cause_is_told() -> None:
    decision = decided(
        DriftParams(retrain_on=("performance", "schedule", "input")),
        trained_as_of=NOW - timedelta(days=31),
        performance=performance(True, True),
        inputs=inputs("a", "a"),
    )
    assert set(decision.causes) == {"performance", "schedule", "input"}


def lasting(evidence: float) -> LastingLoss:
    return LastingLoss(evidence=evidence, limit=13.0, measure="brier", since=date(2013, 11, 11), loss=0.04)


def test_a_loss_that_all_windows_together_show_retrains_though_none_is_breached() -> None:
    decision = decided(performance=performance(False, False, False), lasting=lasting(40.0))
    assert (decision.verdict, decision.causes, decision.since) == ("retrain", ("performance",), date(2013, 11, 11))
    assert says(decision, "skill by brier is worse by 0.040 since 2013-11-11", "40 times", "13 ask for a retraining")
    assert decided(performance=performance(False, False, False), lasting=lasting(12.9)).verdict == "ok"


def test_a_lasting_loss_warns_where_performance_is_not_listed() -> None:
    decision = decided(
        changed(retrain_on=("schedule",)), performance=performance(False, False, False), lasting=lasting(40.0)
    )
    assert (decision.verdict, decision.since) == ("warn", None)


@pytest.mark.parametrize(("trained_after", "now_after", "asks"), [(10, 19, False), (10, 20, True), (0, 7, True)])
def test_a_model_trained_across_a_change_is_trained_again_each_time_the_days_since_then_double(
    trained_after: int, now_after: int, asks: bool
) -> None:
    changed_on = NOW.date() - timedelta(days=now_after)
    told = {"changed": changed_on, "trained_as_of": NOW - timedelta(days=now_after - trained_after)}
    across = decided(learned_from=changed_on - timedelta(days=30), **told)
    assert (across.verdict == "retrain", across.since) == (asks, changed_on if asks else None)
    assert decided(learned_from=changed_on, **told).verdict == "ok"  # it learned from rows after the change alone
