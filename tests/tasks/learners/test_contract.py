"""The contract of a learner, run over every kind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.learner_contract import RULES, NotAsked, Rule, Subject, load_afresh
from tasks.learner_contract.sample import CATEGORICAL, FEATURES
from tasks.learners import Spec, make

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("baseline", {}),
    "logistic": ("sklearn.linear_model.LogisticRegression", {"C": 0.5}),
    "boosting": ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 25, "min_samples_leaf": 5}),
    "older_boosting": ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 20, "subsample": 0.5}),
    "forest": ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 15, "n_jobs": 2}),
    "bayes": ("sklearn.naive_bayes.GaussianNB", {"var_smoothing": 0.1}),
    "neighbours": ("sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 7}),
    "perceptron": ("sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": [8], "max_iter": 60}),
    "calibrated": (
        "sklearn.calibration.CalibratedClassifierCV",
        {"estimator": {"kind": "sklearn.svm.SVC", "params": {"C": 0.5}}, "cv": 2},
    ),
    "lightgbm": ("lightgbm.LGBMClassifier", {"n_estimators": 30, "subsample": 0.7, "subsample_freq": 1}),
    "xgboost": ("xgboost.XGBClassifier", {"n_estimators": 30, "max_depth": 3, "subsample": 0.7}),
    "network": ("torch_tabular", {"hidden": [16], "max_epochs": 12, "batch_rows": 64, "learning_rate": 0.01}),
}
ITERATIVE = ("boosting", "older_boosting", "lightgbm", "xgboost", "network")
NAMES = ("predictions fit the task", "stored it is the same in a fresh process", "a missing column is named")


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    """One learner of each kind under the rules; all are loaded in one fresh process."""
    found = {name: Subject(Spec("it", kind, FEATURES, CATEGORICAL, params)) for name, (kind, params) in KINDS.items()}
    load_afresh([*found.values()])
    return found


def test_the_contract_has_the_rules_that_the_docs_tell_of() -> None:
    assert len(RULES) == 21
    assert {rule.name for rule in RULES} >= set(NAMES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_is_kept(subjects: dict[str, Subject], rule: Rule, kind: str) -> None:
    with suppress(NotAsked):
        rule.keep(subjects[kind])


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "baseline"])
def test_it_learns_what_there_is_to_learn(subjects: dict[str, Subject], kind: str) -> None:
    from tasks.metrics import roc_auc

    assert roc_auc(subjects[kind].seen.label, subjects[kind].predicted) > 0.55


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


@pytest.mark.parametrize("kind", ITERATIVE)
def test_the_iterations_are_found_by_the_metric_that_was_asked_for(subjects: dict[str, Subject], kind: str) -> None:
    by_loss = Subject(replace(subjects[kind].spec, metric="log_loss"))
    next(rule for rule in RULES if "iterations" in rule.name).keep(by_loss)
