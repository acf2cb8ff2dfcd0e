"""Rotation: by how many right angles was an image turned? (Gidaris et al. 2018)"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.contract import Spec
from refit.learners.networks.architecture import Architecture
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.loop import Task, outputs_of
from refit.learners.networks.params import Pretraining
from refit.learners.networks.pretraining import Body, only_images

NEEDS = "features that are all square images"
TURNS = 4  # 0, 90, 180 and 270 degrees


def fits(spec: Spec, architecture: Architecture) -> bool:
    """Whether all features are square images."""
    return only_images(spec, architecture) and all(array.shape[0] == array.shape[1] for array in spec.arrays.values())


class Turned(nn.Module):
    """The body and one linear layer, of which four outputs are the turns."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body
        self.turn = nn.Linear(body.width, TURNS)

    def forward(self, batch: Inputs) -> Tensor:
        turns: Tensor = self.turn(self.body(batch))
        return turns


def build(body: Body, shapes: InputShapes, how: Pretraining) -> Turned:
    """The body with its last layer of turns."""
    return Turned(body)


def counts(rows: Inputs) -> Tensor | None:
    """Each row counts alike."""


def batch_loss(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
    """Eq. 3: the mean loss of all four turns of each image; in one batch, so that a batch norm sees all of them."""
    batch = batch.to(task.device)
    turned = [
        replace(batch, images={name: image.rot90(turn, dims=(2, 3)) for name, image in batch.images.items()})
        for turn in range(TURNS)
    ]
    wanted = torch.arange(TURNS, device=task.device).repeat_interleave(len(batch))
    return functional.cross_entropy(outputs_of(network, task.scaling(reduce(Inputs.joined, turned)), task), wanted)
