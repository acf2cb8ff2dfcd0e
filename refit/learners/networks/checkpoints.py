"""Checkpoints: all that a fit needs in order to go on after its process was killed, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from refit.errors import RefitError, first_line
from refit.files.artifacts import atomic
from refit.learners.contract import CurvePoint
from refit.learners.networks.optimisers import Plateau
from refit.learners.networks.surroundings import say_resumed
from refit.runtime.context import Progress, silent

__all__ = ["Checkpoint", "Resumable", "State", "identity"]

FORMAT = 4  # incremented when a file of older code would give another model


class Resumable(Protocol):
    """What a checkpoint holds of a fit."""

    def tensors(self) -> Mapping[str, Tensor]: ...

    def entries(self) -> BaseModel:
        """The rest, for JSON."""

    def restore(self, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `entries` gave.

        Raises:
            ValueError: they are no state of such a fit, which is then as if nothing had been restored.
        """

    def reached(self) -> str | None:
        """How far the fit is, in words; None if it is finished."""


class PlateauState(BaseModel):
    """What `Plateau` remembers of the training losses."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    lowest: float  # infinite before the first epoch
    waited: int
    factor: float


class Entries(BaseModel):
    """The numbers of a fit between two epochs, stored as JSON next to its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    finished: bool
    curve: tuple[CurvePoint, ...]
    scaler: Mapping[str, float | int]  # of gradients, as torch has them; empty without mixed precision
    plateau: PlateauState


@dataclass
class State:
    """The state of a fit between two epochs."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: AveragedModel | None
    shuffle: torch.Generator  # draws the order of the rows
    plateau: Plateau
    epochs: int  # to run
    epoch: int = 0  # complete ones
    finished: bool = False
    curve: list[CurvePoint] = field(default_factory=list)
    best: dict[str, Tensor] | None = None  # weights of the epoch with the best score

    @property
    def predicting(self) -> nn.Module:
        """The network that predicts: that of the mean weights, if there is one."""
        return self.averaged.module if self.averaged else self.network

    def tensors(self) -> dict[str, Tensor]:
        """Weights, and what goes on changing: moments of the optimiser, states of the generators.

        A finished fit has only the weights that predict: a search leaves many of them.
        """
        groups: dict[str, Mapping[str, Tensor]] = {}
        if self.finished:
            groups["network"] = self.best or self.predicting.state_dict()
        else:
            groups |= {"network": self.network.state_dict(), "best": self.best or {}}
            if self.averaged:
                groups["averaged"] = self.averaged.state_dict()
            for index, moments in self.optimizer.state_dict()["state"].items():
                groups[f"optimizer.{index}"] = {name: value for name, value in moments.items() if value is not None}
        groups["random"] = _generators(self)  # of a finished one too: another training may follow
        return {f"{group}/{name}": tensor for group, part in groups.items() for name, tensor in part.items()}

    def entries(self) -> Entries:
        """The rest, for JSON."""
        return Entries(
            epoch=self.epoch,
            finished=self.finished,
            curve=tuple(self.curve),
            scaler=self.scaler.state_dict(),
            plateau=PlateauState.model_validate(self.plateau),
        )

    def restore(self, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `entries` gave.

        Raises:
            LookupError: a part is missing; nothing is taken over.
            ValueError: a part is of another network; nothing is taken over.
        """
        entries = Entries.model_validate(content)
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, inner = name.partition("/")
            groups.setdefault(group, {})[inner] = tensor
        _require_same_weights(self.network, groups["network"])  # to load others would change some, and then fail
        if self.averaged and not entries.finished:
            _require_same_weights(self.averaged, groups["averaged"])
        random = groups.get("random", {}) if entries.finished else groups["random"]  # an older finished fit has none
        if random and any(random[name].shape != _generators(self)[name].shape for name in ("shuffle", "cpu")):
            raise ValueError("its generators are of another version")
        self.network.load_state_dict(groups["network"])
        if self.averaged:
            self.averaged.module.load_state_dict(groups["network"])
            if not entries.finished:
                self.averaged.load_state_dict(groups["averaged"])
        device = next(self.network.parameters()).device
        self.best = {name: tensor.to(device) for name, tensor in groups.get("best", {}).items()} or None
        self.epoch, self.finished, self.curve = entries.epoch, entries.finished, list(entries.curve)
        vars(self.plateau).update(entries.plateau.model_dump())
        if not self.finished:
            weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
            moments = {
                index: {name: _laid_out_as(weight, moment) for name, moment in groups[f"optimizer.{index}"].items()}
                for index, weight in enumerate(weights)
                if f"optimizer.{index}" in groups
            }
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
            self.scaler.load_state_dict(dict(entries.scaler))
        if random:
            _restore_generators(self, random)

    def reached(self) -> str | None:
        return None if self.finished else f"epoch {self.epoch} of {self.epochs}"


