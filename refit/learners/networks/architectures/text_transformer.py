"""A transformer encoder of texts (Vaswani et al. 2017), pre-norm (Xiong et al. 2020), with learned positions."""

from __future__ import annotations

from math import sqrt
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from refit.learners.networks.blocks import Columns, squeezed, tokens_of
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.tokens import PADDING, TokenParams

needs = frozenset({"text", "columns", "vector"})


class Params(TokenParams):
    """Arguments of kind `text_transformer`."""

    units: int = Field(64, ge=1, description="of the vector of a token")
    heads: int = Field(4, ge=1, description="of attention, which share the units evenly")
    layers: int = Field(2, ge=1, le=48)
    factor: int = Field(4, ge=1, le=16, description="units within a layer, as a multiple of `units`")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the first vectors, and of what each part of a layer adds")
    batch_rows: int = Field(64, ge=1, description="rows of one step")
    warmup_epochs: float = Field(
        default_factory=lambda others: min(1.0, others["epochs"] / 2),
        ge=0,
        description="epochs in which the rate grows linearly from 0: 1, or half of a single one; none in one_cycle",
    )

    @model_validator(mode="after")
    def _even_heads(self) -> Self:
        if self.units % self.heads:
            raise ValueError(f"units must be a multiple of heads, which is {self.heads}; found {self.units}")
        return self


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V in several heads (eq. 1), where no token attends to padding."""

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(units, 3 * units)
        self.join = nn.Linear(units, units)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        rows, length, units = vectors.shape
        split = self.project(vectors).reshape(rows, length, 3, self.heads, units // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (rows, heads, length, units / heads)
        scores = query @ key.transpose(2, 3) / sqrt(units // self.heads)
        weights = scores.masked_fill(~present[:, None, None, :], float("-inf")).softmax(dim=3)
        joined: Tensor = self.join((weights @ value).transpose(1, 2).reshape(rows, length, units))
        return joined


class Layer(nn.Module):
    """x + Attention(LayerNorm(x)), then x + FeedForward(LayerNorm(x))."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        units, inner = params.units, params.units * params.factor
        self.attention_norm, self.attention = nn.LayerNorm(units), Attention(units, params.heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(units), nn.Linear(units, inner), nn.GELU(), nn.Linear(inner, units)
        )
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        vectors = vectors + self.dropout(self.attention(self.attention_norm(vectors), present))
        result: Tensor = vectors + self.dropout(self.feed_forward(vectors))
        return result


class TextTransformer(nn.Module):
    """The layers over a row's tokens, their mean, and one linear layer over it and the other columns."""

    def __init__(self, params: Params, inputs: InputShapes, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(inputs.vocabulary, params.units, padding_idx=PADDING)
        self.start = nn.Parameter(torch.zeros(params.units))  # a first token of every row: none is empty
        self.positions = nn.Parameter(torch.empty(params.length + 1, params.units))
        for weights in (self.embedding.weight, self.positions):
            nn.init.normal_(weights, std=0.02)  # Devlin et al. 2019
        with torch.no_grad():
            self.embedding.weight[PADDING] = 0
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.ModuleList(Layer(params) for _ in range(params.layers))
        self.norm = nn.LayerNorm(params.units)
        self.columns = Columns(inputs)
        self.head = nn.Linear(params.units + self.columns.width, outputs)

    def forward(self, batch: Inputs) -> Tensor:
        vectors, present = self.encode(tokens_of(batch))
        weights = (present / present.sum(dim=1, keepdim=True)).unsqueeze(2)
        mean = (vectors * weights).sum(dim=1)
        return squeezed(self.head(torch.cat([mean, self.columns(batch)], dim=1)))

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, 1 + length, units) the vectors of the start and of each token; and which of them are no padding."""
        rows = len(tokens)
        present = torch.cat([torch.ones_like(tokens[:, :1], dtype=torch.bool), tokens != PADDING], dim=1)
        vectors = torch.cat([self.start.expand(rows, 1, -1), self.embedding(tokens)], dim=1)
        vectors = self.dropout(vectors + self.positions[: present.shape[1]])
        for layer in self.layers:
            vectors = layer(vectors, present)
        return self.norm(vectors), present


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights.

    Raises:
        UserError: there is no text.
    """
    inputs.require_text("text_transformer")
    return TextTransformer(params, inputs, outputs)
