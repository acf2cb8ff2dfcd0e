"""What every learner of networks shares, whichever library trains it: the contract's verbs and prepared rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from refit.errors import RefitError
from refit.learners.contract import FitReport, Floats, Labels, Learner, Spec, check_labels, continuing
from refit.learners.networks.inputs import Preparation, mean_and_deviation
from refit.learners.texts import DenseTexts
from refit.runtime.context import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TWIN_ROWS", "FitInput", "PreparedLearner", "predict_alike"]

T = TypeVar("T")

TWIN_ROWS = 8  # that show whether two networks with the same weights are the same


@dataclass(frozen=True)
class FitInput:
    """The arguments of `fit` and `resume`."""

    rows: pa.Table
    label: Labels
    validation: tuple[pa.Table, Labels] | None
    iterations: int | None
    progress: Progress
    unlabelled: pa.Table | None


class PreparedLearner(ABC):
    """Reads rows by means, deviations and categories of its training rows, and fits a network to them."""

    def __init__(self, spec: Spec, where: str) -> None:
        self.spec = spec
        self.threshold = 0.5
        self._where = where
        self._preparation: Preparation | None = None
        self._scale = np.array([0.0, 1.0])  # of the label: the network is fitted to (label - scale[0]) / scale[1]

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
        unlabelled: pa.Table | None = None,
    ) -> FitReport:
        check_labels(label, self.spec)
        return self._fit(FitInput(train, label, validation, iterations, progress, unlabelled))

    def resume(
        self,
        before: Learner,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
        unlabelled: pa.Table | None = None,
    ) -> FitReport:
        check_labels(label, self.spec)
        assert isinstance(before, type(self))
        return self._resume(before, FitInput(train, label, validation, iterations, progress, unlabelled))

    @abstractmethod
    def _fit(self, fit: FitInput) -> FitReport:
        """Fit a new network."""

    @abstractmethod
    def _resume(self, before: Self, fit: FitInput) -> FitReport:
        """Continue training another learner's network."""

    def _read_as(self, before: Self) -> None:
        """Prepare rows as another learner does, features in its order."""
        self._preparation, self.spec = before._preparation, continuing(self.spec, before.spec)

    def _learn_scale(self, label: Labels) -> None:
        """A number is fitted in deviations from its mean."""
        if self.spec.task == "regression":
            self._scale = np.concatenate(mean_and_deviation(label[:, None]))

    @property
    def _outputs(self) -> int:
        return len(self.spec.classes) or 1

    @property
    def _prepared(self) -> Preparation:
        return self._after_fit(self._preparation)

    @property
    def _texts(self) -> DenseTexts:
        return (self._preparation and self._preparation.encoding.texts) or DenseTexts()

    def _after_fit(self, part: T | None) -> T:
        if part is None:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        return part


def predict_alike(one: Floats, other: Floats, scale: NDArray[np.float64]) -> bool:
    """Whether these are the predictions of one network, but for the order of sums.

    Args:
        scale: mean and deviation of the label, in whose units networks predict.

    >>> predict_alike(np.array([0.0]), np.array([1e-3]), np.array([0.0, 1e6]))
    True
    >>> predict_alike(np.array([1e6]), np.array([1e6 + 1e-3]), np.array([1e6, 1.0]))
    False
    """
    centre, deviation = scale
    return bool(np.allclose((one - centre) / deviation, (other - centre) / deviation, atol=1e-6))
