"""A window is judged by its skill against the backtest's spread: hard times pass, lost skill does not."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.drift.estimation import expected_metric
from refit.drift.measures import ScoredRows, skill
from refit.drift.performance import Backtest, backtest, judge_window, lasting_loss
from refit.drift.performance import whole_windows as cut
from refit.learners.calibration import fit_sigmoid
from refit.problems import problem_of
from refit.schemas.drift_decision import DayWindow, DecisionPolicy, PerformanceVerdict

START, DAYS, ROWS = date(2013, 9, 2), 63, 300
POLICY = DecisionPolicy.of(DriftParams(), EvaluateParams())
NEXT = DayWindow(first=START + timedelta(days=DAYS), end=START + timedelta(days=DAYS + 7))
ALL: tuple[str, ...] = ("roc_auc", "average_precision", "log_loss", "brier", "accuracy_at_half")


def changed(**changes: object) -> DecisionPolicy:
    """The default policy with changes."""
    return DecisionPolicy.model_validate({**POLICY.model_dump(), **changes})


def scored(
    first: date, days: int, seed: int, *, signal: float = 1.2, rate: float = -1.5, rows: int = ROWS
) -> ScoredRows:
    """Rows whose predictions are right about a signal of 1.2; days are alike, but for their luck."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(np.datetime64(first), np.datetime64(first) + days), rows)
    x = random.normal(size=len(day))
    luck = np.repeat(random.normal(0, 0.1, days), rows)
    labels = random.random(len(day)) < 1 / (1 + np.exp(-(rate + signal * x + luck)))
    return ScoredRows(day, 1 / (1 + np.exp(1.5 - 1.2 * x)), labels.astype(float))


@pytest.fixture(scope="module")
def usual() -> Backtest:
    return backtest(scored(START, DAYS, 1), POLICY)


def judged(usual: Backtest, observed: ScoredRows, policy: DecisionPolicy = POLICY) -> PerformanceVerdict:
    return judge_window(usual, observed, NEXT, policy)


def test_a_window_like_the_backtest_is_not_breached_and_shows_its_numbers(usual: Backtest) -> None:
    verdict = judged(usual, scored(NEXT.first, 7, 2))
    assert not verdict.breached
    assert verdict.judged
    assert verdict.calibrated
    assert verdict.lower is not None
    assert verdict.skill is not None
    assert verdict.lower < verdict.skill < (verdict.upper or 0)
    assert verdict.value == pytest.approx(verdict.skill + 0.5)
    assert (verdict.rows, verdict.labelled, verdict.waiting_share) == (7 * ROWS, 7 * ROWS, 0)
    assert "the mean of the backtest's 9 windows is" in verdict.reasons[0]


def test_lost_skill_is_a_breach_with_its_numbers(usual: Backtest) -> None:
    verdict = judged(usual, scored(NEXT.first, 7, 2, signal=0.3))
    assert verdict.breached
    assert verdict.skill is not None
    assert verdict.threshold is not None
    assert verdict.skill < verdict.threshold
    assert f", below {verdict.threshold:.3f}" in verdict.reasons[0]


@pytest.mark.parametrize("metric", ["log_loss", "brier", "average_precision"])
def test_a_hard_month_is_not_a_stale_model(metric: str) -> None:
    """Twice as many positives double the loss; the naive guess of that window knows them too."""
    policy = changed(metric=metric, min_skill_loss=0.0)
    before = scored(START, DAYS, 1)
    calm = backtest(before, policy)
    harder = scored(NEXT.first, 7, 3, rate=-0.9)
    right = replace(harder, predictions=1 / (1 + np.exp(0.9 - 1.2 * _signal(harder))))  # it knows the rate by a feature
    worse = problem_of("binary").score(metric, right.labels, right.predictions) - problem_of("binary").score(
        metric, before.labels, before.predictions
    )
    assert abs(worse) > 0.03
    assert not judged(calm, right, policy).breached


def _signal(rows: ScoredRows) -> np.ndarray:
    return (np.log(rows.predictions / (1 - rows.predictions)) + 1.5) / 1.2


