"""FixMatch: rows without a label are learned by what the network is sure of for a weak change of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from refit.errors import UserError
from refit.learners import Learner, Spec, load, make
from refit.learners.networks.fixmatch import applied, consistency
from refit.learners.networks.inputs import ImageScaling, Inputs
from refit.learners.networks.loop import Task
from refit.learners.networks.losses import nothing
from refit.learners.networks.surroundings import checkpoints_in
from tests.refit.learners.networks.conftest import Rows, image_rows, spec_of
from tests.refit.learners.networks.test_architectures import FEATURES_OF, IMAGE, pictures
from tests.refit.learners.networks.test_pretraining import Killed, killed_after

HOW: dict[str, Any] = {"ratio": 4, "threshold": 0.8, "augment": {"crop": 1, "noise": 0.1}}


def few(per_class: int = 4) -> Rows:
    table, label = image_rows(200, 1)
    rows = np.concatenate([np.flatnonzero(label == each)[:per_class] for each in range(3)])
    return table.take(rows), label[rows]


def fitted(spec: Spec, unlabelled: pa.Table | None, **named: Any) -> Learner:
    learner: Any = make(spec)
    learner.fit(*few(), unlabelled=unlabelled, **named)
    return learner


def accuracy(learner: Learner) -> float:
    table, label = image_rows(300, 2)
    return learner.spec.score(label, learner.predict(table))


@pytest.mark.slow
def test_rows_without_a_label_are_worth_more_than_the_labels_alone() -> None:
    alone, extra = spec_of("cnn", epochs=60, batch_rows=12, dense=16), image_rows(600, 5)[0]
    how = {**HOW, "augment": {"crop": 2, "erase": 0.3}}
    spec = replace(alone, params={**alone.params, "epochs": 20, "fixmatch": how})
    semi, supervised = (
        np.mean([accuracy(fitted(replace(each, seed=seed), extra)) for seed in range(3)]) for each in (spec, alone)
    )
    assert semi > supervised + 0.05, "the means of three seeds"


@pytest.mark.parametrize(
    "how", [{"fixmatch": {**HOW, "threshold": 0.0}}, {"pretrain": {"method": "rotation", "epochs": 1}}], ids=list
)
def test_a_learning_rate_is_looked_for_in_the_training_that_the_learner_has(how: dict[str, Any]) -> None:
    extra, rates = image_rows(40, 5)[0], [0.001, 0.01]
    learners: list[Any] = [make(spec_of("cnn", **given)) for given in ({}, how, how)]
    plain, semi, alone = (
        each.range_test(*few(), rates, table) for each, table in zip(learners, (extra, extra, None), strict=True)
    )
    assert semi[0] != plain[0]
    assert semi[0] != alone[0], "the rows without a label are read"


def test_the_loss_is_equation_4() -> None:
    weak = torch.log(torch.tensor([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.01, 0.01, 0.98]]))
    strong = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]))
    expected = -(np.log(0.2) + np.log(0.3)) / 3  # of the first row class 0, of the third class 2; the second is unsure
    assert float(consistency(weak, strong, 0.8)) == pytest.approx(expected, rel=1e-5)
    assert float(consistency(weak, strong, 0.999)) == 0


def test_the_loss_of_two_classes_is_the_same_as_of_one_output() -> None:
    weak, strong = torch.tensor([3.0, -3.0, 0.1]), torch.tensor([0.5, 1.0, -1.0])
    both = (torch.stack([torch.zeros(3), each], dim=1) for each in (weak, strong))
    assert float(consistency(weak, strong, 0.9)) == pytest.approx(float(consistency(*both, 0.9)), rel=1e-5)


def test_a_step_takes_one_pass_without_a_gradient_and_one_of_all_other_rows() -> None:
    learner: Any = make(spec_of("cnn", fixmatch=HOW))
    learner._learn_preparation(*few())
    network, rows = learner.built(learner.shapes), learner._prepared.inputs(few()[0])
    passes: list[tuple[int, bool]] = []
    network.register_forward_hook(lambda _, given, out: passes.append((len(given[0]), out.requires_grad)))
    task = learner._task(few()[1], 1, torch.device("cpu"), network)
    task, _ = applied(task, learner.params.fixmatch, 12, rows)
    loss = task.batch_loss(network, rows, torch.tensor(few()[1]), task)
    assert passes == [(48, False), (12 + 48, True)]
    assert loss.isfinite()


def test_it_is_the_same_each_time_and_comes_back_from_its_files(tmp_path: Path) -> None:
    spec = spec_of("cnn", epochs=2, batch_rows=12, fixmatch=HOW)
    assert make(spec).declaration.unlabelled == "needed"
    extra = image_rows(100, 5)[0]
    learner = fitted(spec, extra)
    assert fitted(spec, extra).digest() == learner.digest()
    assert fitted(spec, extra.slice(1)).digest() != learner.digest()
    learner.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(extra), learner.predict(extra))


def test_an_epoch_sees_about_as_many_rows_as_there_are_without_a_label() -> None:
    spec = spec_of("cnn", epochs=1, fixmatch=HOW)
    learner: Any = make(spec)
    task = Task("it", learner.params, nothing, 1, 0, torch.device("cpu"), ImageScaling({}))
    rows = Inputs(torch.zeros(480, 0, dtype=torch.int64), torch.zeros(480, 0))
    changed, index = applied(task, learner.params.fixmatch, 12, rows)
    assert index.tolist() == [*range(12)] * 10, "ten steps of 12 and 4 x 12 rows"
    for more in (1, 20, 47):
        unlabelled = Inputs(torch.zeros(480 + more, 0, dtype=torch.int64), torch.zeros(480 + more, 0))
        index = applied(task, learner.params.fixmatch, 12, unlabelled)[1]
        assert len(index) == 120 + -(-more // 4), "it does not jump"
        assert set(torch.bincount(index).tolist()) <= {10, 11}
    assert changed.batch_loss is not task.batch_loss
    assert len(applied(task, learner.params.fixmatch, 1000, rows)[1]) == 1000


def test_rows_whose_loss_is_not_finite_are_those_with_a_label() -> None:
    """An epoch has the 12 rows nine times."""
    spec = spec_of("cnn", epochs=5, batch_rows=100, learning_rate=1000, optimizer="sgd", fixmatch=HOW)
    with pytest.raises(UserError, match=r"the loss is .* in epoch") as caught:
        fitted(spec, image_rows(400, 5)[0])
    listed = re.search(r"training rows ([\d, ]+)", str(caught.value))
    assert listed
    assert max(int(row) for row in listed[1].split(",")) < 12


def test_a_killed_fit_goes_on_from_its_checkpoint_to_the_same_model(tmp_path: Path) -> None:
    spec, extra = spec_of("cnn", epochs=3, batch_rows=12, dropout=0.3, fixmatch=HOW), image_rows(100, 5)[0]
    whole, other = fitted(spec, extra), fitted(spec, extra.slice(1))
    with pytest.raises(Killed), checkpoints_in(tmp_path, every_seconds=0), killed_after("it", 2):
        fitted(spec, extra)
    with checkpoints_in(tmp_path, every_seconds=0):
        assert fitted(spec, extra.slice(1)).digest() == other.digest(), "other rows are another fit"
        assert fitted(spec, extra).digest() == whole.digest()


def test_without_such_rows_it_is_the_network_alone() -> None:
    spec, alone = spec_of("cnn", epochs=2, fixmatch=HOW), spec_of("cnn", epochs=2)
    table, _ = few()
    np.testing.assert_array_equal(fitted(spec, None).predict(table), fitted(alone, None).predict(table))
    np.testing.assert_array_equal(fitted(spec, table.slice(0, 0)).predict(table), fitted(alone, None).predict(table))


def test_it_goes_on_with_rows_without_a_label_too() -> None:
    spec, extra = spec_of("cnn", epochs=2, batch_rows=12, fixmatch=HOW), image_rows(100, 5)[0]
    before = fitted(spec, extra)
    after: Any = make(spec)
    after.resume(before, *few(), iterations=1, unlabelled=extra)
    alone: Any = make(spec)
    alone.resume(before, *few(), iterations=1)
    assert len({each.digest() for each in (before, after, alone)}) == 3


def test_two_classes_are_learned_by_one_output() -> None:
    table, label = pictures(12, 1)
    params = {**spec_of("cnn").params, "epochs": 10, "batch_rows": 12, "fixmatch": HOW}
    learner: Any = make(Spec("it", "cnn", ("picture",), params=params, metric="accuracy", arrays={"picture": IMAGE}))
    learner.fit(table, label, unlabelled=pictures(200, 5)[0])
    seen, truth = pictures(100, 2)
    assert learner.spec.score(truth, learner.predict(seen)) > 0.8


@pytest.mark.parametrize(
    ("kind", "features", "params", "message"),
    [
        ("mlp", "columns", {}, "fixmatch changes images, and no feature is one"),
        ("cnn", "image", {"mixup": 0.2}, "fixmatch and mixup do not go together"),
        ("cnn", "image", {"processes": 2}, "fixmatch runs in one process"),
        ("cnn", "image", {"fixmatch": {"treshold": 0.5}}, r"no argument 'fixmatch.treshold'; did you mean 'threshold'"),
        ("cnn", "image", {"fixmatch": {"ratio": 0}}, r"fixmatch\.ratio"),
    ],
)
def test_what_does_not_fit_is_one_early_error(kind: str, features: str, params: dict[str, Any], message: str) -> None:
    names, categorical, arrays = FEATURES_OF[features]
    with pytest.raises(UserError, match=message) as caught:
        make(Spec("it", kind, names, categorical, {"fixmatch": HOW, **params}, arrays=arrays))
    assert "\n" not in str(caught.value)
    regression = {"task": "regression", "metric": "mae", "arrays": FEATURES_OF["image"][2]}
    with pytest.raises(UserError, match="fixmatch is for classes"):
        make(Spec("it", "cnn", ("picture",), params={"fixmatch": HOW}, **regression))
