"""The loop and its parts: losses, optimisers, schedules, what changes the batches, and what stops a training."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional

from refit.errors import UserError
from refit.learners import Learner, Spec, make
from refit.learners.contract import CurvePoint
from refit.learners.networks.architectures.mlp import Mlp
from refit.learners.networks.architectures.text_transformer import Params as TransformerParams
from refit.learners.networks.augment import augmented, mixed
from refit.learners.networks.inputs import ImageScaling, Inputs, InputShapes
from refit.learners.networks.loop import Task, train
from refit.learners.networks.losses import class_weights, loss_of
from refit.learners.networks.network import Network
from refit.learners.networks.optimisers import Plateau, rate
from refit.learners.networks.params import ArchitectureParams, Augmentation
from refit.learners.networks.surroundings import EpochReport, reporting_to
from tests.refit.learners.networks.conftest import Rows, spec_of

NUMBERS = Spec("it", "mlp", ("x",), task="regression", metric="rmse")
LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0])
OUTPUTS = torch.tensor([-1.0, 2.0, -0.5, 0.3])


def fitted(
    rows: Rows, *, iterations: int | None = None, unseen: Rows | None = None, **params: Any
) -> tuple[Learner, list[EpochReport]]:
    """A learner of the images and what it reported of each epoch."""
    epochs: list[EpochReport] = []
    learner = make(spec_of("mlp", **params))
    with reporting_to(epochs.append):
        learner.fit(*rows, validation=unseen, iterations=iterations)
    return learner, epochs


@pytest.mark.parametrize(
    ("task", "params", "expected"),
    [
        ("binary", {}, "-(y * log(p) + (1 - y) * log(1 - p))"),
        ("binary", {"label_smoothing": 0.2}, "-((.8 * y + .1) * log(p) + (.9 - .8 * y) * log(1 - p))"),
        ("binary", {"loss": "focal"}, "-(y * (1 - p) ** 2 * log(p) + (1 - y) * p ** 2 * log(1 - p))"),
        ("binary", {"class_weights": {"0": 1.0, "1": 3.0}}, "-(1.5 * y * log(p) + .5 * (1 - y) * log(1 - p))"),
        ("regression", {}, "(o - y) ** 2"),
        ("regression", {"loss": "mae"}, "abs(o - y)"),
        ("regression", {"loss": "huber"}, "where(abs(o - y) < 1, (o - y) ** 2 / 2, abs(o - y) - .5)"),
        ("regression", {"loss": "pinball"}, "abs(o - y) / 2"),
    ],
)
def test_a_loss_is_its_formula(task: str, params: dict[str, Any], expected: str) -> None:
    loss = loss_of(ArchitectureParams(**params), replace(NUMBERS, task=task), LABELS.numpy())
    values = {"y": LABELS, "o": OUTPUTS, "p": torch.sigmoid(OUTPUTS), "log": torch.log, "abs": torch.abs}
    formula = eval(expected, {**values, "where": torch.where})
    assert float(loss(OUTPUTS, LABELS)) == pytest.approx(float(formula.mean()), rel=1e-5)


def test_balanced_classes_have_the_same_weight_in_all_and_the_mean_weight_is_1() -> None:
    label = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    params = ArchitectureParams(class_weights="balanced", label_smoothing=0.1, loss="focal", focal_gamma=0.0)
    spec = replace(NUMBERS, task="multiclass", classes=("a", "b", "c"))
    outputs, target = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.from_numpy(label)
    weights = torch.tensor([2 / 3, 4 / 3, 4 / 3])[target]
    rows = functional.cross_entropy(outputs, target, label_smoothing=0.1, reduction="none")
    assert float(loss_of(params, spec, label)(outputs, target)) == pytest.approx(float((weights * rows).mean()))


def test_a_class_without_a_training_row_does_not_outweigh_all_others_on_validation_rows() -> None:
    spec = replace(NUMBERS, task="multiclass", classes=("a", "b", "c"))
    weights = class_weights(ArchitectureParams(class_weights="balanced"), spec, np.repeat([0, 1], [300, 100]), "")
    assert weights is not None
    assert weights.tolist() == pytest.approx([2 / 3, 2, 1])


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_is_finite_and_so_is_its_slope_however_sure_a_prediction_is(task: str, gamma: float) -> None:
    sure = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0])
    outputs = (sure if task == "binary" else torch.stack([-sure, sure], dim=1)).requires_grad_()
    target = torch.ones(5, dtype=torch.float32 if task == "binary" else torch.int64)
    params = ArchitectureParams(loss="focal", focal_gamma=gamma)
    spec = replace(NUMBERS, task=task, classes=("a", "b") if task == "multiclass" else ())
    loss = loss_of(params, spec, np.ones(5))(outputs, target)
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    distance = (sure if task == "binary" else 2 * sure).detach().double()
    expected = torch.sigmoid(-distance) ** gamma * functional.softplus(-distance)
    assert float(loss.detach()) == pytest.approx(float(expected.mean()), rel=1e-5)


def rates(steps: int = 1, **params: Any) -> list[float]:
    """The learning rate at each step, rounded, for a highest one of 1."""
    checked = ArchitectureParams(learning_rate=1.0, **params)
    return [round(rate(checked, epoch, step, steps), 3) for epoch in range(checked.epochs) for step in range(steps)]


def test_each_schedule_is_its_curve() -> None:
    assert rates(epochs=3, schedule="constant") == [1, 1, 1]
    assert rates(epochs=5, schedule="step", step_epochs=2) == [1, 1, 0.1, 0.1, 0.01]
    assert rates(epochs=4, schedule="cosine") == [1, 0.854, 0.5, 0.146]
    assert rates(2, epochs=4, schedule="cosine", warmup_epochs=2.0) == [0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5]
    cycle = rates(10, epochs=2, schedule="one_cycle")
    assert (cycle[0], cycle[6], max(cycle)) == (0.04, 1, 1)
    assert cycle[:7] == sorted(cycle[:7])
    assert cycle[6:] == sorted(cycle[6:], reverse=True)
    assert cycle[-1] < 0.02
    assert rates(10, epochs=2, schedule="one_cycle", warmup_epochs=1.0) == cycle, "one_cycle warms up by itself"


def test_a_plateau_lowers_the_rate_after_epochs_without_a_lower_loss() -> None:
    plateau = Plateau(ArchitectureParams(plateau_epochs=2, decay=0.5))
    factors = []
    for loss in (3.0, 2.0, 2.0, 2.5, 1.0, 1.0, 1.0):
        plateau.after_epoch(loss)
        factors.append(plateau.factor)
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.5), (2, 1.0), (30, 1.0)])
def test_the_usual_warm_up_of_a_transformer_is_an_epoch_or_half_of_the_only_one(epochs: int, warmup: float) -> None:
    params = TransformerParams(epochs=epochs)
    assert params.warmup_epochs == warmup
    assert TransformerParams.model_validate(params.model_dump(mode="json")) == params, "as a stored model has them"


class Normed(nn.Module):
    """A batch norm of the numbers, a mask and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(2), nn.Linear(2, 1)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, batch: Inputs) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(self.norm(batch.numbers)).squeeze(1)
        return outputs