def test_a_loss_too_small_to_matter_is_no_breach_however_sure(usual: Backtest) -> None:
    slightly = scored(NEXT.first, 7, 2, signal=0.9, rows=20_000)
    sharp = changed(min_skill_loss=0.0)
    exact = replace(usual, skills=tuple(replace(each, value=0.28, standard_error=0.0) for each in usual.skills))
    assert judged(exact, slightly, sharp).breached
    assert not judged(exact, slightly, changed(min_skill_loss=0.1)).breached


def test_a_large_loss_within_the_spread_of_the_backtest_is_no_breach(usual: Backtest) -> None:
    wild = replace(
        usual,
        others={},
        skills=tuple(replace(each, value=0.28 + 0.1 * (-1) ** i) for i, each in enumerate(usual.skills)),
    )
    loss = scored(NEXT.first, 7, 2, signal=0.6)
    assert judged(usual, loss).breached
    assert not judged(wild, loss).breached


def test_fewer_labels_than_the_backtest_had_widen_what_counts_as_chance(usual: Backtest) -> None:
    policy = changed(min_labelled_rows=50)
    full = judged(usual, scored(NEXT.first, 7, 2), policy)
    few = judged(usual, scored(NEXT.first, 7, 2, rows=20), policy)
    assert few.threshold is not None
    assert full.threshold is not None
    assert few.threshold < full.threshold - 0.01


def test_too_few_windows_are_uncalibrated_and_never_breached() -> None:
    short = backtest(scored(START, 55, 1), POLICY)
    assert len(short.skills) == 7
    verdict = judged(short, scored(NEXT.first, 7, 2, signal=0.0))
    assert not verdict.breached
    assert not verdict.calibrated
    assert verdict.expected is not None
    assert (
        "uncalibrated: the backtest holds 7 whole windows, 8 are needed to tell a loss from chance" in verdict.reasons
    )


def test_too_few_labels_are_not_judged_and_said_so(usual: Backtest) -> None:
    rows = scored(NEXT.first, 7, 2, signal=0.0)
    waiting = replace(rows, labels=np.where(np.arange(len(rows.labels)) < 499, rows.labels, math.nan))
    verdict = judged(usual, waiting)
    assert not verdict.judged
    assert not verdict.breached
    assert verdict.reasons[0] == "not judged: 499 of 2,100 rows are labelled, 500 are needed"
    assert verdict.waiting_share == pytest.approx(1601 / 2100)
    one_more = replace(rows, labels=np.where(np.arange(len(rows.labels)) < 500, rows.labels, math.nan))
    assert judged(usual, one_more).judged
    assert "76% of 2,100 rows still wait for their label" in judged(usual, one_more).reasons


def test_one_class_only_is_not_judged(usual: Backtest) -> None:
    rows = scored(NEXT.first, 7, 2)
    verdict = judged(usual, replace(rows, labels=np.zeros(len(rows.labels))))
    assert not verdict.judged
    assert verdict.reasons[0] == "not judged: all 2,100 rows are 0; both classes are needed"


def test_an_empty_window_is_not_judged(usual: Backtest) -> None:
    verdict = judged(usual, scored(START, 7, 2))  # rows of another time
    assert (verdict.rows, verdict.judged, verdict.breached, verdict.estimated) == (0, False, False, None)
    assert verdict.reasons == ("not judged: no row was scored in it",)


def test_predictions_that_are_no_numbers_are_not_judged(usual: Backtest) -> None:
    rows = scored(NEXT.first, 7, 2)
    verdict = judged(usual, replace(rows, predictions=np.where(rows.labels == 1, math.nan, rows.predictions)))
    assert not verdict.judged
    assert "predictions are not finite numbers" in verdict.reasons[0]


def test_a_backtest_without_both_classes_expects_nothing() -> None:
    rows = scored(START, DAYS, 1)
    empty = backtest(replace(rows, labels=np.zeros(len(rows.labels))), POLICY)
    verdict = judged(empty, scored(NEXT.first, 7, 2))
    assert (verdict.breached, verdict.expected, verdict.estimated) == (False, None, None)


def test_a_window_of_the_backtest_that_production_would_not_judge_counts_for_nothing() -> None:
    rows = scored(START, DAYS, 1)
    first_week = rows.days < np.datetime64(START) + 7
    thin = replace(rows, labels=np.where(first_week & (np.arange(len(rows.days)) > 400), math.nan, rows.labels))
    assert len(backtest(thin, POLICY).skills) == 8


