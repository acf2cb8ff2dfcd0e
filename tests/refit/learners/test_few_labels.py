"""Learners that use rows without a label: two half moons of which six points have one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.learners import Labels, Learner, Spec, load, make

LOGISTIC = {"kind": "sklearn.linear_model.LogisticRegression"}
NEIGHBOURS = {"kind": "sklearn.neighbors.KNeighborsClassifier", "params": {"n_neighbors": 5}}
FEW = 12


def moons(count: int, seed: int) -> tuple[pa.Table, Labels]:
    from sklearn.datasets import make_moons

    points, label = make_moons(count, noise=0.08, random_state=seed)
    return pa.table({"x": points[:, 0], "y": points[:, 1]}), label.astype(np.int64)


def spec_of(kind: str, /, **params: Any) -> Spec:
    return Spec("it", kind, ("x", "y"), params=params, metric="accuracy")


def fitted(spec: Spec, **named: Any) -> Learner:
    """A learner of twelve labels and 400 rows without one."""
    table, label = moons(400, 0)
    rows = np.concatenate([np.flatnonzero(label == each)[: FEW // 2] for each in (0, 1)])
    learner: Any = make(spec)
    learner.fit(table.take(rows), label[rows], unlabelled=table, **named)
    return learner


def accuracy(learner: Learner) -> float:
    table, label = moons(300, 1)
    return learner.spec.score(label, learner.predict(table))


@pytest.mark.parametrize(
    ("spec", "alone"),
    [
        (spec_of("label_spreading", n_neighbors=8, alpha=0.9, max_iter=500), NEIGHBOURS),
        (spec_of("label_spreading", kernel="rbf", gamma=20), NEIGHBOURS),
        (spec_of("self_training", **NEIGHBOURS, k_best=40, rounds=10), NEIGHBOURS),
    ],
    ids=["neighbours", "rbf", "self-training"],
)
def test_rows_without_a_label_are_worth_more_than_the_labels_alone(spec: Spec, alone: dict[str, Any]) -> None:
    table, label = moons(400, 0)
    rows = np.concatenate([np.flatnonzero(label == each)[: FEW // 2] for each in (0, 1)])
    labels_alone = make(spec_of(alone["kind"], **alone.get("params", {})))
    labels_alone.fit(table.take(rows), label[rows])
    assert accuracy(fitted(spec)) > accuracy(labels_alone) + 0.05


def test_self_training_without_such_rows_is_its_inner_learner() -> None:
    table, label = moons(60, 0)
    learner, inner = make(spec_of("self_training", **LOGISTIC)), make(spec_of(LOGISTIC["kind"]))
    for each in (learner, inner):
        each.fit(table, label)
    np.testing.assert_array_equal(learner.predict(table), inner.predict(table))


def rounds_of(**params: Any) -> list[str]:
    lines: list[str] = []
    fitted(spec_of("self_training", **LOGISTIC, **params), progress=lambda text, *_: lines.append(text))
    return [line for line in lines if "round" in line]


def test_a_round_takes_the_rows_that_it_is_sure_of_or_the_surest() -> None:
    assert rounds_of(k_best=150, rounds=9) == [
        "it: round 1 labels 150 of 400 rows",
        "it: round 2 labels 150 of 250 rows",
        "it: round 3 labels 100 of 100 rows",
    ]
    assert rounds_of(threshold=1.0) == rounds_of(threshold=1) == []
    assert len(rounds_of(threshold=0.5)) == 1, "all at once"
    assert len(rounds_of(threshold=0.8, rounds=1)) == 1


def test_self_training_takes_the_iterations_that_the_labels_found_for_every_fit() -> None:
    kind = "sklearn.ensemble.GradientBoostingClassifier"
    spec = spec_of("self_training", kind=kind, params={"n_estimators": 30}, k_best=100, rounds=2)
    search: Any = make(spec)
    table, label = moons(80, 3)
    rest, _ = moons(300, 4)
    report = search.fit(table, label, validation=moons(60, 5), unlabelled=rest)
    direct: Any = make(spec)
    direct.fit(table, label, iterations=report.iterations, unlabelled=rest)
    assert direct.digest() == search.digest()
    assert report.curve == ()
    assert report.iterations is not None
    assert search.inner._model[-1].n_estimators == report.iterations < 30, "not the 30 that it was made with"


def test_label_spreading_draws_rows_by_the_seed_where_there_are_too_many() -> None:
    few = spec_of("label_spreading", most_rows=100, n_neighbors=5)
    learner: Any = fitted(few)
    assert len(learner._model[-1].transduction_) == FEW + 100
    assert fitted(few).digest() == learner.digest()
    assert fitted(Spec(**{**vars(few), "seed": 1})).digest() != learner.digest()


def test_a_row_that_is_near_no_other_gets_the_mean_probabilities(tmp_path: Path) -> None:
    learner = fitted(spec_of("label_spreading", kernel="rbf", gamma=20))
    far = pa.table({"x": [1e6], "y": [-1e6]})
    assert learner.predict(far) == pytest.approx(0.5, abs=0.05)
    learner.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(far), learner.predict(far))


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (
            "self_training",
            {**LOGISTIC, "threshold": 1.5},
            r"threshold is a probability above 0, up to 1; found 1.5 .*it.params",
        ),
        ("self_training", {**LOGISTIC, "k_best": 0}, "k_best is a number from 1 on; found 0"),
        ("self_training", {**LOGISTIC, "rounds": 2.5}, "rounds is a number from 1 on; found 2.5"),
        ("self_training", {**LOGISTIC, "treshold": 0.5}, "takes no 'treshold'; did you mean 'threshold'"),
        ("self_training", {"threshold": 0.5}, "needs `kind`: the learner that it fits"),
        ("label_spreading", {"most_rows": 0}, "most_rows is a number from 1 on; found 0"),
        ("label_spreading", {"neighbours": 3}, "LabelSpreading' has no argument 'neighbours'; did you mean 'n_neig"),
        ("label_spreading", {"alpha": 2.0}, "alpha"),
    ],
)
def test_arguments_that_do_not_fit_are_one_early_error(kind: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(spec_of(kind, **params), where="it")
    assert "\n" not in str(caught.value)


def test_they_are_for_classes() -> None:
    for kind, params in (
        ("self_training", {"kind": "sklearn.linear_model.LogisticRegression"}),
        ("label_spreading", {}),
    ):
        assert make(spec_of(kind, **params)).declaration.tasks == ("binary", "multiclass")
        assert make(spec_of(kind, **params)).declaration.unlabelled == "needed"
