"""A multilayer perceptron whose layers first learn to restore hidden values of the rows (Vincent et al. 2008)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.networks.architectures import mlp
from refit.learners.networks.blocks import Columns, squeezed
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.loop import Task, train
from refit.learners.networks.params import Closed, Share

needs = frozenset({"columns", "vector"})


class Pretraining(Closed):
    """How the layers are trained without labels, before they are trained with them."""

    kind: Literal["denoising"] = "denoising"
    epochs: int = Field(10, ge=1, description="passes over the training rows")
    hidden: Share = Field(0.3, description="share of the values that are hidden, drawn again for each batch")


class Params(mlp.Params):
    """Arguments of kind `autoencoder`: those of `mlp`, and how it is pretrained."""

    pretrain: Pretraining = Field(Pretraining(), description="on the training rows, without their labels")


class Autoencoder(nn.Module):
    """The layers of an `mlp`, and a note of whether they have been pretrained, which is stored with the weights."""

    pretrained: Tensor

    def __init__(self, params: Params, inputs: InputShapes, outputs: int) -> None:
        super().__init__()
        self.params, self.inputs = params, inputs
        self.register_buffer("pretrained", torch.zeros(1, dtype=torch.bool))
        self.columns = Columns(inputs)
        layers: list[nn.Module] = []
        width = self.columns.width
        for units in params.hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(params.dropout)]
            width = units
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(width, outputs)

    def forward(self, batch: Inputs) -> Tensor:
        return squeezed(self.head(self.encode(batch)))

    def encode(self, batch: Inputs) -> Tensor:
        """(rows, units of the last layer)."""
        encoded: Tensor = self.encoder(self.columns(batch))
        return encoded


class Denoiser(nn.Module):
    """The layers with a linear decoder, which restores all values of a row of which some are hidden."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        inputs = network.inputs
        self.network = network
        width = sum(inputs.cardinalities) + inputs.numbers // 2 + sum(inputs.vectors.values())
        self.decoder = nn.Linear(network.head.in_features, width)

    def forward(self, batch: Inputs) -> Tensor:
        seen = with_hidden(batch, self.network.params.pretrain.hidden) if self.training else batch
        restored: Tensor = self.decoder(self.network.encode(seen))
        return restored


def pretrain(network: Autoencoder, rows: Inputs, task: Task) -> Denoiser:
    """Train the layers in place to restore the rows.

    Args:
        task: the training with labels, whose optimiser, rate and schedule it shares.
    """
    epochs = network.params.pretrain.epochs
    changed = {"epochs": epochs, "warmup_epochs": 0.0, "mixup": 0.0, "ema": 0.0}
    denoiser = Denoiser(network)
    params = network.params.model_copy(update=changed)
    train(denoiser, rows, targets(rows), replace(task, params=params, epochs=epochs, loss=Restoration(network.inputs)))
    network.pretrained.fill_(True)
    return denoiser


def with_hidden(batch: Inputs, share: float) -> Inputs:
    """The rows with a share of their values missing, or 0 within vectors."""

    def drawn(values: Tensor) -> Tensor:
        return (torch.rand(values.shape) < share).to(values.device)

    numbers, missing = batch.numbers.chunk(2, dim=1)
    hidden = drawn(numbers)
    numbers = torch.cat([numbers.masked_fill(hidden, 0.0), missing.masked_fill(hidden, 1.0)], dim=1)
    vectors = {name: vector.masked_fill(drawn(vector), 0.0) for name, vector in batch.vectors.items()}
    return replace(batch, codes=batch.codes.masked_fill(drawn(batch.codes), 0), numbers=numbers, vectors=vectors)


def targets(rows: Inputs) -> Tensor:
    """(rows, categories + 2 x numbers + values of vectors) what is to be restored, as one tensor."""
    return torch.cat([rows.codes.float(), rows.numbers, *rows.vectors.values()], dim=1)


class Restoration:
    """The mean loss of all values that are known: cross-entropy of categories, squared error of numbers."""

    def __init__(self, inputs: InputShapes) -> None:
        self._inputs = inputs

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        cardinalities, count = self._inputs.cardinalities, self._inputs.numbers // 2
        codes, numbers = target[:, : len(cardinalities)].long(), target[:, len(cardinalities) :]
        total, known, start = outputs.new_zeros(()), outputs.new_zeros(()), 0
        for column, width in zip(codes.T, cardinalities, strict=True):
            scores = outputs[:, start : start + width]
            total = total + functional.cross_entropy(scores, column, ignore_index=0, reduction="sum")
            known, start = known + (column != 0).sum(), start + width
        wanted, missing, vectors = numbers[:, :count], numbers[:, count : 2 * count], numbers[:, 2 * count :]
        present = torch.cat([1 - missing, torch.ones_like(vectors)], dim=1)
        errors = (outputs[:, start:] - torch.cat([wanted, vectors], dim=1)) ** 2 * present
        mean: Tensor = (total + errors.sum()) / (known + present.sum()).clamp_min(1)
        return mean


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights."""
    return Autoencoder(params, inputs, outputs)