def test_windows_of_the_backtest_are_whole_and_of_productions_length() -> None:
    days = np.arange("2013-10-01", "2013-12-01", dtype="datetime64[D]")
    weeks = cut(days, "week")
    assert len(weeks) == 8
    assert weeks[-1] == DayWindow(first=date(2013, 11, 24), end=date(2013, 12, 1))
    assert [window.first for window in cut(days, "month")] == [date(2013, 10, 1), date(2013, 11, 1)]
    assert [window.first for window in cut(days[3:-3], "month")] == []
    assert len(cut(days, "day")) == 61


@pytest.mark.parametrize("metric", ALL)
def test_a_constant_prediction_has_no_skill_and_the_truth_has_all(metric: str) -> None:
    rows = scored(START, 14, 1)
    naive = replace(rows, predictions=np.full(len(rows.labels), rows.labels.mean()))
    assert skill(metric, naive).value == pytest.approx(0, abs=1e-12)
    best = {"roc_auc": 0.5, "average_precision": 1 - rows.labels.mean()}.get(metric, 1.0)
    assert skill(metric, replace(rows, predictions=rows.labels)).value == pytest.approx(best)


def test_the_interval_is_clustered_by_day() -> None:
    """Days that share luck tell less than their rows: between days the skill moves more than rows by themselves do."""
    alike = scored(START, 14, 1)
    day = (alike.days - alike.days[0]).astype(int)
    lucky = replace(alike, predictions=np.where(day % 2, alike.predictions, 0.2))
    alone = replace(lucky, days=lucky.days[0] + np.random.default_rng(0).permutation(day))
    assert skill("brier", lucky).standard_error > 2 * skill("brier", alone).standard_error


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("ties", [False, True])
def test_the_expected_metric_is_the_mean_of_simulated_ones(metric: str, ties: bool) -> None:
    random = np.random.default_rng(7)
    predictions = random.beta(1.5, 4, 1500)
    predictions = np.round(predictions, 1).clip(0.05, 0.95) if ties else predictions
    truth = predictions**1.3
    drawn = [problem_of("binary").score(metric, random.random(1500) < truth, predictions) for _ in range(400)]
    error = np.std(drawn) / 20
    assert expected_metric(metric, predictions, truth) == pytest.approx(np.mean(drawn), abs=4 * error + 3e-4)


@pytest.mark.parametrize("metric", ["roc_auc", pytest.param("average_precision", marks=pytest.mark.slow)])
def test_of_few_and_tied_rows_it_is_the_expected_numerator_over_the_expected_denominator(metric: str) -> None:
    random = np.random.default_rng(8)
    predictions = np.repeat([0.2, 0.5, 0.8], 4)
    above = below = 0.0
    for _ in range(20_000):
        labels = random.random(12) < predictions
        weight = labels.sum() * ((~labels).sum() if metric == "roc_auc" else 1)
        above, below = (
            above + (problem_of("binary").score(metric, labels, predictions) * weight if weight else 0),
            below + weight,
        )
    assert expected_metric(metric, predictions, predictions) == pytest.approx(above / below, abs=0.004)


def test_calibration_finds_the_line_that_labels_were_drawn_from() -> None:
    random = np.random.default_rng(3)
    odds = random.normal(-1, 1.5, 60_000)
    labels = (random.random(60_000) < 1 / (1 + np.exp(-(0.6 * odds + 0.4)))).astype(float)
    found = fit_sigmoid(1 / (1 + np.exp(-odds)), labels)
    assert found.slope == pytest.approx(0.6, abs=0.03)
    assert found.intercept == pytest.approx(0.4, abs=0.04)


@pytest.mark.parametrize("predictions", [[0.3] * 6, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]])
def test_calibration_has_an_answer_for_constant_and_for_separable_predictions(predictions: list[float]) -> None:
    labels = np.array([0.0, 0, 0, 1, 1, 1])
    p = fit_sigmoid(np.array(predictions), labels).probabilities(np.array(predictions))
    assert p.mean() == pytest.approx(0.5, abs=1e-3)
    assert 0.1 < p.min() <= p.max() < 0.9


