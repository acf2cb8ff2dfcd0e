"""The contract of a learner, run over every kind."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.errors import RefitError, UserError
from tasks.learners import Learner, Spec, load, make

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
    "network": ("torch_tabular", {"hidden": [16], "max_epochs": 12, "batch_rows": 64, "learning_rate": 0.01}),
}
ITERATIVE = ("boosting", "older_boosting", "network")

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def specs(spec_of: Callable[..., Spec]) -> dict[str, Spec]:
    return {name: spec_of(kind, **params) for name, (kind, params) in KINDS.items()}


@pytest.fixture(scope="module")
def fitted(specs: dict[str, Spec], train_rows: Any) -> dict[str, Learner]:
    """One learner of each kind, fitted once."""
    learners = {name: make(spec) for name, spec in specs.items()}
    for learner in learners.values():
        learner.fit(train_rows.table, train_rows.label)
    return learners


@each_kind
def test_predictions_are_one_probability_for_each_row(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    p = fitted[kind].predict(seen_rows.table)
    assert p.dtype == np.float64
    assert p.shape == (150,)
    assert ((p >= 0) & (p <= 1)).all()


@each_kind
def test_predictions_follow_their_rows(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    order = np.random.default_rng(0).permutation(150)
    p = fitted[kind].predict(seen_rows.table)
    np.testing.assert_allclose(fitted[kind].predict(seen_rows.table.take(order)), p[order], rtol=1e-6)


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "baseline"])
def test_it_learns_what_there_is_to_learn(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    from tasks.metrics import roc_auc

    assert roc_auc(seen_rows.label, fitted[kind].predict(seen_rows.table)) > 0.55


@each_kind
def test_the_same_rows_and_seed_give_the_same_model(
    fitted: dict[str, Learner], specs: dict[str, Spec], kind: str, train_rows: Any, seen_rows: Any
) -> None:
    again = make(specs[kind])
    again.fit(train_rows.table, train_rows.label)
    assert again.digest() == fitted[kind].digest()
    np.testing.assert_array_equal(again.predict(seen_rows.table), fitted[kind].predict(seen_rows.table))


@each_kind
def test_other_rows_give_another_digest(
    fitted: dict[str, Learner], specs: dict[str, Spec], kind: str, train_rows: Any
) -> None:
    other = make(specs[kind])
    other.fit(train_rows.table.slice(1), train_rows.label[1:])
    assert other.digest() != fitted[kind].digest()


@pytest.mark.parametrize("kind", ["older_boosting", "forest", "perceptron", "network"])
def test_the_seed_reaches_every_learner_that_draws_at_random(
    fitted: dict[str, Learner], specs: dict[str, Spec], kind: str, train_rows: Any, seen_rows: Any
) -> None:
    other = make(replace(specs[kind], seed=1))
    other.fit(train_rows.table, train_rows.label)
    assert not np.array_equal(other.predict(seen_rows.table), fitted[kind].predict(seen_rows.table))


LOAD_AND_PREDICT = """
import json, sys
from pathlib import Path
import pyarrow.parquet as pq
def refuse(event, arguments):
    if event == "pickle.find_class":
        raise AssertionError("a pickle was read")