@dataclass
class Checkpoint:
    """The file of one fit, named by its identity."""

    folder: Path
    identity: str
    learner: str
    every_seconds: float = 1.0
    progress: Progress = silent
    cost: float = 0.0  # times what the last file took to write pass before the next
    _written: float = field(default_factory=time.monotonic)
    _seconds: float = 0.0

    @property
    def path(self) -> Path:
        return self.folder / f"{self.identity}.safetensors"

    def restore(self, state: Resumable) -> None:
        """Go on from the file, if there is one of this very fit; any other is left alone."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return
        try:
            with safe_open(self.path, framework="pt") as file:
                content = json.loads((file.metadata() or {})["refit"])
                if content.pop("identity") != self.identity:
                    raise ValueError("it is of another fit")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state.restore(tensors, content)
        except (SafetensorError, OSError, LookupError, ValueError) as error:
            self.progress(f"warning: {self.path} cannot be used ({first_line(error)}); {self.learner} starts again")
            return
        say_resumed(self.progress, self.learner, state.reached(), self.path)

    def write(self, state: Resumable, *, at_once: bool = False) -> None:
        """Write the state, unless the last file is younger than `every_seconds`. A full disk is only a warning.

        Args:
            at_once: however young the last file is.
        """
        from safetensors.torch import save

        started = time.monotonic()
        if not at_once and started - self._written < max(self.every_seconds, self.cost * self._seconds):
            return
        entries = {"identity": self.identity, **state.entries().model_dump()}
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors().items()}
        try:
            with atomic(self.path) as scratch:
                scratch.write_bytes(save(tensors, {"refit": json.dumps(entries)}))
        except (OSError, RefitError) as error:
            self.progress(f"warning: no checkpoint of {self.learner} ({first_line(error)}); the fit goes on without it")
        self._written = time.monotonic()
        self._seconds = self._written - started


def identity(described: Mapping[str, object], tensors: Iterable[Tensor]) -> str:
    """Digest of everything that determines a fit: its description, its rows and the weights that it starts from."""
    versions = {"format": FORMAT, "torch": torch.__version__}
    hasher = hashlib.sha256(json.dumps({**versions, **described}, sort_keys=True, default=str).encode())
    for tensor in tensors:
        hasher.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        hasher.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()[:32]


def _require_same_weights(network: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless they are weights of the network: of the same names and shapes."""
    shapes, found = ({name: tuple(each.shape) for name, each in of.items()} for of in (network.state_dict(), stored))
    if shapes != found:
        name = sorted(name for name in {*shapes, *found} if shapes.get(name) != found.get(name))[0]
        raise ValueError(f"its weights are those of another network: {name}")


def _laid_out_as(weight: Tensor, moment: Tensor) -> Tensor:
    """A moment with the strides of its weight, as the optimiser would have made it."""
    return torch.empty_like(weight, device=moment.device).copy_(moment) if moment.shape == weight.shape else moment


def _generators(state: State) -> dict[str, Tensor]:
    states = {"shuffle": state.shuffle.get_state(), "cpu": torch.get_rng_state()}
    device = next(state.network.parameters()).device
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _restore_generators(state: State, states: Mapping[str, Tensor]) -> None:
    state.shuffle.set_state(states["shuffle"])
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], next(state.network.parameters()).device)
