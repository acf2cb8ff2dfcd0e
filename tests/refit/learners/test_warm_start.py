"""Going on from a fitted learner with new rows alone: what it knew stays, what is new is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.learners import Labels, Learner, Spec, load, make
from refit.problems import problem_of

BOOSTING = Spec(
    "boosting",
    "sklearn.ensemble.HistGradientBoostingClassifier",
    ("x", "z", "colour"),
    frozenset(["colour"]),
    {"max_iter": 15, "min_samples_leaf": 5},
)
LINEAR = Spec(
    "linear",
    "sklearn.linear_model.SGDClassifier",
    ("x", "z", "colour"),
    frozenset(["colour"]),
    {"loss": "log_loss", "random_state": 0},
)
NETWORK = Spec(
    "network", "torch_tabular", ("x", "z", "colour"), frozenset(["colour"]), {"hidden": [8], "max_epochs": 6}
)


def rows(count: int, seed: int, *, turned: bool = False, colours: str = "rgb") -> tuple[pa.Table, Labels]:
    """Rows whose label follows `x` and the colour; `turned` against `z` as well, on another scale, with gaps."""
    random = np.random.default_rng(seed)
    x, z = random.normal(2.0 * turned, 1 + turned, count), random.normal(size=count)
    colour = random.integers(0, len(colours), count)
    logit = 2 * x - 4 * turned + 2 * (colour == 1) + (3 * z if turned else 0 * z) - 1
    label = (random.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    gaps = random.random(count) < 0.1
    return pa.table({"x": x, "z": pa.array(z, mask=gaps), "colour": [colours[each] for each in colour]}), label


def fitted(spec: Spec) -> Learner:
    learner = make(spec)
    learner.fit(*rows(2000, 0))
    return learner


def test_new_trees_leave_the_old_ones_what_they_were() -> None:
    before = fitted(BOOSTING)
    new, label = rows(500, 1, turned=True, colours="bg")  # other ranges, and a category that does not come any more
    after = make(BOOSTING)
    after.resume(before, new, label, iterations=7)
    model: Any = after._model  # type: ignore[attr-defined]
    assert model.n_iter_ == 22
    matrix = before._encoding.matrix(rows(300, 2)[0])  # type: ignore[attr-defined]
    staged = [p[:, 1] for p in model.staged_predict_proba(matrix)]
    assert np.array_equal(staged[14], before.predict(rows(300, 2)[0]))
    assert not np.array_equal(staged[-1], staged[14])


@pytest.mark.parametrize("spec", [BOOSTING, LINEAR, NETWORK], ids=lambda spec: spec.name)
def test_learner_that_goes_on_is_better_on_new_rows_and_leaves_the_old_one_as_it_was(
    spec: Spec, tmp_path: Path
) -> None:
    before = fitted(spec)
    digest = before.digest()
    new, label = rows(1500, 1, turned=True)
    seen = rows(1000, 2, turned=True)
    after = make(spec)
    report = after.resume(before, new, label, validation=seen)
    later, truth = rows(2000, 3, turned=True)
    assert (
        problem_of("binary").score("roc_auc", truth, after.predict(later))
        > problem_of("binary").score("roc_auc", truth, before.predict(later)) + 0.02
    )
    assert before.digest() == digest
    again = make(spec)
    again.resume(before, new, label, iterations=report.iterations)
    twice = make(spec)
    twice.resume(before, new, label, iterations=report.iterations)
    assert again.digest() == twice.digest()
    again.save(tmp_path)
    assert np.array_equal(load(tmp_path).predict(later), again.predict(later))


ONLINE = replace(LINEAR, name="online", kind="online", params={})
ALL = pytest.mark.parametrize("spec", [BOOSTING, LINEAR, NETWORK, ONLINE], ids=lambda spec: spec.name)


@ALL
def test_a_learner_that_goes_on_reads_features_in_the_order_that_it_has_learned(spec: Spec, tmp_path: Path) -> None:
    """`features.py` may name them in another one since."""
    after = make(replace(spec, features=spec.features[::-1]))
    after.resume(fitted(spec), *rows(300, 1), iterations=1)
    in_order = make(spec)
    in_order.resume(fitted(spec), *rows(300, 1), iterations=1)
    after.save(tmp_path)
    seen, _ = rows(200, 2)
    np.testing.assert_array_equal(after.predict(seen), in_order.predict(seen))
    np.testing.assert_array_equal(load(tmp_path).predict(seen), after.predict(seen))


@pytest.mark.parametrize("spec", [BOOSTING, LINEAR, NETWORK], ids=lambda spec: spec.name)
def test_a_learner_that_no_step_betters_stays_as_it_was(spec: Spec) -> None:
    before, (new, label) = fitted(spec), rows(300, 1)
    for more in ({"validation": rows(1000, 2)}, {"iterations": 0}):
        after = make(spec)
        report = after.resume(before, new, 1 - label, **more)  # type: ignore[arg-type]
        assert report.iterations == 0
        assert after.digest() == before.digest()


def test_learner_that_cannot_go_on_says_which_can() -> None:
    spec = Spec("logistic", "sklearn.linear_model.LogisticRegression", ("x", "z"))
    before = fitted(spec)
    with pytest.raises(UserError, match=r"a LogisticRegression cannot go on .* HistGradientBoosting, .* null"):
        make(spec).resume(before, *rows(100, 1), iterations=1)


BAYES = Spec("bayes", "sklearn.naive_bayes.GaussianNB", ("x",), params={})


def of_classes(*classes: int, seed: int = 0) -> tuple[pa.Table, Labels]:
    """200 rows whose class can be read from `x`."""
    random = np.random.default_rng(seed)
    label = random.choice(classes, 200)
    return pa.table({"x": label + random.normal(0, 0.3, 200), "z": random.normal(size=200)}), label


@pytest.mark.parametrize("spec", [BOOSTING, LINEAR, BAYES], ids=lambda spec: spec.name)
def test_estimators_go_on_with_rows_that_lack_some_of_their_classes(spec: Spec) -> None:
    spec = replace(spec, features=("x",), categorical=frozenset(), task="multiclass", classes=("a", "b", "c", "d"))
    spec = replace(spec, metric="log_loss")
    before = make(spec)
    before.fit(*of_classes(0, 2, 3))
    rows = of_classes(0, 2, 3, seed=9)[0]
    for classes in ((0, 2, 3), (0, 3)):
        new = of_classes(*classes, seed=1)
        same, after = make(spec), make(spec)
        same.resume(before, *new, iterations=0)
        np.testing.assert_array_equal(same.predict(rows), before.predict(rows))
        after.resume(before, *new, validation=of_classes(*classes, seed=2))
        unseen, label = of_classes(0, 3, seed=3)
        assert (after.predict(unseen).argmax(axis=1) == label).mean() > 0.9
        assert not after.predict(rows)[:, 1].any(), "of a class that neither had"
    for rare in ((0, 1, 3), (0, 1, 2, 3)):
        with pytest.raises(UserError, match=r"the classes that it has learned, and 'b' is new: .*warm_start: null"):
            make(spec).resume(before, *of_classes(*rare, seed=1), iterations=1)


@pytest.mark.parametrize(("spec", "change"), [(BOOSTING, {"learning_rate": 0.001}), (LINEAR, {"alpha": 10.0})])
def test_an_estimator_refuses_an_argument_that_it_has_not_learned_with(spec: Spec, change: dict[str, Any]) -> None:
    [(name, value)] = change.items()
    with pytest.raises(UserError, match=f"by {name}: its default; the params ask for {value}: set it back, or"):
        make(replace(spec, params={**spec.params, **change})).resume(fitted(spec), *rows(300, 1), iterations=1)
    more = make(replace(spec, params={**spec.params, "max_iter": 30}))
    assert more.resume(fitted(spec), *rows(300, 1), iterations=1).iterations == 1


def test_what_a_library_refuses_while_it_goes_on_is_one_line() -> None:
    params = {"hidden_layer_sizes": [2], "max_iter": 2, "solver": "sgd"}
    spec = Spec("line", "sklearn.neural_network.MLPRegressor", ("x",), params=params, task="regression", metric="mae")
    new, label = rows(300, 1)
    with pytest.raises(UserError, match=r"'line' .*could not be fitted: Solver produced non-finite parameter weights"):
        make(spec).resume(fitted(spec), new, label * 1e300, iterations=1)
