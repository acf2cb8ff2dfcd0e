"""The state of a fit of a Keras model between two epochs: all that it needs to go on with the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from refit.learners.contract import CurvePoint

__all__ = ["KerasState", "predicting"]

Array = NDArray[Any]


class KerasEntries(BaseModel):
    """The numbers of a fit, stored as JSON next to its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    finished: bool
    curve: tuple[CurvePoint, ...]


@dataclass
class KerasState:
    """The state of a fit.

    The variables of a model are its weights and the seeds of layers that draw, such as dropout; the generators that all
    layers share are seeded in every epoch and have no state to keep.
    """

    model: Any
    shuffle: torch.Generator  # draws the order of the rows
    epochs: int  # to run
    epoch: int = 0  # complete ones
    finished: bool = False
    curve: list[CurvePoint] = field(default_factory=list)
    predicting: list[Array] | None = None  # weights of the epoch with the best score, or of the last one

    def tensors(self) -> dict[str, Tensor]:
        """A finished fit has only the weights that predict."""
        tensors = _named("predicting", self.predicting or [])
        if self.finished:
            return tensors
        tensors |= _named("model", [each.numpy() for each in self.model.variables])
        tensors |= _named("optimizer", [each.numpy() for each in self.model.optimizer.variables])
        return {**tensors, "shuffle": self.shuffle.get_state()}

    def entries(self) -> KerasEntries:
        return KerasEntries(epoch=self.epoch, finished=self.finished, curve=tuple(self.curve))

    def restore(self, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `entries` gave.

        Raises:
            ValueError: they are of a model or an optimizer with other variables; nothing is taken over.
        """
        entries, model = KerasEntries.model_validate(content), self.model
        predicting = _checked(tensors, "predicting", model.weights)
        if not entries.finished:
            model.optimizer.build(model.trainable_variables)
            groups = {"model": model.variables, "optimizer": model.optimizer.variables}
            values = {name: _checked(tensors, name, variables) for name, variables in groups.items()}
            self.shuffle.set_state(tensors["shuffle"])
            for name, variables in groups.items():
                for variable, value in zip(variables, values[name], strict=True):
                    variable.assign(value)
        self.predicting = predicting
        self.epoch, self.finished, self.curve = entries.epoch, entries.finished, list(entries.curve)

    def reached(self) -> str | None:
        return None if self.finished else f"epoch {self.epoch} of {self.epochs}"


@contextmanager
def predicting(model: Any) -> Iterator[None]:
    """Give a model the weights that predict within the block: their moving average, if its optimizer has `use_ema`."""
    weights = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_weights)
    try:
        yield
    finally:
        model.set_weights(weights)


def _named(group: str, arrays: Sequence[Array]) -> dict[str, Tensor]:
    """The arrays as tensors of types that a checkpoint holds; `assign` converts them back without loss."""
    tensors = {}
    for index, array in enumerate(arrays):
        wider = {"u": np.int64, "V": np.float32}.get(array.dtype.kind)  # V: bfloat16
        tensors[f"{group}/{index}"] = torch.from_numpy(np.array(array, dtype=wider or array.dtype))
    return tensors


def _checked(tensors: Mapping[str, Tensor], group: str, variables: Sequence[Any]) -> list[Array]:
    """The arrays of a group, one for each variable."""
    arrays = [tensors[f"{group}/{index}"].numpy() for index in range(len(variables))]
    stored = sum(name.startswith(f"{group}/") for name in tensors)
    if stored != len(arrays) or any(
        tuple(one.shape) != each.shape for one, each in zip(variables, arrays, strict=True)
    ):
        raise ValueError(f"its {group} has other variables")
    return arrays