def test_averaged_weights_are_a_moving_average_and_so_are_the_statistics_of_batch_norms() -> None:
    torch.manual_seed(0)
    rows, target, start = Inputs(torch.empty(9, 0).long(), 1 + torch.rand(9, 2)), torch.rand(9), Normed().state_dict()

    def after_each_epoch(ema: float) -> list[dict[str, torch.Tensor]]:
        states: list[dict[str, torch.Tensor]] = []

        def score(network: nn.Module, epoch: int) -> CurvePoint:
            states.append({name: value.clone() for name, value in network.state_dict().items()})
            return CurvePoint(epoch, 0.0, 0.0)

        params, cpu = ArchitectureParams(ema=ema, epochs=4, learning_rate=0.1, patience=4), torch.device("cpu")
        loss = functional.mse_loss
        network, task = Normed(), Task("it", params, loss, 4, 0, cpu, ImageScaling({}), score=score)
        network.load_state_dict(start)
        train(network, rows, target, task)
        return states

    expected, averaged = (after_each_epoch(ema) for ema in (0.0, 0.3))
    means = expected[0]
    for step, (now, mean) in enumerate(zip(expected, averaged, strict=True)):
        share = 1 - min(0.3, (1 + step) / (10 + step))
        means = {
            name: value if step == 0 else means[name] + share * (value - means[name]) for name, value in now.items()
        }
        counted, mask = "norm.num_batches_tracked", "mask"
        assert mean[counted] == now[counted] == step + 1
        assert torch.equal(mean[mask], now[mask])
        for name in {*means} - {counted, mask}:
            torch.testing.assert_close(mean[name], means[name], msg=name)
    assert not torch.allclose(averaged[-1]["norm.running_mean"], expected[-1]["norm.running_mean"], atol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one_cycle", "plateau"])
def test_a_refit_follows_the_schedule_of_the_search(schedule: str, images: Rows, unseen_images: Rows) -> None:
    params = {"schedule": schedule, "patience": 6, "plateau_epochs": 1, "step_epochs": 2, "warmup_epochs": 0.5}
    _, search = fitted(images, unseen=unseen_images, **params)
    _, refit = fitted(images, iterations=3, **params)
    assert len(search) == 6
    expected = [(each.epoch, each.loss, each.learning_rate) for each in search[:3]]
    assert [(each.epoch, each.loss, each.learning_rate) for each in refit] == expected


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": "sgd", "learning_rate": 0.05, "nesterov": True},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "clip_norm": 0.5, "ema": 0.9},
        {"optimizer": "rmsprop", "learning_rate": 0.003},
        {"optimizer": "adagrad", "learning_rate": 0.03},
        {"loss": "focal", "class_weights": "balanced", "label_smoothing": 0.05},
        {"precision": "bf16-mixed"},
        {"precision": "16-mixed", "clip_norm": 1.0},
        {"mixup": 0.2, "augment": {"crop": 1, "noise": 0.02}},
    ],
    ids=str,
)
def test_it_learns_by_every_means(params: dict[str, Any], images: Rows, unseen_images: Rows) -> None:
    learner, epochs = fitted(images, unseen=unseen_images, **params)
    assert learner.spec.score(unseen_images[1], learner.predict(unseen_images[0])) > 0.7
    assert epochs[-1].loss < epochs[0].loss
    assert learner.digest() != fitted(images, unseen=unseen_images)[0].digest()


