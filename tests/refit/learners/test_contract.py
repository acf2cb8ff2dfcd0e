"""The contract of a learner, run over every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config.train import IntervalParams, TextParams
from refit.learners import Learner, Spec, make
from refit.learners.conformance import RULES, NotApplicable, Rule, Subject, load_in_fresh_process
from refit.learners.conformance.sample import CATEGORICAL, FEATURES, TEXT, Rows
from refit.learners.intervals import ends_of, fit_intervals, groups_in
from refit.learners.prediction_intervals import IntervalLearner
from refit.learners.quantiles import quantile_of
from refit.problems import kind_of, metric_named

ENSEMBLE = "sklearn.ensemble"
NETWORK = {"hidden": [16], "max_epochs": 12, "batch_rows": 64, "learning_rate": 0.01}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "baseline": ("binary", "baseline", {}),
    "logistic": ("binary", "sklearn.linear_model.LogisticRegression", {"C": 0.5}),
    "boosting": ("binary", f"{ENSEMBLE}.HistGradientBoostingClassifier", {"max_iter": 25, "min_samples_leaf": 5}),
    "older_boosting": ("binary", f"{ENSEMBLE}.GradientBoostingClassifier", {"n_estimators": 20, "subsample": 0.5}),
    "forest": ("binary", f"{ENSEMBLE}.RandomForestClassifier", {"n_estimators": 15, "n_jobs": 2}),
    "bayes": ("binary", "sklearn.naive_bayes.GaussianNB", {"var_smoothing": 0.1}),
    "neighbours": ("binary", "sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 7}),
    "perceptron": ("binary", "sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": [8], "max_iter": 60}),
    "calibrated": (
        "binary",
        "sklearn.calibration.CalibratedClassifierCV",
        {"estimator": {"kind": "sklearn.svm.SVC", "params": {"C": 0.5}}, "cv": 2},
    ),
    "lightgbm": ("binary", "lightgbm.LGBMClassifier", {"n_estimators": 30, "subsample": 0.7, "subsample_freq": 1}),
    "xgboost": ("binary", "xgboost.XGBClassifier", {"n_estimators": 30, "max_depth": 3, "subsample": 0.7}),
    "network": ("binary", "torch_tabular", NETWORK),
    "logistic of words": ("binary", "sklearn.linear_model.LogisticRegression", {}),
    "boosting of words": ("binary", f"{ENSEMBLE}.HistGradientBoostingClassifier", {"max_iter": 10}),
    "xgboost of words": ("binary", "xgboost.XGBClassifier", {"n_estimators": 10}),
    "logistic of classes": ("multiclass", "sklearn.linear_model.LogisticRegression", {}),
    "boosting of classes": ("multiclass", f"{ENSEMBLE}.HistGradientBoostingClassifier", {"max_iter": 8}),
    "lightgbm of classes": ("multiclass", "lightgbm.LGBMClassifier", {"n_estimators": 30, "learning_rate": 0.05}),
    "xgboost of classes": ("multiclass", "xgboost.XGBClassifier", {"n_estimators": 30, "max_depth": 2}),
    "network of classes": ("multiclass", "torch_tabular", NETWORK),
    "forest of three seeds": ("binary", f"{ENSEMBLE}.RandomForestClassifier", {"n_estimators": 5}),
    "boosting of three seeds": (
        "multiclass",
        f"{ENSEMBLE}.HistGradientBoostingClassifier",
        {"max_iter": 8, "max_features": 0.5},
    ),
    "spreading": ("binary", "label_spreading", {}),
    "spreading of classes": ("multiclass", "label_spreading", {"kernel": "rbf", "gamma": 0.5, "most_rows": 50}),
    "self-training": ("binary", "self_training", {"kind": "sklearn.linear_model.LogisticRegression", "threshold": 0.8}),
    "self-training of classes": (
        "multiclass",
        "self_training",
        {
            "kind": f"{ENSEMBLE}.HistGradientBoostingClassifier",
            "params": {"max_iter": 8},
            "k_best": 20,
            "rounds": 2,
        },
    ),
    "pretrained": (
        "binary",
        "mlp",
        {
            "hidden": [8],
            "epochs": 6,
            "batch_rows": 64,
            "learning_rate": 0.01,
            "pretrain": {"method": "denoising", "epochs": 2},
        },
    ),
    "each colour boosting": (
        "binary",
        "per_group",
        {
            "by": "colour",
            "min_rows": 80,
            "kind": f"{ENSEMBLE}.HistGradientBoostingClassifier",
            "params": {"max_iter": 15, "min_samples_leaf": 5},
        },
    ),
    "each colour logistic of classes": (
        "multiclass",
        "per_group",
        {"by": "colour", "min_rows": 20, "kind": "sklearn.linear_model.LogisticRegression"},
    ),
    "each colour ridge": (
        "regression",
        "per_group",
        {"by": "colour", "min_rows": 20, "kind": "sklearn.linear_model.Ridge"},
    ),
    "mean": ("regression", "baseline", {}),
    "ridge": ("regression", "sklearn.linear_model.Ridge", {}),
    "boosting of numbers": ("regression", f"{ENSEMBLE}.HistGradientBoostingRegressor", {"max_iter": 25}),
    "lightgbm of numbers": ("regression", "lightgbm.LGBMRegressor", {"n_estimators": 30}),
    "xgboost of numbers": ("regression", "xgboost.XGBRegressor", {"n_estimators": 30, "max_depth": 3}),
    "network of numbers": ("regression", "torch_tabular", NETWORK),
    "changes from a level": (
        "regression",
        "relative",
        {
            "level": "strength",
            "scaled": ["noise"],
            "change": "difference",
            "kind": f"{ENSEMBLE}.HistGradientBoostingRegressor",
            "params": {"max_iter": 25},
        },
    ),
    "xgboost of a quantile": ("regression", "xgboost.XGBRegressor", {"n_estimators": 20, "max_depth": 3}),
    "network of a quantile": ("regression", "torch_tabular", NETWORK),
    "ridge with intervals": ("regression", "sklearn.linear_model.Ridge", {}),
    "boosting with intervals of quantiles": (
        "regression",
        f"{ENSEMBLE}.GradientBoostingRegressor",
        {"n_estimators": 9},
    ),
}
NAIVE = ("baseline", "mean")
OF_THE_FIT = ("another process fits the same model", "it goes on where it says so")
ITERATIVE = tuple(
    name for name in KINDS if name.split()[0] in ("boosting", "older_boosting", "lightgbm", "xgboost", "network")
)


def spec_of(name: str) -> Spec:
    task, kind, params = KINDS[name]
    spec = Spec("it", kind, FEATURES, CATEGORICAL, params, metric=kind_of(task).default_metric, task=task)
    if name.endswith("of three seeds"):
        return replace(spec, average=3)
    if name.endswith("of a quantile"):
        return quantile_of(spec, 0.8)
    if not name.endswith("of words"):
        return spec
    few = TextParams(components=10).model_dump()
    return replace(spec, features=(*FEATURES, TEXT), text=(TEXT,), vectoriser=few)


class WithIntervals(Subject):
    """A learner as training leaves it where intervals are asked for."""

    def fit(self, rows: Rows | None = None, **changes: Any) -> Learner:
        found = self.train if rows is None else rows
        inner, ends = super().fit(rows, **changes), None
        if inner.spec.kind.endswith("BoostingRegressor"):
            low, high = (quantile_of(inner.spec, level) for level in ends_of(0.9))
            ends = tuple(Subject(spec).fit(rows) for spec in (low, high))
        asked = IntervalParams(by="quantiles" if ends else "residuals", within="colour")
        band = np.column_stack([end.predict(found.table) for end in ends or (inner, inner)])
        return IntervalLearner(inner, fit_intervals(band, found.label, groups_in(found.table, "colour"), asked), ends)


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    """One learner of each kind under the rules; all are loaded in one fresh process."""
    found = {name: (WithIntervals if "with intervals" in name else Subject)(spec_of(name)) for name in KINDS}
    load_in_fresh_process([*found.values()])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_is_kept(subjects: dict[str, Subject], rule: Rule, kind: str) -> None:
    if isinstance(subjects[kind], WithIntervals) and rule.name in OF_THE_FIT:
        pytest.skip("a rule of the learner within")
    with suppress(NotApplicable):
        rule.keep(subjects[kind])


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in NAIVE])
def test_it_learns_what_there_is_to_learn(subjects: dict[str, Subject], kind: str) -> None:
    learned, spec = subjects[kind], subjects[kind].spec
    naive = Subject(replace(spec, kind="baseline", params={}))
    reached, least = (spec.problem.score(spec.metric, each.seen.label, each.predicted) for each in (learned, naive))
    assert metric_named(spec.metric).gain(reached, least) > 0.03


@pytest.mark.parametrize("kind", ["older_boosting", "forest", "perceptron", "lightgbm", "xgboost", "network"])
def test_the_seed_reaches_every_learner_that_draws_at_random(subjects: dict[str, Subject], kind: str) -> None:
    other = subjects[kind].fit(seed=1)
    assert not np.array_equal(other.predict(subjects[kind].seen.table), subjects[kind].predicted)


def test_more_threads_for_linear_algebra_change_no_bit() -> None:
    """Unguarded they do from some ten thousand rows on."""
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(0)
    names = tuple(f"n{n}" for n in range(30))
    table = pa.table({name: random.normal(size=30_000) for name in names})
    label = (table["n0"].to_numpy() + random.normal(size=30_000) > 0).astype(np.int64)
    digests = set()
    for threads in (1, 2):
        learner = make(Spec("it", "sklearn.linear_model.LogisticRegression", names))
        with threadpool_limits(limits=threads, user_api="blas"):
            learner.fit(table, label)
        digests.add(learner.digest())
    assert len(digests) == 1


def test_a_library_that_is_loaded_later_has_one_thread_too() -> None:
    code = """
from threadpoolctl import threadpool_info
from refit.learners.blas import one_blas_thread
import numpy
with one_blas_thread():
    pass
before = len(threadpool_info())
import scipy.linalg
with one_blas_thread():
    print(len(threadpool_info()) - before, {each["num_threads"] for each in threadpool_info()})
"""
    threads = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    told = subprocess.run([sys.executable, "-c", code], env={**os.environ, **threads}, capture_output=True, text=True)
    assert told.stdout == "1 {1}\n", told.stderr


@pytest.mark.parametrize("kind", ITERATIVE)
def test_the_iterations_are_found_by_the_metric_that_was_asked_for(subjects: dict[str, Subject], kind: str) -> None:
    other = {"binary": "log_loss", "multiclass": "accuracy", "regression": "rmse"}
    asked_for = other[subjects[kind].spec.task]
    by_loss = Subject(replace(subjects[kind].spec, metric=asked_for, early_stopping_metric=asked_for))
    next(rule for rule in RULES if "iterations" in rule.name).keep(by_loss)
