"""Pretraining without labels: each method's loss is that of its paper, and its weights are what labels go on from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from refit.errors import UserError
from refit.learners import Learner, Spec, load, make
from refit.learners.conformance.sample import sample
from refit.learners.networks.augment import augmented
from refit.learners.networks.inputs import Inputs
from refit.learners.networks.params import Augmentation
from refit.learners.networks.pretraining.masked_tokens import with_masks
from refit.learners.networks.pretraining.simclr import nt_xent
from refit.learners.networks.surroundings import EpochReport, checkpoints_in, reporting_to
from refit.learners.networks.tokens import PADDING, SPECIAL, UNKNOWN
from tests.refit.learners.networks.conftest import Rows, image_rows, spec_of
from tests.refit.learners.networks.test_architectures import FEATURES_OF, ROWS_OF, VECTORISER, columns, remarks
from tests.refit.learners.networks.test_own_module import SOURCE
from tests.refit.learners.networks.test_own_module import spec_of as own_spec

FAST = {"epochs": 2, "batch_rows": 32, "learning_rate": 0.01, "dropout": 0.0}


def case(method: str) -> tuple[Spec, Rows, pa.Table]:
    """A network that is pretrained in this way, labelled rows, and rows without a label."""
    how = {"method": method, "epochs": 2}
    if method in ("simclr", "rotation"):
        return spec_of("cnn", epochs=2, pretrain=how), image_rows(60, 1), image_rows(100, 5)[0]
    if method == "denoising":
        features, categorical, _ = FEATURES_OF["columns"]
        spec = Spec("it", "mlp", features, categorical, {**FAST, "hidden": [8], "pretrain": how})
        return spec, columns(60, 1), columns(100, 5)[0]
    features, categorical, _ = FEATURES_OF["text"]
    params = {**FAST, "units": 8, "heads": 2, "layers": 1, "pretrain": how}
    spec = Spec("it", "text_transformer", features, categorical, params, text=("remark",), vectoriser=VECTORISER)
    return spec, remarks(60, 1), remarks(100, 5)[0]


METHODS = ("simclr", "rotation", "denoising", "masked_tokens")


def fitted(spec: Spec, rows: Rows, unlabelled: pa.Table | None, **named: Any) -> Learner:
    learner: Any = make(spec)
    learner.fit(*rows, unlabelled=unlabelled, **named)
    return learner


@pytest.mark.parametrize("method", METHODS)
def test_rows_without_a_label_change_the_model_each_time_in_the_same_way(method: str, tmp_path: Path) -> None:
    spec, rows, extra = case(method)
    assert make(spec).declaration.unlabelled == "used"
    learner = fitted(spec, rows, extra)
    assert fitted(spec, rows, extra).digest() == learner.digest()
    assert fitted(spec, rows, extra.slice(1)).digest() != learner.digest()
    assert fitted(spec, rows, None).digest() != learner.digest()
    learner.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(rows[0]), learner.predict(rows[0]))


def test_rows_without_a_label_are_pretrained_on_and_not_only_counted_in_the_means() -> None:
    spec, rows, _ = case("simclr")
    assert fitted(spec, rows, rows[0]).digest() != fitted(spec, rows, None).digest(), "twice the same rows, same means"


@pytest.mark.parametrize("method", METHODS)
def test_it_lowers_its_own_loss_and_reports_each_epoch(method: str) -> None:
    spec, rows, extra = case(method)
    spec = replace(spec, params={**spec.params, "pretrain": {"method": method, "epochs": 8, "learning_rate": 0.01}})
    reports: list[EpochReport] = []
    with reporting_to(reports.append):
        fitted(spec, rows, extra)
    losses = [report.loss for report in reports if report.learner == "it pretraining"]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert len([report for report in reports if report.learner == "it"]) == spec.params["epochs"]


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_probe_trains_the_last_layer_alone(method: str) -> None:
    spec, rows, extra = case(method)
    probe = replace(spec, params={**spec.params, "pretrain": {"method": method, "epochs": 1, "then": "linear_probe"}})
    one, more = (fitted(probe, rows, extra, iterations=epochs)._module for epochs in (1, 3))  # type: ignore[attr-defined]
    changed = {name for name, weight in one.state_dict().items() if not weight.equal(more.state_dict()[name])}
    last = list(dict(more.named_parameters()))[-2:]
    assert changed == set(last)
    until = replace(probe, params={**probe.params, "thaw_epoch": 1})
    thawed = fitted(until, rows, extra, iterations=3)._module  # type: ignore[attr-defined]
    changed = {name for name, weight in one.state_dict().items() if not weight.equal(thawed.state_dict()[name])}
    assert changed > set(last), "all are trained after thaw_epoch"
    again: Any = make(probe)
    again.resume(fitted(probe, rows, extra), *rows, iterations=1)
    before = fitted(probe, rows, extra)._module.state_dict()  # type: ignore[attr-defined]
    after = again._module.state_dict()
    assert {name for name in after if not after[name].equal(before[name])} == set(last), "going on probes too"


def test_a_part_that_cannot_be_frozen_is_an_error_before_the_pretraining() -> None:
    spec, rows, extra = case("simclr")
    spec, reports = replace(spec, params={**spec.params, "freeze": ["bodi"]}), list[EpochReport]()
    with pytest.raises(UserError, match="the network has no part 'bodi'"), reporting_to(reports.append):
        fitted(spec, rows, extra)
    assert reports == []


def test_a_fit_that_goes_on_is_not_pretrained_again() -> None:
    spec, rows, extra = case("simclr")
    shown: list[str] = []
    learner: Any = make(spec)
    learner.resume(fitted(spec, rows, extra), *rows, iterations=1, progress=lambda text, *_: shown.append(text))
    assert shown
    assert not any("pretraining" in text for text in shown)


class Killed(BaseException):
    pass


@contextmanager
def killed_after(learner: str, epochs: int) -> Iterator[None]:
    def count(report: EpochReport) -> None:
        if (report.learner, report.epoch) == (learner, epochs):
            raise Killed

    with reporting_to(count):
        yield


@pytest.mark.parametrize(("where", "epochs"), [("it pretraining", 1), ("it pretraining", 2), ("it", 1)])
def test_a_killed_pretraining_goes_on_from_its_checkpoint_to_the_same_model(
    where: str, epochs: int, tmp_path: Path
) -> None:
    """With dropout and augmentation, which draw after it what they would have drawn."""
    spec, rows, extra = case("simclr")
    spec = replace(spec, params={**spec.params, "dropout": 0.3, "augment": {"crop": 1}})
    whole = fitted(spec, rows, extra)
    with pytest.raises(Killed), checkpoints_in(tmp_path, every_seconds=0), killed_after(where, epochs):
        fitted(spec, rows, extra)
    shown: list[str] = []
    with checkpoints_in(tmp_path, every_seconds=0):
        again = fitted(spec, rows, extra, progress=lambda text, *_: shown.append(text))
    assert again.digest() == whole.digest()
    reached = "continues after epoch 1 of 2" if where != "it" and epochs == 1 else "was finished before"
    assert any(text.startswith(f"note: it (pretraining) {reached}, from the checkpoint of ") for text in shown)


def test_a_batch_norm_sees_all_four_turns_of_the_images_in_one_batch() -> None:
    params: dict[str, Any] = {"depth": 8, "width": 2, "epochs": 1, "batch_rows": 32}
    params["pretrain"] = {"method": "rotation", "epochs": 1}
    spec, rows = replace(spec_of("cnn"), kind="resnet", params=params), image_rows(60, 1)
    sizes: set[int] = set()

    def note(module: nn.Module, given: Any) -> None:
        if isinstance(module, nn.BatchNorm2d) and module.training:
            sizes.add(len(given[0]))

    with reporting_to(lambda report: handle.remove()):
        handle = nn.modules.module.register_module_forward_pre_hook(note)
        fitted(spec, rows, rows[0])
    assert sizes == {4 * 32, 4 * (120 % 32)}, "of the first epoch"


def test_the_loss_of_simclr_is_equation_1() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, 3)
    views = torch.cat([first, second])

    def similarity(i: int, j: int) -> Tensor:
        return torch.exp(torch.cosine_similarity(views[i], views[j], dim=0) / 0.3)

    losses = []
    for i in range(10):
        partner = (i + 5) % 10
        others = sum(similarity(i, k) for k in range(10) if k != i)
        losses.append(-torch.log(similarity(i, partner) / others))
    assert nt_xent(first, second, 0.3) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert nt_xent(first, first, 0.1) < nt_xent(first, second, 0.1)


def test_hidden_tokens_are_shown_as_unknown_as_others_or_as_they_are() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 500, (400, 50))
    shown, wanted = with_masks(tokens, 0.2, 500)
    words = tokens >= len(SPECIAL)
    hidden = wanted != PADDING
    assert not hidden[~words].any()
    assert torch.equal(wanted[hidden], tokens[hidden])
    assert torch.equal(shown[~hidden], tokens[~hidden])
    assert float(hidden.sum() / words.sum()) == pytest.approx(0.2, abs=0.01)
    assert float((shown[hidden] == UNKNOWN).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((shown[hidden] == tokens[hidden]).float().mean()) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("how", [Augmentation(zoom=0.5), Augmentation(erase=0.4)])
def test_images_are_zoomed_and_erased(how: Augmentation) -> None:
    torch.manual_seed(0)
    images = torch.full((200, 1, 20, 20), 200, dtype=torch.uint8)
    batch = Inputs(torch.zeros(200, 0, dtype=torch.int64), torch.zeros(200, 0), {"picture": images})
    changed = augmented(batch, how).images["picture"]
    black = (changed < 1).float().mean(dim=(1, 2, 3))
    assert len(black.unique()) > 5, "each image in its own way"
    if how.erase:
        assert black.max() == pytest.approx(0.16, abs=0.03)
        assert set(changed.unique().tolist()) == {0.0, 200.0}
    else:
        assert 0.2 < (black > 0).float().mean() < 0.8, "some are smaller, some larger"
        assert black.max() < 0.8
    assert torch.equal(images, torch.full_like(images, 200))


RESNET = {"epochs": 1, "batch_rows": 32, "depth": 8, "width": 4}


@pytest.mark.parametrize(
    ("kind", "method", "params"),
    [
        ("resnet", "simclr", RESNET),
        ("resnet", "rotation", RESNET),
        ("mlp", "simclr", {**FAST, "hidden": [8]}),
        ("tabular_resnet", "denoising", {**FAST, "units": 8, "blocks": 1}),
        ("text_embedding", "denoising", {**FAST, "units": 8}),
    ],
)
def test_every_architecture_is_pretrained_by_what_fits_its_features(
    kind: str, method: str, params: dict[str, Any]
) -> None:
    features = "image" if method != "denoising" else "text" if kind == "text_embedding" else "columns"
    names, categorical, arrays = FEATURES_OF[features]
    spec = Spec("it", kind, names, categorical, {**params, "pretrain": {"method": method, "epochs": 1}}, arrays=arrays)
    if kind == "text_embedding":  # it reads the texts itself, and denoising has nothing to hide in them
        with pytest.raises(UserError, match="is for numbers, categories and vectors"):
            make(replace(spec, text=("remark",), vectoriser=VECTORISER))
        return
    rows, extra = (ROWS_OF[features](count, 1) for count in (60, 90))
    learner = fitted(spec, rows, extra[0])
    assert learner.digest() == fitted(spec, rows, extra[0]).digest()
    without = replace(spec, params=params)
    assert learner.digest() != fitted(without, rows, None).digest()


def test_a_module_of_the_users_own_is_pretrained_if_it_ends_in_a_linear_layer() -> None:
    rows, how = sample("binary", 120, seed=1), {"method": "denoising", "epochs": 1}
    learner = fitted(own_spec(pretrain=how), (rows.table, rows.label), rows.table)
    assert np.isfinite(learner.predict(rows.table)).all()
    bent = SOURCE.replace("nn.Linear(units, outputs)", "nn.Linear(units, outputs), nn.PReLU(outputs)")
    with pytest.raises(UserError, match=r"needs a network whose last layer is one nn\.Linear"):
        fitted(own_spec(bent, pretrain=how), (rows.table, rows.label), None)


@pytest.mark.parametrize(
    ("kind", "features", "how", "message"),
    [
        ("mlp", "columns", {"method": "simclr"}, "pretraining by simclr is for features that are all images"),
        ("cnn", "image", {"method": "denoising"}, "pretraining by denoising is for numbers, categories and vectors"),
        ("mlp", "columns", {"method": "masked_tokens"}, "is for texts that a text_transformer reads"),
        ("gru", "sequence", {"method": "rotation"}, "is for features that are all square images"),
        ("mlp", "columns", {"method": "contrastive"}, r"pretrain\.method"),
        ("mlp", "columns", {"method": "denoising", "epoch": 3}, "no argument 'pretrain.epoch'; did you mean 'epochs'"),
        ("cnn", "image", {"method": "simclr", "augment": {"turn": 3}}, "no argument 'pretrain.augment.turn'"),
        ("autoencoder", "columns", {"method": "rotation"}, "denoising"),
    ],
)
def test_a_method_that_does_not_fit_is_one_early_error(
    kind: str, features: str, how: dict[str, Any], message: str
) -> None:
    names, categorical, arrays = FEATURES_OF[features]
    spec = Spec("it", kind, names, categorical, {"pretrain": how}, arrays=arrays)
    with pytest.raises(UserError, match=message) as caught:
        make(spec)
    assert "\n" not in str(caught.value)


def test_the_older_name_of_the_method_is_read_in_params_and_in_stored_models() -> None:
    features, categorical, _ = FEATURES_OF["columns"]
    older, newer = (
        make(Spec("it", "autoencoder", features, categorical, {**FAST, "pretrain": {name: "denoising", "epochs": 1}}))
        for name in ("kind", "method")
    )
    assert older.params == newer.params  # type: ignore[attr-defined]


def test_the_autoencoder_uses_rows_without_a_label_too() -> None:
    features, categorical, _ = FEATURES_OF["columns"]
    spec = Spec("it", "autoencoder", features, categorical, {**FAST, "hidden": [8], "pretrain": {"epochs": 2}})
    rows, extra = columns(60, 1), columns(100, 5)[0]
    assert make(spec).declaration.unlabelled == "used"
    assert fitted(spec, rows, extra).digest() != fitted(spec, rows, None).digest()
