"""Canaries: the private names of scikit-learn and Optuna that Refit uses are there and mean what they meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor

from refit.learners import sklearn_private

PRIVATE = (
    r"\._(predictors|bin_mapper|preprocess_X|encode_y|baseline_prediction|raw_predict_init|raw_predict|scorer|BinMapper)"
    r"\b"
)


@pytest.fixture(scope="module")
def boosting() -> tuple[Any, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 3))
    label = rows[:, 0] + random.normal(0, 0.1, 400)
    return HistGradientBoostingRegressor(max_iter=6, random_state=0).fit(rows, label), rows, label


def test_only_one_module_uses_them(root: Path) -> None:
    paths = [path for package in ("refit", "tasks") for path in (root / package).rglob("*.py")]
    users = {path.name for path in paths if re.search(PRIVATE, path.read_text())}
    assert users == {"sklearn_private.py"}


def test_the_trees_of_histogram_boosting_add_up_to_its_predictions(boosting: tuple[Any, ...]) -> None:
    model, rows, _ = boosting
    assert sklearn_private.is_histogram_boosting(model)
    assert not sklearn_private.is_histogram_boosting(GradientBoostingClassifier())
    trees = sklearn_private.histogram_trees(model)
    seen = sklearn_private.histogram_rows(model, rows)
    total = np.full(len(rows), sklearn_private.histogram_baseline(model)[0])
    for [tree] in trees:
        for index, row in enumerate(seen):
            node = tree.nodes[0]
            while not node["is_leaf"]:
                left = row[node["feature_idx"]] <= node["num_threshold"]
                node = tree.nodes[node["left"] if left else node["right"]]
            total[index] += node["value"]
    np.testing.assert_allclose(total, model.predict(rows), rtol=1e-12)


def test_a_shorter_one_is_the_one_fitted_with_fewer_trees_and_a_longer_one_begins_with_it(
    boosting: tuple[Any, ...],
) -> None:
    model, rows, label = boosting
    direct = HistGradientBoostingRegressor(max_iter=4, random_state=0).fit(rows, label)
    np.testing.assert_array_equal(sklearn_private.shortened(model, 4).predict(rows), direct.predict(rows))
    longer = sklearn_private.with_more_trees(model, rows[:100], -label[:100], 3)
    assert longer.n_iter_ == 9
    np.testing.assert_array_equal([*longer.staged_predict(rows)][5], model.predict(rows))
    assert model.n_iter_ == 6


def test_gradient_boosting_says_what_it_starts_from(boosting: tuple[Any, ...]) -> None:
    model, rows, label = boosting
    classifier = GradientBoostingClassifier(n_estimators=1, learning_rate=1e-12).fit(rows, label > 0.3)
    start = sklearn_private.boosting_start(classifier, rows)
    assert start is not None
    assert 1 / (1 + np.exp(-start[0])) == pytest.approx((label > 0.3).mean())
    assert sklearn_private.boosting_start(model, rows) is None


def test_a_pruners_notes_can_be_passed_on_to_another_study() -> None:
    import optuna

    study = optuna.create_study()
    trial = study.ask()
    study._storage.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.5)
    study.tell(trial, 1.0)
    assert study.trials[0].system_attrs["completed_rung_0"] == 0.5
