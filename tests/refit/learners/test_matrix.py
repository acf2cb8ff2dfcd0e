"""Every sort of classifier that scikit-learn and its neighbours have: fitted, stored, loaded, through all stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refit.errors import UserError
from refit.learners import Spec, load, make
from refit.learners.conformance.sample import CATEGORICAL, FEATURES
from refit.problems import problem_of


def probable(kind: str, **params: Any) -> tuple[str, dict[str, Any]]:
    """An estimator without probabilities, as the error about it says to wrap it."""
    inner = {"kind": kind, "params": params}
    return "sklearn.calibration.CalibratedClassifierCV", {"estimator": inner, "cv": 2}


MATRIX: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": ("sklearn.linear_model.LogisticRegression", {}),
    "sgd": ("sklearn.linear_model.SGDClassifier", {"loss": "log_loss"}),
    "ridge": probable("sklearn.linear_model.RidgeClassifier"),
    "linear_discriminant": ("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", {}),
    "quadratic_discriminant": ("sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis", {"reg_param": 0.1}),
    "svm": probable("sklearn.svm.SVC", C=0.5),
    "linear_svm": probable("sklearn.svm.LinearSVC"),
    "neighbours": ("sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 15}),
    "bayes": ("sklearn.naive_bayes.GaussianNB", {"var_smoothing": 0.1}),
    "bernoulli": ("sklearn.naive_bayes.BernoulliNB", {}),
    "tree": ("sklearn.tree.DecisionTreeClassifier", {"max_depth": 4}),
    "forest": ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 15, "min_samples_leaf": 5}),
    "extra_trees": ("sklearn.ensemble.ExtraTreesClassifier", {"n_estimators": 15, "min_samples_leaf": 5}),
    "bagging": ("sklearn.ensemble.BaggingClassifier", {"n_estimators": 8}),
    "ada_boost": ("sklearn.ensemble.AdaBoostClassifier", {"n_estimators": 15}),
    "gradient_boosting": ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 15}),
    "histogram_boosting": ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 15}),
    "lightgbm": ("lightgbm.LGBMClassifier", {"n_estimators": 15}),
    "xgboost": ("xgboost.XGBClassifier", {"n_estimators": 15}),
    "gaussian_process": (
        "sklearn.gaussian_process.GaussianProcessClassifier",
        {"kernel": {"kind": "sklearn.gaussian_process.kernels.RBF", "params": {"length_scale": 2.0}}},
    ),
    "perceptron": ("sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": [8], "max_iter": 60}),
    "network": ("torch_tabular", {"hidden": [8], "max_epochs": 6, "batch_rows": 64, "learning_rate": 0.01}),
}


@pytest.mark.parametrize("name", MATRIX)
def test_each_kind_learns_and_comes_back_from_its_files(
    name: str, train_rows: Any, seen_rows: Any, tmp_path: Path
) -> None:
    kind, params = MATRIX[name]
    learner = make(Spec(name, kind, FEATURES, CATEGORICAL, params))
    learner.fit(train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label))
    predicted = learner.predict(seen_rows.table)
    assert problem_of("binary").score("roc_auc", seen_rows.label, predicted) > 0.6
    assert learner.unsafe_reason() is None
    learner.save(tmp_path)
    stored = load(tmp_path)
    np.testing.assert_array_equal(stored.predict(seen_rows.table), predicted)
    assert stored.digest() == learner.digest()


@pytest.mark.parametrize(
    "kind", ["sklearn.svm.SVC", "sklearn.linear_model.RidgeClassifier", "sklearn.linear_model.Perceptron"]
)
def test_a_kind_without_probabilities_is_told_how_to_be_wrapped(kind: str) -> None:
    with pytest.raises(UserError, match=rf"CalibratedClassifierCV with params \{{estimator: \{{kind: {kind}\}}\}}"):
        make(Spec("it", kind, FEATURES, CATEGORICAL))


def test_a_kind_that_cannot_predict_some_rows_is_named(train_rows: Any, seen_rows: Any) -> None:
    kind, params = "sklearn.neighbors.RadiusNeighborsClassifier", {"radius": 0.1}
    learner = make(Spec("it", kind, FEATURES, CATEGORICAL, params))
    learner.fit(train_rows.table, train_rows.label)
    with pytest.raises(UserError, match=r"could not predict: No neighbors found .*; change its params"):
        learner.predict(seen_rows.table)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["svm", "bayes", "neighbours", "lightgbm", "xgboost", "gaussian_process"])
def test_each_kind_goes_through_all_stages_and_a_second_run_is_unchanged(name: str, project: Path) -> None:
    from driving import drive, states

    kind, params = MATRIX[name]
    learners = [{"name": "base", "kind": "baseline"}, {"name": name, "kind": kind, "params": params}]
    few = {"featurize.windows.training": 1}  # a Gaussian process takes minutes for a few thousand rows
    overrides = {"train.learners": learners, "evaluate.permutation_rows": 50, **few}
    told = drive(project, overrides=overrides)
    assert told["stages"]["register"]["state"] == "executed"
    assert told["chosen"] == name
    assert states(drive(project, overrides=overrides)) == ["unchanged"] * 6
