"""A multilayer perceptron of embedded categories, numbers, vectors and flattened images."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.params import ArchitectureParams

needs = frozenset({"columns", "vector", "image"})


class Params(ArchitectureParams):
    """Arguments of kind `mlp`."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field([256, 128], min_length=1, description="units of each layer")
    dropout: float = Field(0.1, ge=0, lt=1)


class Mlp(nn.Module):
    """Linear layers with ReLU and dropout over everything that is known of a row."""

    def __init__(self, inputs: InputShapes, hidden: list[int], dropout: float, outputs: int) -> None:
        super().__init__()
        widths = [min(50, (count + 1) // 2) for count in inputs.cardinalities]
        self.embeddings = nn.ModuleList(
            nn.Embedding(count, width) for count, width in zip(inputs.cardinalities, widths, strict=True)
        )
        layers: list[nn.Module] = []
        width = sum(widths) + inputs.flat
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, batch: Inputs) -> Tensor:
        embedded = [embedding(batch.codes[:, index]) for index, embedding in enumerate(self.embeddings)]
        images = [image.flatten(1) for image in batch.images.values()]
        parts = [part for part in (*embedded, batch.numbers, *batch.vectors.values(), *images) if part.shape[1]]
        outputs: Tensor = self.layers(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights."""
    return Mlp(inputs, params.hidden, params.dropout, outputs)
