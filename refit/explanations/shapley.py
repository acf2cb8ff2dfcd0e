"""Shapley values of predictions, in the form that every explainer returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refit.schemas.explanations import Method, Unit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """Shapley values: what each feature adds to the prediction of each row, and the base value they start from.

    `base` and a row's `values` add up to its prediction in `unit`: the prediction itself, its log-odds (for several
    classes the scores whose softmax gives the probabilities), or its log.
    """

    features: tuple[str, ...]
    values: Floats  # (rows, features, outputs); one output for each class in a multiclass task, else one
    base: Floats  # (outputs,)
    unit: Unit
    method: Method
    indices: NDArray[np.int64]  # of the explained rows among those given
    calibrated: bool = False  # the learner is calibrated, and the explanation is of its prediction before calibration

    @property
    def total(self) -> Floats:
        """(rows, outputs) the predictions, in `unit`."""
        total: Floats = self.base + self.values.sum(axis=1)
        return total

    def mean_size(self) -> Floats:
        """(features,) the mean absolute contribution, over rows and outputs."""
        size: Floats = np.abs(self.values).mean(axis=(0, 2))
        return size


@dataclass(frozen=True)
class RawContributions:
    """Contributions from the explainer of one model family, in the unit in which that model adds up."""

    values: Floats
    base: Floats
    indices: NDArray[np.int64]
    method: Method
