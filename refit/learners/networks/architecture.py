"""What the file of an architecture defines, and which features it can read."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

from torch import nn

from refit.errors import UserError
from refit.learners.contract import Spec
from refit.learners.networks.architectures import ARCHITECTURES
from refit.learners.networks.inputs import InputShapes
from refit.learners.networks.params import ArchitectureParams

__all__ = ["Architecture", "architecture", "check_features"]


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


def check_features(spec: Spec, chosen: Architecture, params: ArchitectureParams, where: str) -> None:
    """Raises UserError if the architecture cannot read a feature, or labels would be mixed and features would not."""
    kinds = {name: array.kind for name, array in spec.arrays.items()}
    for name in spec.features:
        kind = kinds.get(name, "text" if name in spec.text and "text" in chosen.needs else "columns")
        if kind not in chosen.needs:
            what = {"columns": "number, a category or a text"}.get(kind, kind)
            raise UserError(
                f"learner {spec.kind!r} reads {' and '.join(sorted(chosen.needs))}, feature {name!r} is a {what}; "
                f"leave it out (featurize.exclude), or choose another kind ({where}.kind)"
            )
    unmixed = [name for name in spec.features if name in spec.text or name in spec.categorical]
    unmixed += [name for name, kind in kinds.items() if kind == "sequence"]
    if params.mixup and unmixed:
        raise UserError(
            f"learner {spec.kind!r}: mixup mixes images, vectors and numbers, feature {unmixed[0]!r} is none of these; "
            f"leave mixup out ({where}.params.mixup)"
        )
