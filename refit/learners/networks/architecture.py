"""What the file of an architecture defines."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

from torch import nn

from refit.learners.networks.architectures import ARCHITECTURES
from refit.learners.networks.inputs import InputShapes
from refit.learners.networks.params import ArchitectureParams

__all__ = ["Architecture", "architecture"]


class Architecture(Protocol):
    """A module with these names.

    `forward(batch: Inputs)` of the network gives (rows, outputs), or (rows,) if there is one output. Images come as
    float32 of mean 0 and deviation 1.
    """

    Params: type[ArchitectureParams]
    needs: frozenset[str]  # kinds of features that it reads: "columns", "image", "sequence", "vector", "text"

    @staticmethod
    def build(params: Any, inputs: InputShapes, outputs: int) -> nn.Module:
        """The network with random weights, drawn from torch's global generator.

        Args:
            params: an instance of `Params`.

        Raises:
            UserError: a feature that it cannot do without is missing.
        """


def architecture(kind: str) -> Architecture:
    """The architecture of a kind."""
    return cast(Architecture, importlib.import_module(ARCHITECTURES[kind]))
