"""Scores agree with their definitions and with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refit.errors import RefitError
from refit.metrics.f1_threshold import best_f1_threshold
from refit.problems import metric_named, problem_of

# Few distinct scores, so that ties are the rule.
PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@pytest.mark.ci
@given(PAIRS)
@settings(max_examples=40)
def test_scores_equal_those_of_scikit_learn_with_ties(pairs: list[tuple[int, int]]) -> None:
    from sklearn import metrics as theirs

    label = np.array([label for label, _ in pairs])
    p = np.array([score for _, score in pairs]) / 8
    ours = problem_of("binary").scores(label, p, 0.5)
    assert ours["roc_auc"] == pytest.approx(theirs.roc_auc_score(label, p))
    assert ours["average_precision"] == pytest.approx(theirs.average_precision_score(label, p))
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(label, np.clip(p, 1e-15, 1 - 1e-15)))
    assert ours["brier"] == pytest.approx(theirs.brier_score_loss(label, p))
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(label, p >= 0.5))
    assert ours["f1"] == pytest.approx(theirs.f1_score(label, p >= 0.5, zero_division=0))
    assert ours["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(label, p >= 0.5))
    assert ours["mcc"] == pytest.approx(theirs.matthews_corrcoef(label, p >= 0.5))


@pytest.mark.ci
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(0, 8)), min_size=3, max_size=40))
@settings(max_examples=40)
def test_scores_of_several_classes_equal_those_of_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    from sklearn import metrics as theirs

    label = np.array([0, 1, 2] + [truth for truth, _, _ in rows])  # scikit-learn wants every class
    raw = np.array([[1, 1, 1]] * 3 + [[1 + a, 1 + b, 2] for _, a, b in rows], dtype=np.float64)
    p = raw / raw.sum(axis=1, keepdims=True)
    called = p.argmax(axis=1)
    ours = problem_of("multiclass").scores(label, p)
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(label, p))
    assert ours["brier"] == pytest.approx(theirs.brier_score_loss(label, p, scale_by_half=False))
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(label, called))
    assert ours["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(label, called))
    assert ours["f1_macro"] == pytest.approx(theirs.f1_score(label, called, average="macro", zero_division=0))
    assert ours["mcc"] == pytest.approx(theirs.matthews_corrcoef(label, called))
    assert ours["roc_auc_ovr"] == pytest.approx(theirs.roc_auc_score(label, p, multi_class="ovr"))


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=3, max_size=40))
def test_scores_of_numbers_equal_those_of_scikit_learn(rows: list[tuple[float, float]]) -> None:
    from sklearn import metrics as theirs

    label = np.array([500.0, -400.0, *(truth if abs(truth) > 1 else 7.0 for truth, _ in rows)])
    predicted = np.array([3.0, 4.0, *(guess for _, guess in rows)])
    ours = problem_of("regression").scores(label, predicted)
    assert ours["mae"] == pytest.approx(theirs.mean_absolute_error(label, predicted))
    assert ours["rmse"] == pytest.approx(theirs.root_mean_squared_error(label, predicted))
    assert ours["mape"] == pytest.approx(theirs.mean_absolute_percentage_error(label, predicted))
    assert ours["r2"] == pytest.approx(theirs.r2_score(label, predicted))


def test_a_share_of_a_label_that_is_zero_is_not_finite_and_a_constant_label_has_no_r2() -> None:
    assert not np.isfinite(problem_of("regression").score("mape", [0.0, 1.0], [1.0, 1.0]))
    assert not np.isfinite(problem_of("regression").score("r2", [2.0, 2.0], [1.0, 2.0]))


def test_a_class_that_the_model_does_not_know_is_counted_as_wrong() -> None:
    sure = [[1.0, 0.0], [0.0, 1.0]]
    assert problem_of("multiclass").score("accuracy", [0, -1], sure) == 0.5
    assert problem_of("multiclass").score("brier", [0, -1], sure) == 1.0
    assert problem_of("multiclass").score("log_loss", [0, -1], sure) == pytest.approx(-np.log(1e-15) / 2)


@given(PAIRS, st.randoms(use_true_random=False))
def test_no_score_depends_on_the_order_of_rows(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        problem_of("binary").scores([label for label, _ in rows], [score / 8 for _, score in rows])
        for rows in (pairs, shuffled)
    )
    assert one == pytest.approx(other)


@given(PAIRS)
def test_no_threshold_has_a_better_f1_than_the_best_one(pairs: list[tuple[int, int]]) -> None:
    label, p = np.array(pairs).T

    def f1(threshold: float) -> float:
        return problem_of("binary").score("f1", label, p / 8, threshold)

    best = f1(best_f1_threshold(label, p / 8))
    assert best == pytest.approx(max(f1(threshold) for threshold in np.unique(p / 8)))


def test_a_model_that_is_sure_of_all_rows_finds_new_ones_too() -> None:
    threshold = best_f1_threshold([0, 1, 0, 1], [1e-5, 0.99999, 2e-5, 0.99998])
    assert problem_of("binary").score("f1", np.array([0, 1]), np.array([1e-4, 0.9997]), threshold) == 1
    assert best_f1_threshold([1, 0], [0.5, np.nextafter(0.5, 0)]) == 0.5


def test_a_calibrated_prediction_has_no_calibration_error_and_a_shifted_one_its_shift() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(0.2, 0.6, 200_000)
    label = (random.random(200_000) < p).astype(int)
    assert problem_of("binary").score("calibration_error", label, p) < 0.005
    assert problem_of("binary").score("calibration_error", label, p + 0.1) == pytest.approx(0.1, abs=0.005)


def test_one_class_has_no_ranking_score() -> None:
    found = problem_of("binary").scores([0, 0], [0.0, 0.0])
    assert np.isnan([found["roc_auc"], found["average_precision"]]).all()
    assert found["brier"] == 0


def test_rows_whose_probabilities_are_not_finite_are_counted_once() -> None:
    shares = np.full((2, 3), np.nan)
    with pytest.raises(RefitError, match="2 of 2 predictions are not finite"):
        problem_of("multiclass", ("a", "b", "c")).scores([0, 1], shares)


@pytest.mark.parametrize(
    ("label", "p", "said"),
    [
        ([0, 1], [0.5, np.nan], "1 of 2 predictions are not finite"),
        ([0, 1], [0.5], "as many predictions as labels"),
        ([], [], "one at least"),
    ],
)
def test_what_cannot_be_scored_is_an_error(label: list[int], p: list[float], said: str) -> None:
    with pytest.raises(RefitError, match=said):
        problem_of("binary").scores(label, p)


def test_gain_is_positive_where_the_new_score_is_better() -> None:
    assert metric_named("roc_auc").gain(0.8, 0.7) > 0
    assert metric_named("brier").gain(0.1, 0.2) > 0
