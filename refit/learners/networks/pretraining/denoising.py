"""Denoising: values of a row that are hidden are restored from the others (Vincent et al. 2008)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.contract import Spec
from refit.learners.networks.architecture import Architecture
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.loop import Task, outputs_of
from refit.learners.networks.params import Pretraining
from refit.learners.networks.pretraining import Body

NEEDS = "numbers, categories and vectors"


def fits(spec: Spec, architecture: Architecture) -> bool:
    """Whether no feature is an image or a sequence, or a text that the network reads itself."""
    reads_texts = "text" in architecture.needs and bool(spec.text)
    return not reads_texts and all(array.kind == "vector" for array in spec.arrays.values())


class Denoiser(nn.Module):
    """The body with a linear decoder, which restores all values of a row of which some are hidden."""

    def __init__(self, body: Body, inputs: InputShapes, hidden: float) -> None:
        super().__init__()
        self.body, self.hidden = body, hidden
        self.restoration = Restoration(inputs)
        width = sum(inputs.cardinalities) + inputs.numbers // 2 + sum(inputs.vectors.values())
        self.decoder = nn.Linear(body.width, width)

    def forward(self, batch: Inputs) -> Tensor:
        seen = with_hidden(batch, self.hidden) if self.training else batch
        restored: Tensor = self.decoder(self.body(seen))
        return restored


def build(body: Body, shapes: InputShapes, how: Pretraining) -> Denoiser:
    """The body with its decoder."""
    return Denoiser(body, shapes, how.hidden)


def counts(rows: Inputs) -> Tensor:
    """(rows,) the values of each row that are known."""
    _, missing = rows.numbers.chunk(2, dim=1)
    of_vectors = sum(vector.shape[1] for vector in rows.vectors.values())
    return (rows.codes != 0).sum(dim=1) + (missing == 0).sum(dim=1) + of_vectors


def batch_loss(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
    """The mean loss of the restored values."""
    assert isinstance(network, Denoiser)
    batch = batch.to(task.device)
    return network.restoration(outputs_of(network, batch, task), targets(batch))


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
