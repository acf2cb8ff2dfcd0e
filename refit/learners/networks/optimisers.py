"""Optimisers by name, and the learning rate of every step."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import Any, TypedDict

import torch
from torch import nn

from refit.learners.networks.params import ArchitectureParams
from refit.learners.networks.transfer import parameter_groups

__all__ = ["Plateau", "optimizer_of", "rate", "set_rate"]


class Common(TypedDict):
    """Arguments that all optimisers take."""

    lr: float
    weight_decay: float


def optimizer_of(
    params: ArchitectureParams, network: nn.Module, head: frozenset[str] = frozenset()
) -> torch.optim.Optimizer:
    """The optimiser that the params name, for all weights; those that are frozen have no gradient to follow."""
    weights: Any = list(network.parameters())
    if head:
        weights = parameter_groups(params, network, head)
    common: Common = {"lr": params.learning_rate, "weight_decay": params.weight_decay}
    make: dict[str, Callable[[], torch.optim.Optimizer]] = {
        # Sutskever et al. 2013; Nesterov 1983
        "sgd": lambda: torch.optim.SGD(weights, momentum=params.momentum, nesterov=params.nesterov, **common),
        "adam": lambda: torch.optim.Adam(weights, **common),  # Kingma and Ba 2015
        "adamw": lambda: torch.optim.AdamW(weights, **common),  # Loshchilov and Hutter 2019
        "rmsprop": lambda: torch.optim.RMSprop(weights, **common),  # Tieleman and Hinton 2012
        "adagrad": lambda: torch.optim.Adagrad(weights, **common),  # Duchi et al. 2011
    }
    return make[params.optimizer]()


class Plateau:
    """Lowers the rate if the training loss has not fallen for some epochs.

    It follows the loss of the training rows, because a refit on all rows has no others.
    """

    def __init__(self, params: ArchitectureParams) -> None:
        self._patience, self._decay = params.plateau_epochs, params.decay
        self.lowest, self.waited, self.factor = float("inf"), 0, 1.0

    def after_epoch(self, loss: float) -> None:
        """Take note of an epoch's mean loss."""
        self.lowest, self.waited = (loss, 0) if loss < self.lowest else (self.lowest, self.waited + 1)
        if self.waited == self._patience:
            self.waited, self.factor = 0, self.factor * self._decay


def rate(params: ArchitectureParams, epoch: int, step: int, steps: int, plateau: float = 1.0) -> float:
    """The learning rate of a step (from 0) of an epoch (from 0) of `steps` steps.

    It depends on `params.epochs`, not on how many epochs are run, so that the first n epochs of a refit follow the
    schedule of the search. Steps, plateau and cosine change from epoch to epoch; the others with every step.

    >>> [round(rate(ArchitectureParams(epochs=4, learning_rate=1.0), epoch, 0, 10), 3) for epoch in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    if params.schedule == "one_cycle":  # which warms up by itself
        return params.learning_rate * _one_cycle((epoch + step / steps) / params.epochs)
    now = epoch + (step + 1) / steps  # epochs that are complete after this step
    if now <= params.warmup_epochs:
        return params.learning_rate * now / params.warmup_epochs  # Goyal et al. 2017, section 2.2
    factors = {
        "constant": 1.0,
        "step": params.decay ** (epoch // params.step_epochs),
        "plateau": plateau,
        "cosine": (1 + cos(pi * max(0.0, epoch - params.warmup_epochs) / (params.epochs - params.warmup_epochs))) / 2,
    }
    return params.learning_rate * factors[params.schedule]


def _one_cycle(done: float) -> float:
    """Up from a twenty-fifth for 30 % of the training, then down to almost nothing (Smith and Topin 2018)."""
    rising, start, end = 0.3, 1 / 25, 1e-4 / 25
    if done < rising:
        return start + (1 - start) * (1 - cos(pi * done / rising)) / 2
    return end + (1 - end) * (1 + cos(pi * (done - rising) / (1 - rising))) / 2


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of the next step; groups keep their ratio to one another (`scale`, 1 by default)."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("scale", 1.0)
