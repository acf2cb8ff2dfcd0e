"""Starts a network from the weights of another one, and trains its layers at their own pace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from refit.errors import UserError
from refit.learners.networks.params import ArchitectureParams

__all__ = ["BODY", "freeze", "frozen_weights", "head_of", "layers_of", "parameter_groups", "take_over"]

BODY = "body"  # in `freeze`: everything but the head

STATISTICS = "running_mean"  # a buffer of each batch norm that keeps some

NONE: frozenset[str] = frozenset()

Build = Callable[[int], nn.Module]  # from a number of outputs


def head_of(build: Build, outputs: int) -> frozenset[str]:
    """The weights whose shape follows the number of outputs: those that other labels cannot use.

    >>> sorted(head_of(lambda outputs: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, outputs)), 2))
    ['2.bias', '2.weight']
    """
    with torch.random.fork_rng():
        these, others = (build(count).state_dict() for count in (outputs, outputs + 1))
    return frozenset(name for name, weight in these.items() if weight.shape != others[name].shape)


def differing(network: nn.Module, weights: Mapping[str, Tensor], head: frozenset[str] = NONE) -> str | None:
    """The first weight outside of the head that two networks do not share, and how; None if they share all."""
    own = {name: tuple(weight.shape) for name, weight in network.state_dict().items() if name not in head}
    theirs = {name: tuple(weight.shape) for name, weight in weights.items() if name not in head}
    for name in sorted({*own, *theirs}):
        if own.get(name) != theirs.get(name):
            there, here = (
                " x ".join(map(str, shapes[name])) or "one number" if name in shapes else "missing"
                for shapes in (theirs, own)
            )
            return f"{name} is {there} there and {here} here"
    return None


def take_over(network: nn.Module, weights: Mapping[str, Tensor], leave: frozenset[str] = NONE) -> nn.Module:
    """The network with another one's weights, except for those to leave as they are."""
    network.load_state_dict(
        {name: own if name in leave else weights[name] for name, own in network.state_dict().items()}
    )
    return network


def frozen_weights(network: nn.Module, parts: Iterable[str], head: frozenset[str], where: str) -> frozenset[str]:
    """The weights of the parts that `freeze` names: `body`, or modules by their path, such as `dense.0`.

    Batch norms are named by their statistics too, which are frozen with the part even where they have no weights.

    Raises:
        UserError: the network has no such part.
    """
    weights = dict(network.named_parameters())
    statistics = [f"{path}.{STATISTICS}" for path, _ in _batch_norms(network)]
    names, frozen = [*weights, *statistics], set[str]()
    for part in parts:
        matches = {name for name in names if (name not in head if part == BODY else f"{name}.".startswith(f"{part}."))}
        if not matches:
            parts_there = ", ".join(dict.fromkeys([BODY, *(name for name, _ in network.named_children())]))
            raise UserError(f"freeze: the network has no part {part!r}; it has {parts_there} ({where}.params.freeze)")
        frozen |= matches
    trained = {name for name, weight in weights.items() if weight.requires_grad}  # others never are
    if frozen >= trained:
        raise UserError(f"freeze: nothing is left to train; leave the head out ({where}.params.freeze)")
    return frozenset(frozen & {*trained, *statistics})


def freeze(network: nn.Module, frozen: frozenset[str], *, thawed: bool = False) -> None:
    """Keep weights as they are, or train them again; batch norms among them keep their statistics too."""
    if not frozen:
        return
    for name, weight in network.named_parameters():
        if name in frozen:
            weight.requires_grad_(thawed)
    for path, module in _batch_norms(network):
        if f"{path}.{STATISTICS}" in frozen:
            module.train(thawed)


def _batch_norms(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The batch norms that have statistics of the rows before, by their path."""
    for path, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            yield path, module


def layers_of(network: nn.Module, head: frozenset[str]) -> list[list[str]]:
    """The weights of the body by layer, the first one first; norms and all embeddings count with a neighbour.

    A module with a true `is_layer` is one layer with all that is in it, and so is one whose weights are computed of
    others, as by weight normalisation. A module of recurrent layers has several.

    >>> body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Linear(4, 2))
    >>> [len(layer) for layer in layers_of(body, frozenset({"3.weight", "3.bias"}))]
    [4, 2]
    """
    layers: list[list[str]] = []
    was_embedding, whole = False, "."  # of a layer that was added as a whole
    for path, module in network.named_modules():
        if path.startswith(whole):
            continue
        if getattr(module, "is_layer", False) or is_parametrized(module):
            whole, was_embedding = f"{path}.", False
            names = [f"{whole}{name}".lstrip(".") for name, _ in module.named_parameters()]
            layers += [layer] if (layer := [name for name in names if name not in head]) else []
            continue
        weights = {f"{path}.{name}".lstrip("."): weight for name, weight in module.named_parameters(recurse=False)}
        weights = {name: weight for name, weight in weights.items() if name not in head}
        if not weights:
            continue
        if isinstance(module, nn.RNNBase):
            of_layer = (re.compile(rf"_l{number}(_reverse)?$").search for number in range(module.num_layers))
            layers += [[name for name in weights if belongs(name)] for belongs in of_layer]
            was_embedding = False
            continue
        is_embedding = isinstance(module, nn.Embedding)
        begins = any(weight.dim() > 1 for weight in weights.values()) and not (is_embedding and was_embedding)
        if begins or not layers:
            layers.append([])
        layers[-1] += weights
        was_embedding = is_embedding
    return layers


class ParameterGroup(TypedDict):
    """A group of weights as an optimiser takes it."""

    params: list[nn.Parameter]
    scale: float  # of the learning rate of a step
    lr: float


def parameter_groups(params: ArchitectureParams, network: nn.Module, head: frozenset[str]) -> list[ParameterGroup]:
    """Groups of weights for an optimiser, each with its share (`scale`) of the learning rate of a step.

    The head learns at `head_learning_rate`, and each layer below it `layer_decay` times as fast as the one above
    (discriminative fine-tuning: Howard and Ruder 2018, section 3.2).
    """
    scales = dict.fromkeys(head, (params.head_learning_rate or params.learning_rate) / params.learning_rate)
    for depth, layer in enumerate(reversed(layers_of(network, head)), start=1):
        scales |= dict.fromkeys(layer, params.layer_decay**depth)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        groups.setdefault(scales[name], []).append(weight)
    return [
        {"params": weights, "scale": scale, "lr": params.learning_rate * scale} for scale, weights in groups.items()
    ]
