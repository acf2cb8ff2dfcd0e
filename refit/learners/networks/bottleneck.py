"""Trains the two halves of an autoencoder that squeezes rows through few numbers, by the loop of all networks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refit.learners.networks.checkpoints import Checkpoint, identity
from refit.learners.networks.determinism import deterministic
from refit.learners.networks.inputs import ImageScaling, Inputs
from refit.learners.networks.loop import Task, train
from refit.learners.networks.params import ArchitectureParams
from refit.learners.networks.surroundings import surroundings
from refit.runtime.context import Progress

__all__ = ["trained"]

Floats = NDArray[np.float64]
NAME = "autoencoder"


class Bottleneck(nn.Module):
    """(rows, columns) -> hidden -> coordinates -> hidden -> (rows, columns)."""

    def __init__(self, sizes: tuple[int, ...], random: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ParameterList()
        for before, after in pairwise(sizes):
            bound = (6 / (before + after)) ** 0.5  # Glorot and Bengio 2010
            self.layers.append(nn.Parameter((torch.rand(before, after, generator=random) * 2 - 1) * bound))
            self.layers.append(nn.Parameter(torch.zeros(after)))

    def forward(self, rows: Tensor) -> Tensor:
        first, *layers = self.layers
        coded = torch.tanh(rows @ first + layers[0]) @ layers[1] + layers[2]
        restored: Tensor = torch.tanh(coded @ layers[3] + layers[4]) @ layers[5] + layers[6]
        return restored


def trained(points: Floats, arguments: Mapping[str, Any], progress: Progress) -> list[Floats]:
    """The weights and biases of the four layers after training on standardised rows."""
    seed, width = int(arguments["random_state"]), points.shape[1]
    params = ArchitectureParams(
        **{name: arguments[name] for name in ("epochs", "learning_rate", "batch_rows")},
        optimizer="adam",
        weight_decay=0.0,
        schedule="constant",
    )
    around, device = surroundings.get(), torch.device("cpu")
    with deterministic(seed, params.threads):
        random = torch.Generator().manual_seed(seed)
        network = Bottleneck(
            (width, arguments["hidden"], arguments["n_components"], arguments["hidden"], width), random
        )
        rows = torch.tensor(points, dtype=torch.float32)
        checkpoint = None
        if around.checkpoints is not None:
            name = identity({NAME: dict(arguments)}, (*network.state_dict().values(), rows))
            checkpoint = Checkpoint(around.checkpoints, name, NAME, around.every_seconds, progress)
        task = Task(
            NAME,
            params,
            lambda restored, target: ((restored - target) ** 2).mean(),
            params.epochs,
            seed,
            device,
            ImageScaling({}),
            batch_loss=lambda network, _, target, task: task.loss(network(target), target),
            shuffle=random,
            on_epoch=around.on_epoch,
            progress=progress,
        )
        train(network, Inputs(torch.zeros(len(rows), 0, dtype=torch.int64), rows), rows, task, checkpoint)
    return [each.detach().numpy().astype(np.float64) for each in network.layers]
