"""Shapley values of predictions, as every way of computing them gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Unit = Literal["probability", "number", "log-odds", "log"]
Method = Literal["trees", "boosting library", "linear", "sampling"]


@dataclass(frozen=True)
class Contributions:
    """Shapley values: what each feature adds to the prediction of each row, beside what is predicted for no row at all.

    `base` and all of a row's `values` add up to its prediction in `unit`: itself, or the log-odds (of several classes:
    the scores whose softmax are the probabilities) or the log of it.
    """

    features: tuple[str, ...]
    values: Floats  # (rows, features, outputs); a multiclass task has an output for each class, others have one
    base: Floats  # (outputs,)
    unit: Unit
    method: Method
    places: NDArray[np.int64]  # of the rows that were explained, among those given
    calibrated: bool = False  # what is explained is the prediction before it was calibrated

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
class Found:
    """What a family's own way gives, in whatever unit the model adds up."""

    values: Floats
    base: Floats
    places: NDArray[np.int64]
    method: Method
