"""SimCLR: two views of one image are alike, and unlike those of all others (Chen et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.networks.augment import augmented
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.loop import Task, outputs_of
from refit.learners.networks.params import Pretraining
from refit.learners.networks.pretraining import Body, only_images

NEEDS = "features that are all images"
fits = only_images


class Projected(nn.Module):
    """The body and a projection of two layers, g(h) of section 2.1, which is dropped afterwards."""

    def __init__(self, body: Body, how: Pretraining) -> None:
        super().__init__()
        self.body, self.how = body, how
        self.projection = nn.Sequential(
            nn.Linear(body.width, body.width), nn.ReLU(), nn.Linear(body.width, how.projection)
        )

    def forward(self, batch: Inputs) -> Tensor:
        projected: Tensor = self.projection(self.body(batch))
        return projected


def build(body: Body, shapes: InputShapes, how: Pretraining) -> Projected:
    """The body with its projection."""
    return Projected(body, how)


def counts(rows: Inputs) -> Tensor | None:
    """Each row counts alike."""


def batch_loss(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
    """Algorithm 1: the loss of two random views of each image of the batch."""
    assert isinstance(network, Projected)
    batch = batch.to(task.device)
    first, second = (outputs_of(network, task.scaling(augmented(batch, network.how.augment)), task) for _ in range(2))
    return nt_xent(first, second, network.how.temperature)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Eq. 1, the mean over all 2N views; each picks its partner out of the 2N - 1 others by cosine similarity."""
    rows = len(first)
    views = functional.normalize(torch.cat([first, second]), dim=1)
    similar = (views @ views.T / temperature).fill_diagonal_(float("-inf"))  # no view is its own partner
    partner = (torch.arange(2 * rows, device=views.device) + rows) % (2 * rows)
    return functional.cross_entropy(similar, partner)
