"""A network starts from another one: what it takes, what it replaces, what is frozen, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from refit.config.column_types import ArrayColumn
from refit.errors import RefitError, UserError
from refit.learners import Spec, load, make
from refit.learners.conformance.sample import CATEGORICAL, FEATURES, sample
from refit.learners.contract import Start
from refit.learners.networks import transfer
from refit.learners.networks.network import Network
from refit.learners.networks.transfer import frozen_weights, layers_of
from tests.refit.learners.networks.conftest import TINY, Rows, image_rows, spec_of

OTHER = ("left", "middle", "right")  # as many classes as the parent has


def stored(spec: Spec, folder: Path, rows: Rows) -> Start:
    """A fitted learner in a folder, to start from."""
    parent = make(spec)
    parent.fit(*rows)
    folder.mkdir()
    parent.save(folder)
    return Start(folder, "version 1 of base", parent.digest())


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Start:
    return stored(spec_of("cnn"), tmp_path_factory.mktemp("parent") / "model", image_rows(240, 1))


def started(parent: Start, rows: Rows, *, epochs: int | None = None, **changes: Any) -> Network:
    spec = replace(spec_of("cnn", **changes.pop("params", {})), start=parent, **changes)
    learner = make(spec)
    assert isinstance(learner, Network)
    learner.fit(*rows, iterations=epochs)
    return learner


def weights_of(start: Start) -> dict[str, np.ndarray]:
    network = load(start.folder)
    assert isinstance(network, Network)
    return {name: weight.numpy() for name, weight in network.weights().items()}


def changed(learner: Network, parent: Start) -> set[str]:
    """The weights that are no longer those of the parent."""
    before = weights_of(parent)
    return {name for name, weight in learner.weights().items() if not np.array_equal(weight.numpy(), before[name])}


def head(learner: Network) -> set[str]:
    return set(list(learner.weights())[-2:])


def test_a_network_takes_the_weights_and_the_preparation_of_its_parent(parent: Start, unseen_images: Rows) -> None:
    few = image_rows(60, 3)
    darker = pa.table({"picture": [bytes(p // 2 for p in cell) for cell in few[0]["picture"].to_pylist()]}), few[1]
    tuned, scratch = started(parent, few, epochs=1), make(spec_of("cnn"))
    scratch.fit(*few, iterations=1)
    scores = [each.spec.score(unseen_images[1], each.predict(unseen_images[0])) for each in (tuned, scratch)]
    assert scores[0] > 0.8 > scores[1]
    of_parent = load(parent.folder)
    assert isinstance(of_parent, Network)
    mine, of_parents = (each._prepared.to_arrays() for each in (started(parent, darker, epochs=1), of_parent))
    np.testing.assert_equal(mine, of_parents)


def test_the_same_start_gives_the_same_bits_and_a_stored_network_needs_no_parent(
    parent: Start, images: Rows, tmp_path: Path
) -> None:
    first, second = (started(parent, images, epochs=2) for _ in range(2))
    assert first.digest() == second.digest()
    first.save(tmp_path)
    again = load(tmp_path)
    assert again.digest() == first.digest()
    np.testing.assert_array_equal(again.predict(images[0]), first.predict(images[0]))


def test_only_the_head_is_new_if_the_classes_differ_even_if_they_are_as_many(parent: Start, images: Rows) -> None:
    still = {"freeze": ["body"], "learning_rate": 1e-12, "weight_decay": 0.0}
    same = started(parent, images, epochs=1, params=still)
    other = started(parent, images, epochs=1, params=still, classes=OTHER)
    before = weights_of(parent)
    for name in head(same):
        np.testing.assert_allclose(same.weights()[name].numpy(), before[name], atol=1e-6)
        assert not np.allclose(other.weights()[name].numpy(), before[name], atol=1e-3)
    assert changed(other, parent) == head(other)
    more = started(parent, images, epochs=1, classes=(*OTHER, "none"), params={"freeze": ["body"]})
    assert more.predict(images[0]).shape == (240, 4)


def test_patience_counts_from_the_epoch_in_which_frozen_parts_are_thawed(images: Rows, unseen_images: Rows) -> None:
    """A head that can learn no more would end the training before the body is trained at all."""
    still: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e-30, "epochs": 9, "patience": 2}
    lengths = []
    for more in ({}, {"freeze": ["body"], "thaw_epoch": 4}, {"freeze": ["body"]}):
        report = make(spec_of("mlp", **still, **more)).fit(*images, validation=unseen_images)
        lengths.append((report.iterations, len(report.curve)))
    assert lengths == [(1, 3), (1, 6), (1, 3)]


def test_frozen_parts_keep_their_weights_until_they_are_thawed(parent: Start, images: Rows) -> None:
    for freeze, kept in ((["body"], "convolutions"), (["convolutions.0"], "convolutions.0.")):
        until = {"freeze": freeze, "thaw_epoch": 2}
        for epochs, is_frozen in ((2, True), (3, False)):
            learner = started(parent, images, epochs=epochs, params=until)
            assert is_frozen != any(name.startswith(kept) for name in changed(learner, parent))
    later = make(spec_of("cnn"))
    later.resume(started(parent, images, epochs=1, params={"freeze": ["body"]}), *images, iterations=1)
    assert isinstance(later, Network)
    assert any(name.startswith("convolutions") for name in changed(later, parent)), "a later training goes on with all"


def test_frozen_batch_norms_keep_their_statistics(images: Rows, tmp_path: Path) -> None:
    params = {"channels": [4], "blocks": [1], "epochs": 2, "batch_rows": 32, "dropout": 0.0}
    spec = replace(spec_of("cnn"), kind="resnet")
    names = {*params} & {*_fields("resnet")}
    spec = replace(spec, params={name: params[name] for name in names})
    start = stored(spec, tmp_path / "model", images)
    learner = make(replace(spec, start=start, classes=OTHER, params={**spec.params, "freeze": ["body"]}))
    brighter = pa.table({"picture": [bytes(min(255, p + 60) for p in c) for c in images[0]["picture"].to_pylist()]})
    learner.fit(brighter, images[1])
    assert isinstance(learner, Network)
    assert any("running_mean" in name for name in learner.weights())
    assert changed(learner, start) == head(learner)


@pytest.mark.parametrize("part", ["body", "0", "0.1"])
def test_frozen_batch_norms_keep_their_statistics_even_without_weights(part: str) -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)), nn.Linear(2, 1))
    norm = network.get_submodule("0.1")
    frozen = frozen_weights(network, [part], frozenset({"1.weight", "1.bias"}), "params")
    network.train()
    transfer.freeze(network, frozen)
    network(torch.randn(5, 2))
    assert norm.running_mean.tolist() == [0, 0]
    transfer.freeze(network, frozen, thawed=True)
    network(torch.randn(5, 2))
    assert norm.running_mean.tolist() != [0, 0]


def _fields(kind: str) -> Any:
    from refit.learners.networks.architecture import architecture

    return architecture(kind).Params.model_fields


def test_layers_learn_at_their_own_rates(parent: Start, images: Rows) -> None:
    def moved(**params: Any) -> dict[str, float]:
        plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.01, "batch_rows": 240}
        learner, before = started(parent, images, epochs=1, params={**plain, **params}), weights_of(parent)
        return {name: float(np.abs(now.numpy() - before[name]).max()) for name, now in learner.weights().items()}

    even, decayed, quick = moved(), moved(layer_decay=0.5), moved(head_learning_rate=0.1)
    first, *_, last = [name for name in even if name.endswith("weight")]
    layers = sum(name.endswith("weight") for name in even)
    assert decayed[first] == pytest.approx(even[first] * 0.5 ** (layers - 1), rel=0.01)
    assert decayed[last] == pytest.approx(even[last], rel=1e-4)
    assert quick[last] == pytest.approx(10 * even[last], rel=1e-4)
    assert quick[first] == pytest.approx(even[first], rel=1e-4)


@pytest.mark.parametrize("both_ways", [False, True])
def test_each_of_several_recurrent_layers_is_one(both_ways: bool) -> None:
    module = nn.Sequential(nn.GRU(2, 3, 3, bidirectional=both_ways), nn.Linear(3, 1))
    layers = layers_of(module, frozenset({"1.weight", "1.bias"}))
    assert [len(layer) for layer in layers] == [8 if both_ways else 4] * 3
    assert [{name.removesuffix("_reverse")[-3:] for name in layer} for layer in layers] == [{"_l0"}, {"_l1"}, {"_l2"}]


@pytest.mark.parametrize("normed", [weight_norm, spectral_norm])
def test_a_layer_whose_weights_are_computed_of_others_is_one_with_its_bias(normed: Any) -> None:
    module = nn.Sequential(
        normed(nn.Conv1d(2, 3, 2)), normed(nn.Conv1d(3, 3, 2)), nn.Linear(3, 3), normed(nn.Linear(3, 1))
    )
    names = {name for name, _ in module.named_parameters()}
    head = {name for name in names if name.startswith("3.")}
    layers = layers_of(module, frozenset(head))
    assert [{name[0] for name in layer} for layer in layers] == [{"0"}, {"1"}, {"2"}]
    assert {name for layer in layers for name in layer} == names - head


def test_numbers_and_categories_are_coded_as_the_parent_codes_them(tmp_path: Path) -> None:
    rows = sample("binary", 300, seed=1)
    spec = Spec("it", "mlp", FEATURES, CATEGORICAL, TINY["mlp"])
    start = stored(spec, tmp_path / "model", (rows.table, rows.label))
    new = rows.table.slice(0, 100).set_column(
        rows.table.column_names.index(sorted(CATEGORICAL)[0]), sorted(CATEGORICAL)[0], pa.array(["unheard of"] * 100)
    )
    reordered = replace(spec, features=FEATURES[::-1], start=start)
    learner = make(reordered)
    learner.fit(new, rows.label[:100], iterations=1)
    (tmp_path / "child").mkdir()
    learner.save(tmp_path / "child")
    again = load(tmp_path / "child")
    np.testing.assert_array_equal(again.predict(rows.table), learner.predict(rows.table))
    later = make(replace(spec, features=FEATURES[::-1]))
    later.resume(load(start.folder), rows.table, rows.label, iterations=1)
    (tmp_path / "later").mkdir()
    later.save(tmp_path / "later")
    np.testing.assert_array_equal(load(tmp_path / "later").predict(rows.table), later.predict(rows.table))


def test_a_regression_keeps_its_own_unit(tmp_path: Path) -> None:
    rows = sample("regression", 300, seed=1)
    spec = Spec("it", "mlp", FEATURES, CATEGORICAL, TINY["mlp"], metric="rmse", task="regression")
    start = stored(spec, tmp_path / "model", (rows.table, rows.label))
    seconds = make(replace(spec, start=start, params={**TINY["mlp"], "learning_rate": 1e-9}))
    seconds.fit(rows.table, 60 * rows.label, iterations=1)
    np.testing.assert_allclose(seconds.predict(rows.table), 60 * load(start.folder).predict(rows.table), rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"params": {**TINY["cnn"], "dense": 16}}, r"dense\.\d.bias is 8 there and 16 here; its params are .*dense: 8"),
        ({"kind": "mlp", "params": TINY["mlp"]}, "that is of kind cnn, this one mlp; they must agree"),
        ({"features": ("photo",), "arrays": {"photo": ArrayColumn(kind="image", shape=(10, 10, 1))}}, "'picture'"),
        (
            {"arrays": {"picture": ArrayColumn(kind="image", shape=(12, 12, 1))}},
            r"feature 'picture' is image\(10, 10, 1\) there and image\(12, 12, 1\) here",
        ),
        ({"params": {**TINY["cnn"], "freeze": ["convs"]}}, "has no part 'convs'; it has body, convolutions, dense"),
        ({"params": {**TINY["cnn"], "freeze": ["body", "dense"]}}, "nothing is left to train; leave the head out"),
        ({"params": {**TINY["cnn"], "thaw_epoch": 2}}, "thaw_epoch needs freeze"),
    ],
)
def test_what_cannot_start_is_one_line(change: dict[str, Any], what: str, parent: Start, images: Rows) -> None:
    with pytest.raises(UserError, match=what) as raised:
        make(replace(spec_of("cnn"), start=parent, **change)).fit(*images)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"channels": [4, 6]}, r"convolutions\.\d.bias is 4 there and 6 here; its params are channels: \[4, 4\], .*"),
        ({"channels": [4]}, r"convolutions\.\d.bias is 4 there and missing here"),
    ],
)
def test_a_training_goes_on_only_with_the_same_architecture(
    change: dict[str, Any], what: str, parent: Start, images: Rows
) -> None:
    """For its params, not its weights, say what is built when it is loaded."""
    learner = make(spec_of("cnn", **change), where="here")
    with pytest.raises(UserError, match=f"cannot go on from a network of another architecture: {what}") as raised:
        learner.resume(load(parent.folder), *images, iterations=1)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("(here.params)")


def test_what_is_no_architecture_may_change_and_is_what_the_params_say(
    parent: Start, images: Rows, tmp_path: Path
) -> None:
    learner = make(spec_of("cnn", dropout=0.5))
    learner.resume(load(parent.folder), *images, iterations=1)
    assert isinstance(learner, Network)
    assert {module.p for module in learner._module.modules() if hasattr(module, "p")} >= {0.5}
    learner.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(images[0]), learner.predict(images[0]))


def test_the_arguments_in_the_docs_are_valid(parent: Start, images: Rows, root: Path) -> None:
    section = (root / "docs/networks.md").read_text(encoding="utf-8").partition("## Start from another model")[2]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block
    (learner,) = yaml.safe_load(block[1])["train"]["learners"]
    started(parent, images, epochs=1, params={**learner["params"], "batch_rows": 64})


def test_another_learner_and_a_damaged_folder_are_refused(tmp_path: Path) -> None:
    rows = sample("binary", 100, seed=1)
    linear = Spec("it", "sklearn.linear_model.LogisticRegression", FEATURES, CATEGORICAL)
    start = stored(linear, tmp_path / "model", (rows.table, rows.label))
    network = Spec("net", "mlp", FEATURES, CATEGORICAL, TINY["mlp"], start=start)
    what = r"learner 'net' cannot start from version 1 of base: that is 'it' \(sklearn.*\), no network"
    with pytest.raises(UserError, match=what):
        make(network)
    start = stored(replace(network, start=None), tmp_path / "damaged", (rows.table, rows.label))
    weights = start.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(RefitError, match=r"model\.safetensors"):
        make(replace(network, start=start))
