"""What the config of a Keras model says: its layers, and whether a stored copy runs code of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from refit.errors import first_line

__all__ = ["config_of", "unsafe"]

UNSAFE = {"Lambda": "it has a Lambda layer", "__lambda__": "it has a lambda"}  # names in a model's config


def config_of(model: Any) -> Any:
    """The layers of a model and how they are connected, as JSON holds them."""
    return json.loads(model.to_json())["config"]


def unsafe(model: Any) -> str | None:
    """The reason why a model cannot be stored so that loading it runs no code of its own; None if it can."""
    try:
        return next((UNSAFE[name] for name in _class_names(config_of(model)) if name in UNSAFE), None)
    except Exception as error:  # a layer may raise anything; Keras does so for a lambda whose code it cannot read
        return f"Keras cannot describe a layer ({type(error).__name__}: {first_line(error, 200)})"


def _class_names(config: Any) -> Iterator[str]:
    """The names of all classes in a config, at any depth."""
    if isinstance(config, Mapping):
        yield str(config.get("class_name"))
    if isinstance(config, Mapping | list):
        for inner in config.values() if isinstance(config, Mapping) else config:
            yield from _class_names(inner)
