"""Scores agree with their definitions and with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import metrics
from tasks.errors import RefitError

# Few distinct scores, so that ties are the rule.
PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@settings(deadline=None)
@given(PAIRS)
def test_scores_equal_those_of_scikit_learn_with_ties(pairs: list[tuple[int, int]]) -> None:
    from sklearn import metrics as theirs

    label = np.array([label for label, _ in pairs])
    p = np.array([score for _, score in pairs]) / 8
    ours = metrics.scores("binary", label, p, 0.5)
    assert ours["roc_auc"] == pytest.approx(theirs.roc_auc_score(label, p))
    assert ours["average_precision"] == pytest.approx(theirs.average_precision_score(label, p))
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(label, np.clip(p, 1e-15, 1 - 1e-15)))
    assert ours["brier"] == pytest.approx(theirs.brier_score_loss(label, p))
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(label, p >= 0.5))
    assert ours["f1"] == pytest.approx(theirs.f1_score(label, p >= 0.5, zero_division=0))


@given(PAIRS, st.randoms(use_true_random=False))
def test_no_score_depends_on_the_order_of_rows(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        metrics.scores("binary", [label for label, _ in rows], [score / 8 for _, score in rows])
        for rows in (pairs, shuffled)
    )
    assert one == pytest.approx(other)


@given(PAIRS)
def test_no_threshold_has_a_better_f1_than_the_best_one(pairs: list[tuple[int, int]]) -> None:
    label, p = np.array(pairs).T
    best = metrics.f1(label, p / 8, metrics.best_f1_threshold(label, p / 8))
    assert best == pytest.approx(max(metrics.f1(label, p / 8, threshold) for threshold in np.unique(p / 8)))


def test_a_calibrated_prediction_has_no_calibration_error_and_a_shifted_one_its_shift() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(0.2, 0.6, 200_000)
    label = (random.random(200_000) < p).astype(int)
    assert metrics.calibration_error(label, p) < 0.005
    assert metrics.calibration_error(label, p + 0.1) == pytest.approx(0.1, abs=0.005)


def test_one_class_has_no_ranking_score() -> None:
    assert np.isnan(metrics.roc_auc([0, 0], [0.1, 0.2]))
    assert np.isnan(metrics.average_precision([0, 0], [0.1, 0.2]))
    assert metrics.brier([0, 0], [0.0, 0.0]) == 0


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
        metrics.scores("binary", label, p)


def test_gain_is_positive_where_the_new_score_is_better() -> None:
    assert metrics.gain("roc_auc", 0.8, 0.7) > 0
    assert metrics.gain("brier", 0.1, 0.2) > 0