def test_a_batch_in_parts_is_the_same_step(images: Rows) -> None:
    whole, parts = (fitted(images, accumulate=count)[0].predict(images[0]) for count in (1, 3))
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_the_best_weights_predict_when_it_stops_early(images: Rows, unseen_images: Rows) -> None:
    spec = spec_of("mlp", learning_rate=0.1, epochs=30, patience=2, schedule="constant")
    learner = make(replace(spec, metric="log_loss"))
    report = learner.fit(*images, validation=unseen_images)
    assert report.iterations is not None
    assert len(report.curve) == report.iterations + 2 < 30
    best = min(point.validation for point in report.curve)
    assert report.curve[-1].validation > best
    assert learner.spec.score(unseen_images[1], learner.predict(unseen_images[0])) == best


def pictures(rows: int) -> Inputs:
    """Images with two channels of numbers that all differ."""
    pixels = torch.arange(rows * 2 * 4 * 5).remainder(250).reshape(rows, 2, 4, 5).to(torch.uint8)
    return Inputs(torch.empty(rows, 0).long(), torch.empty(rows, 0), {"it": pixels})


def test_images_are_cropped_flipped_rotated_and_noised() -> None:
    torch.manual_seed(0)
    batch = pictures(50)
    before = batch.images["it"].float()
    cropped = augmented(batch, Augmentation(crop=1)).images["it"]
    assert torch.equal(cropped[:, :, 1:-1, 1:-1].amax((1, 2, 3)) > 0, torch.ones(50).bool())
    assert any(torch.equal(cropped[row, :, 1:, :], before[row, :, :-1, :]) for row in range(50))  # one pixel down
    flipped = augmented(batch, Augmentation(flip=True)).images["it"]
    mirrored = [torch.equal(flipped[row], before[row].flip(2)) for row in range(50)]
    assert 10 < sum(mirrored) < 40
    assert all(mirrored[row] or torch.equal(flipped[row], before[row]) for row in range(50))
    square = replace(batch, images={"it": before[:, :, :, :4]})
    torch.manual_seed(1)
    turned = augmented(square, Augmentation(rotate=180.0)).images["it"]
    assert turned.shape == square.images["it"].shape
    assert not torch.equal(turned, square.images["it"])
    tiny = augmented(square, Augmentation(rotate=1e-6)).images["it"]
    torch.testing.assert_close(tiny, square.images["it"], atol=0.01, rtol=0)
    noisy = augmented(batch, Augmentation(noise=0.1)).images["it"]
    assert 15 < float((noisy - before)[(before > 80) & (before < 170)].std()) < 35
    assert float(noisy.min()) >= 0
    assert float(noisy.max()) <= 255


