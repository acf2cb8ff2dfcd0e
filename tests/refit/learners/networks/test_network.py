"""Networks under the contract of learners: images, the older kind, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import create_model

from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.learners import Spec, load, make
from refit.learners.conformance.sample import CATEGORICAL, CLASSES, FEATURES, sample
from refit.learners.networks.architecture import architecture
from refit.learners.quantiles import quantile_of
from tests.refit.learners.networks.conftest import TINY, Rows, spec_of

OLDER = {"hidden": [16], "max_epochs": 5, "batch_rows": 64, "learning_rate": 0.01}
NEWER = {"hidden": [16], "epochs": 5, "batch_rows": 64, "learning_rate": 0.01}


@pytest.mark.parametrize("kind", TINY)
def test_images_are_learned_stored_and_loaded(kind: str, images: Rows, unseen_images: Rows, tmp_path: Path) -> None:
    learner = make(spec_of(kind))
    report = learner.fit(*images, validation=unseen_images)
    predicted = learner.predict(unseen_images[0])
    assert learner.spec.score(unseen_images[1], predicted) > 0.8
    assert learner.spec.stopping_metric.name == "log_loss"
    assert report.iterations == min(report.curve, key=lambda point: (point.validation, point.iteration)).iteration
    again = make(spec_of(kind))
    again.fit(*images, validation=unseen_images)
    assert again.digest() == learner.digest()
    learner.save(tmp_path)
    stored = load(tmp_path)
    np.testing.assert_array_equal(stored.predict(unseen_images[0]), predicted)
    assert stored.digest() == learner.digest()


def test_a_stored_network_loads_the_same_after_a_default_has_changed(
    images: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make(replace(spec_of("mlp"), params={"epochs": 1}))
    learner.fit(*images)
    learner.save(tmp_path)
    changed = create_model("Params", __base__=architecture("mlp").Params, hidden=(list[int], [7]))
    monkeypatch.setattr("refit.learners.networks.architectures.mlp.Params", changed)
    assert np.array_equal(load(tmp_path).predict(images[0]), learner.predict(images[0]))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_older_kind_is_an_mlp_bit_for_bit(task: str) -> None:
    rows, unseen = sample(task, 300, seed=1), sample(task, 100, seed=2)
    classes = CLASSES if task == "multiclass" else ()
    metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[task]
    spec = Spec("it", "torch_tabular", FEATURES, CATEGORICAL, OLDER, metric=metric, task=task, classes=classes)
    older, newer = make(spec), make(replace(spec, kind="mlp", params=NEWER))
    reports = [each.fit(rows.table, rows.label, validation=(unseen.table, unseen.label)) for each in (older, newer)]
    assert reports[0] == reports[1]
    np.testing.assert_array_equal(older.predict(unseen.table), newer.predict(unseen.table))


def test_a_quantile_is_predicted_by_the_pinball_loss() -> None:
    rows, unseen = sample("regression", 400, seed=1), sample("regression", 400, seed=2)
    spec = Spec("it", "mlp", FEATURES, CATEGORICAL, TINY["mlp"], metric="mae", task="regression")
    learner = make(quantile_of(spec, 0.8))
    learner.fit(rows.table, rows.label)
    assert np.mean(unseen.label < learner.predict(unseen.table)) == pytest.approx(0.8, abs=0.08)


def test_vectors_are_read_and_a_missing_one_is_the_mean() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(5, 3, (300, 4)).astype(np.float32)
    label = (vectors[:, 2] > 5).astype(np.int64)
    cells = pa.array([None if row == 7 else list(vector) for row, vector in enumerate(vectors)], pa.list_(pa.float32()))
    column = ArrayColumn(kind="vector", shape=(4,))
    learner = make(Spec("it", "mlp", ("it",), params=TINY["mlp"], arrays={"it": column}))
    learner.fit(pa.table({"it": cells}), label)
    predicted = learner.predict(pa.table({"it": cells}))
    assert np.mean((predicted > 0.5) == label) > 0.9
    mean = pa.table({"it": pa.array([np.delete(vectors, 7, 0).mean(0)], pa.list_(pa.float32()))})
    assert learner.predict(mean)[0] == pytest.approx(predicted[7], abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "params", "what"),
    [
        ("mlp", {"droput": 0.1}, r"'mlp' has no argument 'droput'; did you mean 'dropout'\? \(.*params.droput\)"),
        ("cnn", {"augment": {"flop": True}}, r"no argument 'augment.flop'; did you mean 'flip'\? \(.*augment.flop\)"),
        ("mlp", {"epochs": 0}, r"input should be greater than or equal to 1; found 0 \(.*params.epochs\)"),
        ("mlp", {"nesterov": True}, r"nesterov needs optimizer: sgd and a momentum above 0 \(.*params\)"),
        ("cnn", {"loss": "mse"}, r"loss 'mse' is not for task 'multiclass'; choose one of cross_entropy, focal"),
        ("cnn", {"class_weights": {"across": 1.0, "upright": 1.0, "non": 1.0}}, r"class 'non.* \(.*class_weights\)"),
        ("cnn", {"channels": [4] * 5, "pool": "last"}, r"needs images of at least 12 x 12 pixels .* has 10 x 10"),
        ("cnn", {"channels": [4] * 3}, r"needs images of at least 22 x 22 pixels .* 'picture' has 10 x 10"),
    ],
)
def test_a_wrong_argument_is_one_line(kind: str, params: dict[str, Any], what: str, images: Rows) -> None:
    with pytest.raises(UserError, match=what) as raised:
        make(spec_of(kind, **params)).fit(*images)
    assert "\n" not in str(raised.value)


def test_a_feature_that_an_architecture_cannot_read_is_refused() -> None:
    spec = replace(spec_of("cnn"), features=("picture", "age"))
    with pytest.raises(UserError, match=r"'cnn' reads image, feature 'age' is a number, .*; leave it out"):
        make(spec)


def test_a_label_outside_the_classes_is_refused(images: Rows) -> None:
    with pytest.raises(UserError, match="learner 'it'"):
        make(spec_of("cnn")).fit(images[0], images[1] + 1)
