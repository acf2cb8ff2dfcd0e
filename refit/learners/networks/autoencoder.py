"""An autoencoder as a transformer: a network that squeezes rows through few numbers and restores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from refit.runtime.context import Progress, silent

Floats = NDArray[np.float64]


class Autoencoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Two networks with one hidden layer each, trained together to restore rows from their coordinates.

    The loss is the mean squared error of standardised columns, minimised by Adam. What is fitted is plain arrays, so
    that it is stored and applied without torch. Source: Hinton and Salakhutdinov (2006), "Reducing the Dimensionality
    of Data with Neural Networks", without their layer-wise pretraining.
    """

    def __init__(
        self,
        n_components: int = 2,
        hidden: int = 64,
        epochs: int = 50,
        learning_rate: float = 0.003,
        batch_rows: int = 128,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_rows = batch_rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, progress: Progress = silent) -> Self:
        """Train on (rows, columns) numbers.

        Raises:
            ValueError: an argument is not a positive number.
            UserError: the training diverges.
        """
        for name in ("n_components", "hidden", "epochs", "learning_rate", "batch_rows"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is a positive number; found {getattr(self, name)!r}")
        from refit.learners.networks.bottleneck import trained

        points = np.asarray(X, dtype=np.float64)
        self.mean_, deviations = points.mean(axis=0), points.std(axis=0)
        self.scale_ = np.where(deviations > 0, deviations, 1.0)
        self.weights_ = trained((points - self.mean_) / self.scale_, self.get_params(), progress)
        return self

    def transform(self, X: Any) -> Floats:
        """(rows, n_components) coordinates."""
        points = (np.asarray(X, dtype=np.float64) - self.mean_) / self.scale_
        return self._half(points, self.weights_[:4])

    def inverse_transform(self, X: Any) -> Floats:
        """(rows, columns) what coordinates stand for."""
        restored = self._half(np.asarray(X, dtype=np.float64), self.weights_[4:])
        return np.asarray(restored * self.scale_ + self.mean_, dtype=np.float64)

    @staticmethod
    def _half(values: Floats, weights: list[Floats]) -> Floats:
        first, bias, second, last = weights
        return np.asarray(np.tanh(values @ first + bias) @ second + last, dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, to be stored."""
        weights = {f"weights{index}": each for index, each in enumerate(self.weights_)}
        return {"mean": self.mean_, "scale": self.scale_, **weights}

    def parts(self) -> dict[str, BaseEstimator]:
        return {}

    def take(self, arrays: Mapping[str, NDArray[Any]], parts: Mapping[str, BaseEstimator]) -> None:
        """Take over what `arrays` gave."""
        self.mean_, self.scale_ = arrays["mean"], arrays["scale"]
        self.weights_ = [arrays[f"weights{index}"] for index in range(len(arrays) - 2)]