def test_mixup_mixes_each_row_with_the_row_whose_label_it_mixes() -> None:
    torch.manual_seed(0)
    batch = pictures(9)
    batch = replace(batch, images={"it": batch.images["it"].float()})
    mix, other, share = mixed(batch, 0.4)
    expected = share * batch.images["it"] + (1 - share) * batch.images["it"][other]
    torch.testing.assert_close(mix.images["it"], expected)


def test_a_loss_that_is_no_number_stops_at_once_and_names_the_rows(images: Rows) -> None:
    expected = (
        r"the loss is (nan|inf) in epoch 1, batch [2-8] \(training rows (\d+, ){4}\d+ and (11|27) more, counted from"
    )
    with pytest.raises(UserError, match=expected) as raised:
        fitted(images, optimizer="sgd", learning_rate=1000.0, weight_decay=1000.0)
    assert "0); lower learning_rate, set clip_norm, or look at these rows" in str(raised.value)


def test_weights_that_are_no_numbers_after_the_last_batch_are_refused_too() -> None:
    def without_slope(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (outputs.sum() * 0).sqrt()

    cpu = torch.device("cpu")
    task = Task("it", ArchitectureParams(), without_slope, epochs=1, seed=0, device=cpu, scaling=ImageScaling({}))
    network, rows = Mlp(InputShapes(numbers=3), [4], 0.0, 1), Inputs(torch.empty(9, 0).long(), torch.ones(9, 3))
    with pytest.raises(UserError, match="'it': weights are no longer finite after epoch 1; lower learning_rate"):
        train(network, rows, torch.ones(9), task)


@pytest.mark.parametrize(("batch_rows", "accumulate", "most"), [(40, 1, 40), (40, 4, 10), (4096, 1, 512)])
def test_no_more_rows_are_predicted_at_once_than_a_training_computes(
    batch_rows: int, accumulate: int, most: int, images: Rows
) -> None:
    learner, _ = fitted(images, iterations=1, batch_rows=batch_rows, accumulate=accumulate)
    assert isinstance(learner, Network)
    sizes: list[int] = []
    learner._module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    many = pa.concat_tables([images[0]] * 3)
    predicted = learner.predict(many)
    assert (max(sizes), sum(sizes)) == (most, 720)
    np.testing.assert_array_equal(predicted[:most], learner.predict(many.slice(0, most)))


def test_too_little_memory_to_predict_says_what_to_do(images: Rows) -> None:
    learner, _ = fitted(images, iterations=1)
    assert isinstance(learner, Network)

    def forward(batch: Inputs) -> torch.Tensor:
        return torch.empty(2**60)

    learner._module.forward = forward
    with pytest.raises(UserError, match=r"cpu does not suffice to predict 32 rows at once; .* a lower batch_rows"):
        learner.predict(images[0])


def test_too_little_memory_says_what_to_lower(images: Rows) -> None:
    with pytest.raises(UserError, match=r"the memory of cpu does not suffice .* lower batch_rows, raise accumulate"):
        fitted(images, hidden=[2**42])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_missed(images: Rows) -> None:
    with pytest.raises(UserError, match=r"no GPU that torch can use; set device: auto or cpu \(.*params.device\)"):
        fitted(images, device="cuda")


def test_predictions_that_are_not_finite_say_that_the_training_has_diverged(images: Rows) -> None:
    learner, _ = fitted(images)
    assert isinstance(learner, Network)
    with torch.no_grad():
        for weight in learner._module.parameters():
            weight.fill_(1e30)
    with pytest.raises(UserError, match=r"learner 'it' predicts numbers that are not finite, .* lower learning_rate"):
        learner.predict(images[0])


def test_a_loss_that_explodes_without_an_end_is_a_warning(images: Rows) -> None:
    said: list[str] = []

    def warnings(rate: float) -> list[str]:
        learner, said[:] = make(spec_of("cnn", epochs=4, learning_rate=rate, optimizer="adam")), []
        learner.fit(*images, progress=lambda what, done=0, total=None: said.append(what))
        return [what for what in said if what.startswith("warning")]

    (warning,) = warnings(3.0)
    assert re.match(r"warning: it diverges: its loss is [\d.e+]+ in epoch \d and was 1.\d+ in its first batch", warning)
    assert warnings(0.01) == []
