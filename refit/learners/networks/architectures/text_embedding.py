"""The mean of word vectors that are trained for the label (Joulin et al. 2017, "Bag of tricks")."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from refit.learners.networks.blocks import Columns, squeezed, tokens_of
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.tokens import PADDING, TokenParams

needs = frozenset({"text", "columns", "vector"})


class Params(TokenParams):
    """Arguments of kind `text_embedding`."""

    units: int = Field(64, ge=1, description="of a word's vector")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([], description="units of layers between mean and output")
    dropout: float = Field(0.2, ge=0, lt=1, description="of whole words, and before each layer")
    learning_rate: float = Field(5e-3, gt=0, description="the highest of the schedule")
    batch_rows: int = Field(64, ge=1, description="rows of one step")


class TextEmbedding(nn.Module):
    """Layers over the mean of a row's word vectors and its other columns."""

    def __init__(self, params: Params, inputs: InputShapes, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(inputs.vocabulary, params.units, padding_idx=PADDING)
        self.word_dropout = params.dropout
        self.columns = Columns(inputs)
        layers: list[nn.Module] = []
        width = params.units + self.columns.width
        for units in params.hidden:
            layers += [nn.Dropout(params.dropout), nn.Linear(width, units), nn.ReLU()]
            width = units
        self.layers = nn.Sequential(*layers, nn.Dropout(params.dropout), nn.Linear(width, outputs))

    def forward(self, batch: Inputs) -> Tensor:
        tokens = tokens_of(batch)
        present = tokens != PADDING
        if self.training:
            present = present & (torch.rand(tokens.shape).to(tokens.device) >= self.word_dropout)
        weights = present / present.sum(dim=1, keepdim=True).clamp_min(1)
        mean = (self.embedding(tokens) * weights.unsqueeze(2)).sum(dim=1)
        return squeezed(self.layers(torch.cat([mean, self.columns(batch)], dim=1)))


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights.

    Raises:
        UserError: there is no text.
    """
    inputs.require_text("text_embedding")
    return TextEmbedding(params, inputs, outputs)
