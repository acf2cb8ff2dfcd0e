"""Scores a network after each epoch, and names the best one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch import nn

from refit.errors import UserError
from refit.learners.contract import CurvePoint, Floats, Labels, Spec
from refit.learners.networks.inputs import Inputs
from refit.metrics import Metric

__all__ = ["best_epoch", "finite", "scoring"]


def best_epoch(metric: Metric, curve: Sequence[CurvePoint]) -> int:
    """The first epoch with the best validation score; 0 is a network that goes on, before its first epoch."""
    return max(curve, key=lambda each: (metric.gain(each.validation, 0.0), -each.iteration)).iteration


def scoring(
    spec: Spec,
    predictions: Callable[[nn.Module, Inputs], Floats],
    training: tuple[Inputs, Labels],
    unseen: tuple[Inputs, Labels],
    weights: Floats | None = None,
) -> Callable[[nn.Module, int], CurvePoint]:
    """Scores a network on some training rows, and on the validation rows; `weights` are those of the classes."""
    scored = partial(spec.stopping_score, weights=weights)

    def score(network: nn.Module, epoch: int) -> CurvePoint:
        return CurvePoint(epoch, *(scored(label, predictions(network, rows)) for rows, label in (training, unseen)))

    return score


def finite(predicted: Floats, spec: Spec, where: str) -> Floats:
    """The predictions of a network.

    Raises:
        UserError: some are not finite.
    """
    if not np.isfinite(predicted).all():
        raise UserError(
            f"learner {spec.name!r} predicts numbers that are not finite, its training has diverged; lower "
            f"learning_rate, or set clip_norm ({where}.params)"
        )
    return predicted
