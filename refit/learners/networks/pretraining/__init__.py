"""Trains the layers of a network without labels, before they are trained with them; one file for each method."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from refit.errors import UserError
from refit.learners.contract import Spec
from refit.learners.networks.architecture import Architecture
from refit.learners.networks.architectures.autoencoder import AutoencoderNetwork
from refit.learners.networks.inputs import ImageScaling, Inputs, InputShapes
from refit.learners.networks.loop import Task
from refit.learners.networks.losses import nothing
from refit.learners.networks.params import ArchitectureParams, Augmentation, Pretraining
from refit.learners.networks.surroundings import surroundings
from refit.runtime.context import Progress

__all__ = ["Body", "Method", "check", "method", "only_images", "pretask", "trainee"]


class Method(Protocol):
    """A module with these names."""

    NEEDS: str  # the features and the network that it is for, for errors

    @staticmethod
    def fits(spec: Spec, architecture: Architecture) -> bool:
        """Whether it can train a network of this architecture on these features."""

    @staticmethod
    def build(body: Body, shapes: InputShapes, how: Pretraining) -> nn.Module:
        """The body with the layers that only this method needs."""

    @staticmethod
    def counts(rows: Inputs) -> Tensor | None:
        """(rows,) how many values of each row the loss is the mean of; None if each row counts alike."""

    @staticmethod
    def batch_loss(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
        """The loss of a batch of rows; there is no target."""


class Body(nn.Module):
    """A network without its last layer: (rows, width), what that layer is given."""

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.network = network
        layer = network.get_submodule(head)
        assert isinstance(layer, nn.Linear)
        self.width = layer.in_features
        self._given: list[Tensor] = []
        self._hook = layer.register_forward_pre_hook(lambda _, given: self._given.append(given[0]))

    def forward(self, batch: Inputs) -> Tensor:
        self._given.clear()
        self.network(batch)
        return self._given.pop()

    def release(self) -> None:
        """Leave the network as it was given but for its weights."""
        self._hook.remove()
        self._given.clear()


def only_images(spec: Spec, architecture: Architecture) -> bool:
    """Whether all features are images, so that nothing else shows what was done to them."""
    arrays = [spec.arrays.get(name) for name in spec.features]
    return all(array is not None and array.kind == "image" for array in arrays)


def method(how: Pretraining) -> Method:
    """The module of a method."""
    return cast(Method, importlib.import_module(f"refit.learners.networks.pretraining.{how.method}"))


def check(spec: Spec, architecture: Architecture, params: ArchitectureParams, where: str) -> None:
    """Raise UserError if the method cannot train such a network on such features."""
    if params.pretrain and not method(params.pretrain).fits(spec, architecture):
        raise UserError(
            f"learner {spec.kind!r}: pretraining by {params.pretrain.method} is for {method(params.pretrain).NEEDS}; "
            f"choose another method, or leave it out ({where}.params.pretrain)"
        )


def pretask(
    spec: Spec,
    params: ArchitectureParams,
    rows: Inputs,
    device: torch.device,
    scaling: ImageScaling,
    progress: Progress,
) -> Task:
    """The training on rows without labels: as that with labels, but for what depends on these."""
    how, on_epoch = params.pretrain, surroundings.get().on_epoch
    assert how is not None
    changed = params.model_copy(
        update={
            "epochs": how.epochs,
            "warmup_epochs": 0.0,
            "mixup": 0.0,
            "ema": 0.0,
            "augment": Augmentation(),
            **({} if how.batch_rows is None else {"batch_rows": how.batch_rows}),
            **({} if how.learning_rate is None else {"learning_rate": how.learning_rate}),
            **({"accumulate": 1} if how.method == "simclr" else {}),  # a row is compared with all rows of its batch
        }
    )
    task = Task(f"{spec.name} (pretraining)", changed, nothing, how.epochs, spec.seed, device, scaling)
    task = replace(task, batch_loss=method(how).batch_loss, counts=method(how).counts(rows), progress=progress)
    if on_epoch is None:
        return task
    curve = f"{spec.name} pretraining"  # MLflow takes no brackets
    return replace(task, on_epoch=lambda report: on_epoch(replace(report, learner=curve)))


@contextmanager
def trainee(network: nn.Module, head: frozenset[str], shapes: InputShapes, how: Pretraining) -> Iterator[nn.Module]:
    """The network with the layers that the method adds to it; afterwards it is without them.

    Args:
        head: the weights of its last layer.

    Raises:
        UserError: it does not end in one linear layer.
    """
    (path, *others) = sorted({name.rpartition(".")[0] for name in head}) or [""]
    if others or not path or not isinstance(network.get_submodule(path), nn.Linear):
        raise UserError(f"pretraining by {how.method} needs a network whose last layer is one nn.Linear; leave it out")
    body = Body(network, path)
    try:
        yield method(how).build(body, shapes, how)
    finally:
        body.release()
    if isinstance(network, AutoencoderNetwork):
        network.pretrained.fill_(True)
