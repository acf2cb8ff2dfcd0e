"""Checks that a network can start from another one (`Spec.start`), and gives it that parent."""

from __future__ import annotations

import torch

from refit.errors import UserError
from refit.learners.contract import Learner
from refit.learners.networks.network import Network
from refit.learners.networks.tokens import require_same_length
from refit.learners.networks.transfer import differing
from refit.learners.postprocessed import fitted_within

__all__ = ["start_from"]


def start_from(stored: Learner, learner: Learner, where: str) -> None:
    """Give a learner the parent that its fits start from.

    Args:
        stored: what was loaded from the folder of `learner.spec.start`.

    Raises:
        UserError: one of them is no network, or their architectures or features differ.
    """
    spec, start, parent = learner.spec, learner.spec.start, fitted_within(stored)
    assert start is not None
    who, advice = f"learner {spec.name!r} cannot start from {start.name}", f"({where}, params.yaml: train.start_from)"
    if not isinstance(learner, Network):
        raise UserError(f"{who}: networks can, {spec.kind} is none; use another kind, or leave it out {advice}")
    if not isinstance(parent, Network):
        averaged = f"the mean of {parent.spec.average} models" if parent.spec.average > 1 else "no network"
        raise UserError(f"{who}: that is {parent.spec.name!r} ({parent.spec.kind}), {averaged} {advice}")
    if parent.spec.kind != spec.kind:
        raise UserError(f"{who}: that is of kind {parent.spec.kind}, this one {spec.kind}; they must agree {advice}")
    if problem := _different_features(learner, parent):
        raise UserError(f"{who}: {problem} {advice}")
    with torch.random.fork_rng():
        network = learner.built(parent.shapes)
    if problem := differing(network, parent.weights(), learner.head(parent.shapes)):
        raise UserError(f"{who}: {problem}; its params are {parent.params.of_architecture()} {advice}")
    require_same_length(parent.params, learner.params, parent.shapes.vocabulary, where)
    learner.parent = parent


def _different_features(learner: Network, parent: Network) -> str | None:
    here, there = learner.spec, parent.spec
    if missing := sorted({*there.features} - {*here.features}):
        return f"it reads feature {missing[0]!r}, which is not among the {len(here.features)} of this project"
    if more := sorted({*here.features} - {*there.features}):
        return f"it does not know feature {more[0]!r}; leave it out (featurize.exclude)"
    for name in there.features:
        kinds = [
            spec.arrays.get(name, "text" if name in spec.text else "category" if name in spec.categorical else "number")
            for spec in (there, here)
        ]
        if kinds[0] != kinds[1]:
            return f"feature {name!r} is {kinds[0]} there and {kinds[1]} here"
    return None
