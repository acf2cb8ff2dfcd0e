"""Parts that several architectures are built of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from refit.errors import UserError
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.tokens import PADDING

__all__ = ["Columns", "SequenceNetwork", "at_last_step", "squeezed", "tokens_of"]


class Columns(nn.Module):
    """Embedded categories, numbers and vectors of a row, one after the other: (rows, width)."""

    def __init__(self, inputs: InputShapes) -> None:
        super().__init__()
        widths = [min(50, (count + 1) // 2) for count in inputs.cardinalities]
        self.embeddings = nn.ModuleList(
            nn.Embedding(count, width) for count, width in zip(inputs.cardinalities, widths, strict=True)
        )
        self.width = sum(widths) + inputs.numbers + sum(inputs.vectors.values())

    def forward(self, batch: Inputs) -> Tensor:
        embedded = [embedding(batch.codes[:, index]) for index, embedding in enumerate(self.embeddings)]
        return torch.cat([*embedded, batch.numbers, *batch.vectors.values()], dim=1)


class SequenceNetwork(nn.Module):
    """Reads each sequence by an encoder of its own, joins the last states with the other columns, and adds two layers.

    Args:
        encoder: makes the encoder of sequences of some values a step and some steps at most: (rows, steps, values) to
            (rows, steps, units). A step's output depends on that step and earlier ones only, so that the padding after
            the last step is never read.
    """

    def __init__(
        self,
        kind: str,
        inputs: InputShapes,
        encoder: Callable[[int, int], nn.Module],
        *,
        units: int,
        dense: int,
        dropout: float,
        outputs: int,
    ) -> None:
        super().__init__()
        if not inputs.sequences:
            raise UserError(
                f"learner {kind!r} reads sequences, the features have none; add one to a view "
                "(Sequence(columns, last=50) in the feature store), or choose another kind"
            )
        self.names = tuple(inputs.sequences)
        self.encoders = nn.ModuleList(encoder(values, steps) for steps, values in inputs.sequences.values())
        self.columns = Columns(inputs)
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(units * len(self.names) + self.columns.width, dense),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dense, outputs),
        )

    def forward(self, batch: Inputs) -> Tensor:
        states = [
            at_last_step(encoder, batch.sequences[name], batch.lengths[name])
            for name, encoder in zip(self.names, self.encoders, strict=True)
        ]
        return squeezed(self.layers(torch.cat([*states, self.columns(batch)], dim=1)))


def at_last_step(encoder: nn.Module, steps: Tensor, lengths: Tensor) -> Tensor:
    """(rows, units) the encoder's output at the last step of each row; zeros for a row without any step.

    It reads no more steps than the longest row has: more padding changes no bit.
    """
    longest = max(1, int(lengths.max())) if len(lengths) else 1
    states: Tensor = encoder(steps[:, :longest])
    last = states[torch.arange(len(states), device=states.device), (lengths - 1).clamp_min(0)]
    return last * (lengths > 0).unsqueeze(1)


def tokens_of(batch: Inputs) -> Tensor:
    """(rows, tokens) without the padding that all rows share: more padding changes no bit."""
    assert batch.tokens is not None
    longest = int((batch.tokens != PADDING).sum(dim=1).max()) if len(batch) else 0
    return batch.tokens[:, : max(1, longest)]


def squeezed(outputs: Tensor) -> Tensor:
    """(rows,) if there is one output."""
    return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs
