"""Low-rank adapters of an encoder, by the library `peft`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from refit.errors import UserError
from refit.learners.networks.transformer.encoder import Encoder, transformers_library
from refit.learners.networks.transformer.params import Lora

__all__ = ["add_adapters", "merge_adapters"]

QUERY_AND_VALUE: Mapping[str, tuple[str, ...]] = {"distilbert": ("q_lin", "v_lin"), "mpnet": ("q", "v")}


def add_adapters(encoder: Encoder, lora: Lora, where: str) -> None:
    """Give linear layers of an encoder adapters, which alone are trained; they add nothing before they are.

    Raises:
        UserError: the library is missing, or the encoder has no such layers.
    """
    library = transformers_library(where, "peft")
    usual = QUERY_AND_VALUE.get(encoder.config.model_type, ("query", "value"))
    targets = list(lora.targets or usual)
    linear = {path.rpartition(".")[2] for path, each in encoder.model.named_modules() if isinstance(each, nn.Linear)}
    if unknown := [name for name in targets if name not in linear]:
        layers = ", ".join(sorted(linear))
        raise UserError(
            f"lora: the encoder has no linear layer {unknown[0]!r}; it has {layers} ({where}.params.lora.targets)"
        )
    config = library.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses what transformers is about to rename
        encoder.model = library.get_peft_model(encoder.model, config)


def merge_adapters(encoder: Encoder) -> None:
    """Add what the adapters learned to the weights of their layers, and remove them: W + alpha / rank * B A."""
    adapted: Any = encoder.model
    encoder.model = adapted.merge_and_unload()