sys.addaudithook(refuse)
from tasks.learners import load
folder = Path(sys.argv[1])
rows = pq.read_table(folder / "rows.parquet")
found = {}
for stored in sorted(path for path in folder.iterdir() if path.is_dir()):
    learner = load(stored)
    predicted = [value.hex() for value in learner.predict(rows).tolist()]
    found[stored.name] = {"digest": learner.digest(), "predicted": predicted, "threshold": learner.threshold}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded(
    fitted: dict[str, Learner], seen_rows: Any, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a fresh process that cannot read pickles says of the stored learners."""
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("stored")
    pq.write_table(seen_rows.table, folder / "rows.parquet")
    for name, learner in fitted.items():
        (folder / name).mkdir()
        learner.save(folder / name)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_PREDICT, str(folder)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@each_kind
def test_a_stored_model_is_the_same_in_a_fresh_process_without_pickle(
    fitted: dict[str, Learner], loaded: dict[str, Any], kind: str, seen_rows: Any
) -> None:
    assert fitted[kind].obstacle() is None
    assert loaded[kind]["predicted"] == [p.hex() for p in fitted[kind].predict(seen_rows.table).tolist()]
    assert loaded[kind]["digest"] == fitted[kind].digest()


@each_kind
def test_nothing_that_was_given_is_changed(specs: dict[str, Spec], kind: str, train_rows: Any, seen_rows: Any) -> None:
    table = pa.Table.from_batches([pa.RecordBatch.from_pylist(train_rows.table.to_pylist(), train_rows.table.schema)])
    label, params = train_rows.label.copy(), copy.deepcopy(specs[kind].params)
    learner = make(specs[kind])
    learner.fit(table, label, validation=(seen_rows.table, seen_rows.label))
    before = seen_rows.table.to_pylist()
    learner.predict(seen_rows.table)
    assert table.equals(train_rows.table)
    np.testing.assert_array_equal(label, train_rows.label)
    assert specs[kind].params == params
    assert seen_rows.table.to_pylist() == before


@each_kind
def test_an_unseen_category_counts_as_a_missing_one(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    place = seen_rows.table.schema.get_field_index("place")
    unseen = seen_rows.table.set_column(place, "place", pa.array(["Atlantis"] * 150))
    missing = seen_rows.table.set_column(place, "place", pa.nulls(150, pa.string()))
    np.testing.assert_array_equal(fitted[kind].predict(unseen), fitted[kind].predict(missing))


@each_kind
def test_a_row_of_nothing_but_gaps_is_predicted(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    schema = seen_rows.table.schema
    gaps = pa.table({field.name: pa.nulls(3, field.type) for field in schema}, schema=schema)
    assert np.isfinite(fitted[kind].predict(gaps)).all()


@each_kind
def test_one_row_is_predicted_as_among_others(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    p = fitted[kind].predict(seen_rows.table)
    np.testing.assert_allclose(fitted[kind].predict(seen_rows.table.slice(7, 1)), p[7:8], rtol=1e-5)


@each_kind
def test_no_rows_give_no_predictions(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    assert fitted[kind].predict(seen_rows.table.slice(0, 0)).shape == (0,)


@each_kind
def test_surplus_and_reordered_columns_change_nothing(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    names = [*reversed(seen_rows.table.column_names)]
    other = seen_rows.table.select(names).append_column("surplus", pa.array(["x"] * 150))
    np.testing.assert_array_equal(fitted[kind].predict(other), fitted[kind].predict(seen_rows.table))


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "baseline"])
def test_a_missing_column_is_named(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    renamed = seen_rows.table.rename_columns(["id", "strenght", *seen_rows.table.column_names[2:]])
    with pytest.raises(UserError, match="feature 'strength' is missing from the rows; did you mean 'strenght'"):
        fitted[kind].predict(renamed)


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "baseline"])
def test_a_column_of_another_type_is_named(fitted: dict[str, Learner], kind: str, seen_rows: Any) -> None:
    texts = seen_rows.table.set_column(1, "strength", pa.array(["1.0"] * 150))
    with pytest.raises(UserError, match="feature 'strength' holds string, a number was expected"):
        fitted[kind].predict(texts)
    numbers = seen_rows.table.set_column(2, "colour", pa.array([1.0] * 150))
    with pytest.raises(UserError, match="feature 'colour' holds double, categories are texts"):
        fitted[kind].predict(numbers)


@each_kind
def test_one_class_or_one_row_cannot_be_learned_from(specs: dict[str, Spec], kind: str, train_rows: Any) -> None:
    with pytest.raises(UserError, match="the label is constant, all 400 rows are 0"):
        make(specs[kind]).fit(train_rows.table, np.zeros(400, dtype=np.int64))
    with pytest.raises(UserError, match="the label is constant, all 1 rows are"):
        make(specs[kind]).fit(train_rows.table.slice(0, 1), train_rows.label[:1])
    with pytest.raises(UserError, match="was given no rows"):
        make(specs[kind]).fit(train_rows.table.slice(0, 0), train_rows.label[:0])


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "baseline"])
def test_nothing_is_predicted_before_a_fit(specs: dict[str, Spec], kind: str, seen_rows: Any) -> None:
    with pytest.raises(RefitError, match="before it was fitted"):
        make(specs[kind]).predict(seen_rows.table)


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
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_the_search_for_the_iterations_is_the_fit_with_so_many(
    specs: dict[str, Spec], kind: str, metric: str, train_rows: Any, seen_rows: Any
) -> None:
    """Bit for bit: so the refit continues what was validated, and not another model."""
    search, direct = make(replace(specs[kind], metric=metric)), make(replace(specs[kind], metric=metric))
    report = search.fit(train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label))
    assert report.iterations is not None
    assert direct.fit(train_rows.table, train_rows.label, iterations=report.iterations).curve == ()
    assert direct.digest() == search.digest()
    np.testing.assert_array_equal(direct.predict(seen_rows.table), search.predict(seen_rows.table))


@pytest.mark.parametrize("kind", ITERATIVE)
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_the_best_iteration_is_the_best_of_the_curve_and_its_score_is_that_of_the_predictions(
    specs: dict[str, Spec], kind: str, metric: str, train_rows: Any, seen_rows: Any
) -> None:
    from tasks.metrics import METRICS

    learner = make(replace(specs[kind], metric=metric))
    report = learner.fit(train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label))
    at_best = next(point for point in report.curve if point.iteration == report.iterations)
    scores = [point.validation for point in report.curve]
    assert at_best.validation == (max(scores) if metric == "roc_auc" else min(scores))
    assert METRICS[metric](seen_rows.label, learner.predict(seen_rows.table)) == pytest.approx(at_best.validation)


@each_kind
def test_a_changed_surplus_or_missing_file_is_refused(
    fitted: dict[str, Learner], kind: str, tmp_path: Path, seen_rows: Any
) -> None:
    fitted[kind].save(tmp_path)
    load(tmp_path)
    (tmp_path / "surplus.txt").write_text("x")
    with pytest.raises(RefitError, match="is not in its manifest"):
        load(tmp_path)
    (tmp_path / "surplus.txt").unlink()
    weights = next((path for path in tmp_path.iterdir() if path.stem == "model" and path.suffix != ".json"), None)
    changed = weights or tmp_path / "model.json"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    with pytest.raises(RefitError, match="is missing or differs from its manifest"):
        load(tmp_path)
    changed.unlink()
    with pytest.raises(RefitError, match=r"is missing or differs|does not exist"):
        load(tmp_path)
