"""The encoder of a pretrained transformer as a torch module: texts in, one vector for each of them out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from refit.errors import UserError, first_line
from refit.extras import install_extra
from refit.learners.networks.tokens import PADDING
from refit.learners.networks.transformer.folder import EncoderConfig, Folder

__all__ = ["Encoder", "blocks_of", "check_weights", "transformers_library", "weights_in"]

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
ADVICE = "restore the folder, or name another one in train.start_from"
RENAMED = {".gamma": ".weight", ".beta": ".bias"}  # of layer norms in old files


class Encoder(nn.Module):
    """(texts, tokens) numbers of tokens, from 1 on and 0 after the last one, to (texts, width) float32."""

    def __init__(self, config: EncoderConfig, where: str = "params.yaml: train.start_from") -> None:
        super().__init__()
        self.config = config
        self.model = _random(config, where)
        self.width = int(self.model.config.hidden_size)  # type: ignore[union-attr,arg-type]

    def forward(self, tokens: Tensor) -> Tensor:
        if not len(tokens):
            return torch.zeros(0, self.width, device=tokens.device)
        present = tokens != PADDING
        numbers = torch.where(present, tokens - 1, self.config.padding)
        states: Tensor = self.model(input_ids=numbers, attention_mask=present.long()).last_hidden_state
        if self.config.pooling == "cls":
            pooled = states[:, 0]
        else:  # Reimers and Gurevych 2019, "Sentence-BERT"
            pooled = (states * present.unsqueeze(2)).sum(dim=1) / present.sum(dim=1, keepdim=True)
        if not self.config.normalise:
            return pooled
        # values of deviation 1, which a linear layer learns from at the usual rates
        unit: Tensor = nn.functional.normalize(pooled, dim=1) * self.width**0.5
        return unit


def blocks_of(encoder: Encoder) -> list[nn.Module]:
    """The layers of attention, the first one first."""
    lists = [list(module) for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def transformers_library(where: str, name: str = "transformers") -> Any:
    """The module `transformers`, or `peft`, which stay offline and silent.

    Raises:
        UserError: it is not installed.
    """
    for variable in OFFLINE:
        os.environ.setdefault(variable, "1")
    try:
        library = __import__(name)
    except ModuleNotFoundError:
        raise UserError(
            f"pretrained transformers need {name}, which is not installed; install it next to Refit: "
            f"{install_extra('transformers')} ({where})"
        ) from None
    if name == "transformers":
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    return library


def _random(config: EncoderConfig, where: str) -> nn.Module:
    """The library's module with random weights; it reads nothing from disk or elsewhere."""
    library = transformers_library(where)
    settings = library.AutoConfig.for_model(config.model_type, **config.settings)
    settings._attn_implementation = "eager"
    cls = library.MODEL_MAPPING[type(settings)]
    takes_pooler = config.model_type in ("bert", "mpnet", "roberta", "xlm-roberta")
    module: nn.Module = cls(settings, **({"add_pooling_layer": False} if takes_pooler else {}))
    return module.float()


def check_weights(folder: Folder, where: str) -> None:
    """Raises UserError if the weights in a folder are not those that its configuration describes."""
    with _open(folder) as file:
        _stored_names(folder, file, where)


def weights_in(folder: Folder, where: str) -> dict[str, Tensor]:
    """The weights in a folder, in float32 and by the names of `Encoder.model`.

    Raises:
        UserError: they are not those that its configuration describes, or not finite.
    """
    with _open(folder) as file:
        weights = {name: file.get_tensor(stored).float() for name, stored in _stored_names(folder, file, where).items()}
    if unusable := next((name for name, weight in weights.items() if not weight.isfinite().all()), None):
        raise UserError(f"{folder.weights}: {unusable} has values that are not finite; {ADVICE}")
    return weights


@contextmanager
def _open(folder: Folder) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder.weights, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{folder.weights} cannot be used ({first_line(error)}); {ADVICE}") from None


def _stored_names(folder: Folder, file: Any, where: str) -> dict[str, str]:
    """The file's name of each weight, once all shapes agree.

    The module that says which there are has no memory, so that sizes that a configuration only claims cost nothing.
    """
    with torch.device("meta"):
        expected = _random(folder.config, where)
    shapes = {name: tuple(weight.shape) for name, weight in expected.state_dict().items()}
    renamed = _by_our_names(list(file.keys()), shapes, f"{getattr(expected, 'base_model_prefix', '')}.")
    for name, shape in shapes.items():
        there = tuple(file.get_slice(renamed[name]).get_shape()) if name in renamed else None
        if there != shape:
            raise UserError(
                f"{folder.weights}: {name} is {_shown(there)}, config.json describes {_shown(shape)}; {ADVICE}"
            )
    return renamed


def _by_our_names(names: list[str], wanted: Mapping[str, object], prefix: str) -> dict[str, str]:
    """The file's name of each weight: a model for another task has the encoder under a prefix, and more with it."""
    renamed = {}
    for name in names:
        plain = name.removeprefix(prefix)
        for old, new in RENAMED.items():
            plain = plain.removesuffix(old) + new if plain.endswith(old) else plain
        if plain in wanted:
            renamed[plain] = name
    return renamed


def _shown(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "one number"
