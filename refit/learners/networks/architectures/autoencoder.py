"""A multilayer perceptron whose layers first learn to restore hidden values of the rows (Vincent et al. 2008)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import AliasChoices, Field
from torch import Tensor, nn

from refit.learners.networks.architectures import mlp
from refit.learners.networks.blocks import Columns, squeezed
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.params import Pretraining

needs = frozenset({"columns", "vector"})


class Denoising(Pretraining):
    """How the layers are trained without labels."""

    method: Literal["denoising"] = Field("denoising", validation_alias=AliasChoices("method", "kind"))


class Params(mlp.Params):
    """Arguments of kind `autoencoder`: those of `mlp`, and how it is pretrained."""

    pretrain: Denoising = Field(Denoising(), description="without labels, on all rows")


class AutoencoderNetwork(nn.Module):
    """The layers of an `mlp`, and a note of whether they have been pretrained, which is stored with the weights."""

    pretrained: Tensor

    def __init__(self, params: Params, inputs: InputShapes, outputs: int) -> None:
        super().__init__()
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
        return squeezed(self.head(self.encoder(self.columns(batch))))


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights."""
    return AutoencoderNetwork(params, inputs, outputs)
