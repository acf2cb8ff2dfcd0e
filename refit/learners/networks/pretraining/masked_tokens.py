"""Masked tokens: hidden words are predicted from those around them (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.contract import Spec
from refit.learners.networks.architecture import Architecture
from refit.learners.networks.architectures.text_transformer import TextTransformer
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.loop import Task, outputs_of
from refit.learners.networks.params import Pretraining
from refit.learners.networks.pretraining import Body
from refit.learners.networks.tokens import PADDING, SPECIAL, UNKNOWN

NEEDS = "texts that a text_transformer reads"
MASKED, REPLACED = 0.8, 0.1  # of the hidden tokens: shown as unknown, shown as any other one; the rest as they are


def fits(spec: Spec, architecture: Architecture) -> bool:
    """Whether it is the transformer and there is a text."""
    return spec.kind == "text_transformer" and bool(spec.text)


class Masked(nn.Module):
    """The layers of the transformer, and one linear layer from the vector of a token to the vocabulary."""

    def __init__(self, body: Body, vocabulary: int, hidden: float) -> None:
        super().__init__()
        assert isinstance(body.network, TextTransformer)
        self.body, self.transformer, self.hidden = body, body.network, hidden
        self.words = nn.Linear(body.network.norm.normalized_shape[0], vocabulary)

    def forward(self, batch: Inputs) -> Tensor:
        """(rows, length, vocabulary)."""
        assert batch.tokens is not None
        vectors, _ = self.transformer.encode(batch.tokens)
        words: Tensor = self.words(vectors[:, 1:])
        return words


def build(body: Body, shapes: InputShapes, how: Pretraining) -> Masked:
    """The transformer with its last layer of words."""
    return Masked(body, shapes.vocabulary, how.hidden)


def counts(rows: Inputs) -> Tensor:
    """(rows,) the tokens of each row that may be hidden."""
    assert rows.tokens is not None
    return (rows.tokens >= len(SPECIAL)).sum(dim=1)


def batch_loss(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
    """The mean loss of the hidden tokens; 0 if there are none."""
    assert isinstance(network, Masked)
    batch = batch.to(task.device)
    assert batch.tokens is not None
    shown, wanted = with_masks(batch.tokens, network.hidden, network.words.out_features)
    words = outputs_of(network, replace(batch, tokens=shown), task)
    losses = functional.cross_entropy(words.flatten(0, 1), wanted.flatten(), ignore_index=PADDING, reduction="sum")
    return losses / (wanted != PADDING).sum().clamp_min(1)


def with_masks(tokens: Tensor, share: float, vocabulary: int) -> tuple[Tensor, Tensor]:
    """The tokens of which some are changed, and those to predict, with padding in place of all others."""
    chance, kind = torch.rand(2, *tokens.shape).to(tokens.device)
    others = torch.randint(len(SPECIAL), max(vocabulary, len(SPECIAL) + 1), tokens.shape).to(tokens.device)
    hidden = (chance < share) & (tokens >= len(SPECIAL))
    shown = tokens.masked_fill(hidden & (kind < MASKED), UNKNOWN)
    shown = torch.where(hidden & (kind >= MASKED) & (kind < MASKED + REPLACED), others, shown)
    return shown, tokens.masked_fill(~hidden, PADDING)
