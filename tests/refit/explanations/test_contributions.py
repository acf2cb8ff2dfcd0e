"""What each feature adds to a prediction: with the base it adds up, whatever the learner, and nothing is misread."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.explanations import contributions, linear, sampling
from refit.explanations.encoded import encoded
from refit.explanations.shapley import Contributions
from refit.explanations.tree_reading import Tree, read
from refit.learners import Learner
from refit.learners.calibrated import Calibrated
from refit.learners.calibration import Sigmoid

Fit = Callable[..., Learner]
FEW = {"max_iter": 15}
KINDS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("trees", "binary", "sklearn.ensemble.HistGradientBoostingClassifier", FEW),
    ("trees", "multiclass", "sklearn.ensemble.HistGradientBoostingClassifier", FEW),
    ("trees", "regression", "sklearn.ensemble.HistGradientBoostingRegressor", FEW | {"loss": "poisson"}),
    ("trees", "multiclass", "sklearn.ensemble.RandomForestClassifier", {"n_estimators": 5}),
    ("trees", "regression", "sklearn.ensemble.ExtraTreesRegressor", {"n_estimators": 5}),
    ("trees", "binary", "sklearn.tree.DecisionTreeClassifier", {"max_depth": 4}),
    ("trees", "binary", "sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 10}),
    ("boosting library", "multiclass", "lightgbm.LGBMClassifier", {"n_estimators": 10}),
    ("boosting library", "regression", "lightgbm.LGBMRegressor", {"n_estimators": 10}),
    ("boosting library", "binary", "xgboost.XGBClassifier", {"n_estimators": 10}),
    ("boosting library", "multiclass", "xgboost.XGBClassifier", {"n_estimators": 10}),
    ("linear", "binary", "sklearn.linear_model.LogisticRegression", {}),
    ("linear", "multiclass", "sklearn.linear_model.LogisticRegression", {}),
    ("linear", "regression", "sklearn.linear_model.PoissonRegressor", {}),
    ("sampling", "multiclass", "sklearn.neighbors.KNeighborsClassifier", {}),
    ("sampling", "regression", "sklearn.svm.SVR", {}),
]


def predictions(found: Contributions, task: str) -> Any:
    """What the contributions add up to, as predictions."""
    total = found.base + found.values.sum(axis=1)
    if found.unit == "log":
        total = np.exp(total)
    if found.unit == "log-odds" and task == "binary":
        total = 1 / (1 + np.exp(-total))
    if found.unit == "log-odds" and task == "multiclass":
        total = np.exp(total) / np.exp(total).sum(axis=1, keepdims=True)
    return total if task == "multiclass" else total[:, 0]


@pytest.mark.parametrize(("method", "task", "kind", "params"), KINDS)
def test_contributions_add_up_the_planted_feature_comes_first_and_an_unused_one_adds_nothing(
    rows: pa.Table, fitted: Fit, method: str, task: str, kind: str, params: dict[str, Any]
) -> None:
    if kind.split(".")[0] in ("lightgbm", "xgboost"):
        pytest.importorskip(kind.split(".")[0])
    learner = fitted(task, kind, **params)
    found = contributions(learner, rows.slice(0, 60), rows.slice(200))
    assert found.method == method
    expected = learner.predict(rows.slice(0, 60).take(found.indices))
    assert predictions(found, task) == pytest.approx(expected, abs=1e-5, rel=1e-5)
    sizes = dict(zip(found.features, found.mean_size(), strict=True))
    assert max(sizes, key=lambda name: sizes[name]) == "strength"
    assert sizes["same"] == 0.0


def test_categories_and_gaps_get_what_every_order_of_the_features_gives_them(rows: pa.Table, fitted: Fit) -> None:
    learner: Any = fitted(
        "regression", "sklearn.ensemble.HistGradientBoostingRegressor", max_iter=3, min_samples_leaf=5
    )
    few = rows.slice(0, 8)
    found = contributions(learner, few, rows)
    estimator, given, columns = encoded(learner, few)
    trees = list(read(estimator, given, columns, learner.spec)[0])
    features = range(len(learner.spec.features))
    worth = {known: sum(expected(tree, set(known), 0) for tree in trees) for known in subsets(features)}
    for one in features:
        others = [each for each in features if each != one]
        slow = sum(
            math.factorial(len(known)) * math.factorial(len(others) - len(known)) / math.factorial(len(features))
            * (worth[tuple(sorted({*known, one}))] - worth[known])
            for known in subsets(others)
        )  # fmt: skip
        assert found.values[:, one, 0] == pytest.approx(slow, abs=1e-12)


def subsets(features: Any) -> list[tuple[int, ...]]:
    return [known for size in range(len(features) + 1) for known in itertools.combinations(features, size)]


def expected(tree: Tree, known: set[int], node: int) -> Any:
    """What a tree gives where only these features are known: elsewhere both ways, by the rows that went them."""
    if tree.left[node] < 0:
        return np.full(tree.goes_left.shape[1], tree.value[node, 0])
    left, right = (expected(tree, known, int(child)) for child in (tree.left[node], tree.right[node]))
    if int(tree.feature[node]) in known:
        return np.where(tree.goes_left[node], left, right)
    share = tree.weight[tree.left[node]] / tree.weight[node]
    return share * left + (1 - share) * right


def test_sampling_finds_what_a_linear_model_says_exactly(rows: pa.Table, fitted: Fit) -> None:
    learner = fitted("regression", "sklearn.linear_model.Ridge")
    one, background = rows.slice(0, 1), rows.slice(100, 50)
    exact = linear.explain(learner, one, background, 1.0)
    found = sampling.explain(learner, one, background, seed=0, seconds=1.0)
    assert exact is not None
    assert found.values == pytest.approx(exact.values, abs=1e-9)
    assert found.base == pytest.approx(exact.base, abs=1e-9)


@pytest.mark.parametrize(
    "kind",
    [
        "sklearn.linear_model.LogisticRegression",
        "sklearn.ensemble.HistGradientBoostingClassifier",
        "lightgbm.LGBMClassifier",
        "sklearn.naive_bayes.GaussianNB",
    ],
)
def test_columns_of_a_text_or_a_category_are_told_as_one_feature(worded: pa.Table, fitted: Fit, kind: str) -> None:
    if kind.startswith("lightgbm"):
        pytest.importorskip("lightgbm")
    learner = fitted("binary", kind, text=True)
    found = contributions(learner, worded.slice(0, 40), worded.slice(200))
    assert found.features == learner.spec.features
    assert found.values.shape[1] == len(learner.spec.features)
    assert predictions(found, "binary") == pytest.approx(
        learner.predict(worded.slice(0, 40).take(found.indices)), abs=1e-6
    )


def test_an_explanation_that_does_not_add_up_is_not_given(
    rows: pa.Table, fitted: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = fitted("binary", "sklearn.linear_model.LogisticRegression")
    true = linear.explain

    def misread(*given: Any) -> Any:
        found = true(*given)
        return found and replace(found, values=found.values * 1.01)

    def puzzled(*given: Any) -> Any:
        raise ValueError("operands could not be broadcast together")

    assert contributions(learner, rows, rows).method == "linear"
    for instead in (misread, puzzled):
        monkeypatch.setattr(linear, "explain", instead)
        assert contributions(learner, rows, rows).method == "sampling"


def test_an_average_is_explained_by_its_members_where_it_is_the_mean_of_what_they_add_up_to(
    rows: pa.Table, fitted: Fit
) -> None:
    few = rows.slice(0, 40)
    numbers = fitted("regression", "sklearn.ensemble.ExtraTreesRegressor", average=2, n_estimators=5)
    found = contributions(numbers, few, rows)
    assert found.method == "trees"
    assert predictions(found, "regression") == pytest.approx(numbers.predict(few), abs=1e-9)
    odds = fitted("binary", "sklearn.ensemble.HistGradientBoostingClassifier", average=2, max_iter=3)
    assert contributions(odds, few, rows).method == "sampling"


def test_of_a_calibrated_model_the_prediction_before_is_explained(rows: pa.Table, fitted: Fit) -> None:
    inner = fitted("binary", "sklearn.linear_model.LogisticRegression")
    found = contributions(Calibrated(inner, Sigmoid(slope=0.5, intercept=0.1)), rows.slice(0, 20), rows)
    assert found.calibrated
    assert predictions(found, "binary") == pytest.approx(inner.predict(rows.slice(0, 20)), abs=1e-9)


def test_less_time_explains_fewer_rows_and_too_little_leaves_trees_to_sampling(rows: pa.Table, fitted: Fit) -> None:
    learner = fitted("binary", "sklearn.ensemble.RandomForestClassifier", n_estimators=30)
    counts = [len(contributions(learner, rows, rows, seconds=seconds).indices) for seconds in (1.0, 0.06)]
    assert counts[0] == rows.num_rows > counts[1] > 0
    assert contributions(learner, rows, rows, seconds=0.01).method == "sampling"


def test_they_are_those_of_the_library_shap_where_that_can_read_the_trees(rows: pa.Table, fitted: Fit) -> None:
    shap = pytest.importorskip("shap", reason="the library shap, to compare with, is not installed")
    for kind, params in (
        ("sklearn.ensemble.RandomForestRegressor", {"n_estimators": 5}),
        ("sklearn.tree.DecisionTreeRegressor", {"max_depth": 5}),
        ("sklearn.linear_model.Ridge", {}),
    ):
        learner: Any = fitted("regression", kind, **params)
        few = rows.slice(0, 50)
        estimator, given, columns = encoded(learner, few)
        background = encoded(learner, rows)[1]
        usual = shap.maskers.Independent(background, max_samples=len(rows))
        explainer = shap.LinearExplainer(estimator, usual) if kind.endswith("Ridge") else shap.TreeExplainer(estimator)
        theirs = explainer.shap_values(given)
        alone = [place for place in np.unique(columns) if (columns == place).sum() == 1]  # theirs are of columns
        ours = contributions(learner, few, rows).values[:, :, 0]
        for place in alone:
            assert ours[:, place] == pytest.approx(theirs[:, columns.tolist().index(place)], abs=1e-6), kind
