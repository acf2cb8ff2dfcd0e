"""Embeds texts by an encoder whose weights stay as they are, each text once in a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from refit.files.artifacts import digest
from refit.learners.networks.surroundings import surroundings
from refit.learners.networks.tokens import PADDING
from refit.learners.networks.transformer.encoder import Encoder
from refit.learners.networks.transformer.folder import EncoderConfig

__all__ = ["Embeddings", "Show", "embed", "embeddings_of"]

MOST_BYTES = 256 * 2**20  # of all remembered vectors of one encoder
ENCODERS = 2  # whose vectors are remembered
BATCH = 64  # most texts of about the same length that are read at once

Show = Callable[[float, float], None]  # of texts embedded, of all
Embeddings = OrderedDict[bytes, Tensor]  # a vector by the tokens of its text; the oldest ones are dropped

_remembered: OrderedDict[str, Embeddings] = OrderedDict()


def embeddings_of(encoder: EncoderConfig) -> Embeddings:
    """What is remembered of an encoder: of its weights, as they are used (pooling, heads, activation)."""
    key = digest(encoder.to_json())
    _remembered[key] = _remembered.pop(key, Embeddings())
    while len(_remembered) > ENCODERS:
        _remembered.popitem(last=False)
    return _remembered[key]


def embed(
    encoder: Encoder, tokens: Tensor, remembered: Embeddings | None, *, most: int = BATCH, show: Show | None = None
) -> Tensor:
    """(texts, width) float32 on the encoder's device, of (texts, tokens).

    On the CPU each text is read alone: the same text has the same vector, to the last bit, whatever it comes with, so
    that it can be remembered. A GPU reads batches of texts of about the same length.

    Args:
        remembered: what is remembered; None while the encoder is being trained, when the CPU reads batches too.
        most: texts of a batch.
    """
    device = next(encoder.parameters()).device
    if remembered is None or device.type != "cpu":
        return _in_batches(encoder, tokens.to(device), min(most, BATCH))
    vectors, remembers = torch.empty(len(tokens), encoder.width), surroundings.get().remembers
    for index, row in enumerate(tokens):
        alone = row[: max(1, int((row != PADDING).sum()))]
        key = alone.numpy().tobytes()
        if not remembers or (vector := remembered.get(key)) is None:
            vector = remembered[key] = encoder(alone.unsqueeze(0))[0]
            if show:
                show(index, len(tokens))
            if 4 * encoder.width * len(remembered) > MOST_BYTES:
                remembered.popitem(last=False)
        vectors[index] = vector
    return vectors


def _in_batches(encoder: Encoder, tokens: Tensor, size: int) -> Tensor:
    vectors = torch.empty(len(tokens), encoder.width, device=tokens.device)
    lengths = (tokens != PADDING).sum(dim=1)
    for part in lengths.argsort(stable=True).split(size):  # type: ignore[no-untyped-call]
        vectors[part] = encoder(tokens[part, : max(1, int(lengths[part].max()))]).float()
    return vectors