def test_without_labels_the_metric_is_estimated_and_with_them_the_estimates_error_is_told(usual: Backtest) -> None:
    rows = scored(NEXT.first, 7, 2)
    verdict = judged(usual, replace(rows, labels=np.full(len(rows.labels), math.nan)))
    assert verdict.estimated == pytest.approx(
        problem_of("binary").score("roc_auc", rows.labels, rows.predictions), abs=0.03
    )
    assert verdict.estimate_error is None
    assert not verdict.suspected
    later = judged(usual, rows)
    assert later.estimate_error == pytest.approx((later.estimated or 0) - (later.value or 0))
    assert f"{abs(later.estimate_error or 0):.3f} too " in later.reasons[-1]


def test_rows_that_became_harder_are_suspected_without_labels_and_never_breached(usual: Backtest) -> None:
    rows = scored(NEXT.first, 7, 2)
    narrow = replace(rows, predictions=0.2 + (rows.predictions - 0.2) * 0.2, labels=np.full(len(rows.labels), math.nan))
    verdict = judged(usual, narrow)
    assert verdict.suspected
    assert not verdict.breached
    assert "lower than the backtest lets expect" in verdict.reasons[-1]
    assert not judged(usual, replace(narrow, labels=rows.labels)).suspected  # what the labels say counts


def test_an_estimate_does_not_see_a_change_of_concept(usual: Backtest) -> None:
    rows = scored(NEXT.first, 7, 2, signal=-1.2)
    blind = judged(usual, replace(rows, labels=np.full(len(rows.labels), math.nan)))
    assert not blind.suspected
    assert judged(usual, rows).breached
    assert (judged(usual, rows).estimate_error or 0) > 0.3


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_the_skill_of_numbers_and_classes_is_the_share_of_a_refitted_guess_and_its_error_refits_it_too(
    task: Any,
) -> None:
    random = np.random.default_rng(3)
    days = np.repeat(np.arange("2024-01-01", "2024-01-08", dtype="datetime64[D]"), 40)
    target = problem_of(task, ("a", "b", "c") if task == "multiclass" else ())
    if task == "regression":
        labels = random.normal(50, 4, 280)
        predictions, metric = labels + random.normal(0, 2, 280), "mae"
    else:
        labels = random.integers(0, 3, 280).astype(float)
        raw = np.exp(1.5 * np.eye(3)[labels.astype(int)] + random.normal(0, 0.5, (280, 3)))
        predictions, metric = raw / raw.sum(axis=1, keepdims=True), "log_loss"

    def by_hand(rows: Any) -> float:
        known = labels[rows].astype(target.dtype)
        guess = target.guess(target.naive(known, metric), len(known))
        return 1 - problem_of(task).score(metric, known, predictions[rows]) / problem_of(task).score(
            metric, known, guess
        )

    found = skill(metric, ScoredRows(days, predictions, labels, target))
    without = np.array([by_hand(days != day) for day in np.unique(days)])
    assert found.value == pytest.approx(by_hand(np.full(280, True)))
    assert found.standard_error == pytest.approx(np.sqrt(6 / 7 * ((without - found.value) ** 2).sum()))
    assert 0.3 < found.value < 1


def test_average_precision_over_more_days_than_it_leaves_out_one_by_one_has_an_error_too() -> None:
    random = np.random.default_rng(3)
    days = np.repeat(np.datetime64("2023-01-01") + np.arange(250), 4)
    found = skill("average_precision", ScoredRows(days, random.random(1000), np.arange(1000.0) % 2))
    assert abs(found.value) < 4 * found.standard_error < 0.2


def test_numbers_have_no_estimate_without_labels_and_it_is_said() -> None:
    random = np.random.default_rng(4)
    days = np.repeat(np.arange("2024-01-01", "2024-03-25", dtype="datetime64[D]"), 30)
    labels = random.normal(50, 4, len(days))
    past = ScoredRows(days, labels + random.normal(0, 2, len(days)), labels, problem_of("regression"))
    policy = changed(metric="mae", min_labelled_rows=50)
    reference = backtest(past, policy)
    assert reference.calibration is None
    waiting = np.where(np.arange(len(days)) % 2, labels, np.nan)
    window = DayWindow(first=date(2024, 3, 18), end=date(2024, 3, 25))
    verdict = judge_window(reference, replace(past, labels=waiting), window, policy)
    assert verdict.judged
    assert verdict.estimated is None
    assert any("estimated for binary tasks alone" in reason for reason in verdict.reasons)
    stale = replace(past, predictions=past.predictions + 20)
    assert judge_window(reference, stale, window, policy).breached


@pytest.mark.parametrize("task", ["anomaly", "clustering", "reduction", "association", "reinforcement"])
def test_a_kind_whose_naive_guess_needs_the_features_is_not_judged_and_the_reason_is_stated(task: str) -> None:
    rows, problem = scored(START, DAYS, 1), problem_of(task)
    policy = changed(metric=problem.default_metric)
    labels = rows.labels if problem.labelled else np.zeros(len(rows.labels))  # as tables of other kinds have them
    rows = replace(rows, predictions=np.ones(problem.shape(len(labels))), labels=labels, problem=problem)
    reference = backtest(rows, policy)
    assert reference.windows == ()
    verdict = judge_window(reference, rows, cut(rows.days, "week")[-1], policy)
    assert not verdict.breached
    assert verdict.reasons[0].startswith(f"not judged: the naive guess of task {task!r} is of the features")


def test_probabilities_that_came_to_mean_something_else_are_a_breach_that_a_metric_of_ranks_does_not_see(
    usual: Backtest,
) -> None:
    rows = scored(NEXT.first, 7, 2)
    odds = np.log(rows.predictions / (1 - rows.predictions))
    bold = replace(rows, predictions=1 / (1 + np.exp(-(2 * odds + 1.5))))  # the same ranks
    verdict = judged(usual, bold)
    assert verdict.skill is not None
    assert verdict.threshold is not None
    assert verdict.skill > verdict.threshold
    assert {each.name: each.breached for each in verdict.others} == {"brier": True, "calibration": True}
    assert verdict.breached
    assert "calibration error" in verdict.reasons[0]
    assert "skill by brier" in verdict.reasons[0]


def test_fewer_rows_do_not_look_badly_calibrated(usual: Backtest) -> None:
    policy = changed(min_labelled_rows=50)
    verdicts = [judged(usual, scored(NEXT.first, 7, seed, rows=20), policy) for seed in range(2, 12)]
    assert not any(each.breached for verdict in verdicts for each in verdict.others if each.name == "calibration")


def test_bad_weeks_of_the_backtest_are_not_usual() -> None:
    good, bad = scored(START, 28, 1), scored(START + timedelta(days=28), 35, 3, signal=-0.5)
    joined = ScoredRows(
        *(np.concatenate([getattr(good, n), getattr(bad, n)]) for n in ("days", "predictions", "labels"))
    )
    reference = backtest(joined, POLICY)
    assert [window.first for window in reference.excluded] == [START + timedelta(days=28 + 7 * i) for i in range(5)]
    assert judged(reference, scored(NEXT.first, 7, 4, signal=0.1)).breached
    assert not judged(reference, scored(NEXT.first, 7, 2)).breached


def test_a_small_loss_is_shown_by_all_windows_together_with_its_beginning(usual: Backtest) -> None:
    rows = scored(NEXT.first, 56, 5, signal=0.85)
    windows = cut(rows.days, "week")
    verdicts = [judge_window(usual, rows, window, POLICY) for window in windows]
    found = lasting_loss(usual, verdicts, POLICY, windows)
    assert found is not None
    assert found.shown
    assert found.since == NEXT.first
    assert found.limit == pytest.approx(90 / 7)
    same = scored(NEXT.first, 56, 6)
    calm = lasting_loss(usual, [judge_window(usual, same, window, POLICY) for window in windows], POLICY, windows)
    assert calm is not None
    assert not calm.shown
    assert lasting_loss(usual, verdicts, changed(false_alarm_days=None), windows) is None
    assert not lasting_loss(usual, verdicts, changed(min_skill_loss=0.2), windows).shown  # type: ignore[union-attr]
