"""Pretraining without labels: hidden values are restored from the others, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from refit.learners import Spec, load, make
from refit.learners.networks.architectures.autoencoder import AutoencoderNetwork, Denoising, Params
from refit.learners.networks.inputs import ImageScaling, Inputs, InputShapes
from refit.learners.networks.loop import train
from refit.learners.networks.pretraining import pretask, trainee
from refit.learners.networks.pretraining.denoising import Restoration, targets, with_hidden
from refit.runtime.context import silent

SHAPES = InputShapes(cardinalities=(3,), numbers=4, vectors={"v": 2})
PARAMS = Params(hidden=[16], dropout=0.0, learning_rate=0.02, batch_rows=32, pretrain=Denoising(epochs=30, hidden=0.25))


def rows(count: int) -> Inputs:
    """The second number and the category follow from the first one; some of it is missing."""
    torch.manual_seed(0)
    first, missing = torch.randn(count), (torch.rand(count, 2) < 0.1).float()
    numbers = torch.stack([first, -first], dim=1) * (1 - missing)
    vector = torch.stack([first, torch.zeros(count)], dim=1)
    return Inputs((first > 0).long()[:, None] + 1, torch.cat([numbers, missing], dim=1), vectors={"v": vector})


def test_hidden_values_are_restored_from_the_others() -> None:
    torch.manual_seed(0)
    network, table = AutoencoderNetwork(PARAMS, SHAPES, 1), rows(400)
    task = pretask(Spec("it", "autoencoder", ()), PARAMS, table, torch.device("cpu"), ImageScaling({}), silent)
    head = frozenset({"head.weight", "head.bias"})
    with trainee(network, head, SHAPES, PARAMS.pretrain) as denoiser:
        train(denoiser, table, torch.zeros(len(table)), task)
        hidden = table.numbers.clone()
        hidden[:, 1], hidden[:, 3] = 0.0, 1.0
        with torch.no_grad():
            restored = denoiser.eval()(Inputs(torch.zeros_like(table.codes), hidden, vectors=table.vectors))
    known = table.numbers[:, 3] == 0
    error = ((restored[:, 4] - table.numbers[:, 1])[known] ** 2).mean() / table.numbers[known, 1].var()
    assert error < 0.2
    assert (restored[:, :3].argmax(dim=1) == table.codes[:, 0]).float().mean() > 0.9


def test_hidden_values_look_like_missing_ones_and_what_was_given_is_unchanged() -> None:
    table = rows(2000)
    before = targets(table).clone()
    seen = with_hidden(table, 0.25)
    assert torch.equal(targets(table), before)
    values, missing = seen.numbers.chunk(2, dim=1)
    assert (values[missing == 1] == 0).all()
    for share in ((seen.codes == 0).float().mean(), (missing - table.numbers.chunk(2, dim=1)[1]).mean() / 0.9):
        assert abs(share - 0.25) < 0.03
    assert torch.equal(targets(with_hidden(table, 0.0)), before)


def test_what_is_missing_is_not_to_be_restored() -> None:
    table = rows(50)
    nothing = Inputs(torch.zeros_like(table.codes), torch.cat([torch.zeros(50, 2), torch.ones(50, 2)], dim=1))
    shapes = InputShapes(cardinalities=(3,), numbers=4)
    outputs = torch.randn(50, 5, requires_grad=True)
    loss = Restoration(shapes)(outputs, targets(nothing))
    loss.backward()
    assert loss == 0
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


def test_a_batch_in_parts_is_the_same_step_of_the_pretraining_however_much_of_a_part_is_missing() -> None:
    table = rows(32)
    values, missing = table.numbers.chunk(2, dim=1)
    gaps = torch.arange(32)[:, None] < 16
    numbers = torch.cat([values.masked_fill(gaps, 0.0), missing.masked_fill(gaps, 1.0)], dim=1)
    table = replace(table, codes=table.codes.masked_fill(gaps, 0), numbers=numbers)

    def weights(accumulate: int) -> dict[str, torch.Tensor]:
        visible = Denoising(epochs=1, hidden=0.0)
        params = Params(hidden=[8], dropout=0.0, optimizer="sgd", accumulate=accumulate, pretrain=visible)
        torch.manual_seed(0)
        network, cpu = AutoencoderNetwork(params, SHAPES, 1), torch.device("cpu")
        task = pretask(Spec("it", "autoencoder", ()), params, table, cpu, ImageScaling({}), silent)
        with trainee(network, frozenset({"head.weight", "head.bias"}), SHAPES, visible) as denoiser:
            train(denoiser, table, torch.zeros(len(table)), task)
        return network.state_dict()

    whole, parts = (weights(count) for count in (1, 5))
    torch.testing.assert_close(parts, whole, atol=1e-7, rtol=0)


def test_it_is_pretrained_once(tmp_path: Path) -> None:
    """A fit that goes on from a fitted one, stored or not, takes its weights as they are."""
    table, label = pa.table({"x": np.linspace(-1, 1, 60)}), (np.arange(60) > 30).astype(np.int64)
    params = {"hidden": [4], "epochs": 1, "pretrain": {"epochs": 2}}
    spec = Spec("it", "autoencoder", ("x",), params=params)
    shown: list[str] = []
    first = make(spec)
    first.fit(table, label, progress=lambda text, *_: shown.append(text))
    assert [text for text in shown if "pretraining" in text] == ["fitting it (pretraining), epochs"] * 2
    first.save(tmp_path)
    shown.clear()
    for before in (first, load(tmp_path)):
        make(spec).resume(before, table, label, iterations=1, progress=lambda text, *_: shown.append(text))
    assert shown == ["fitting it, epochs"] * 2
