"""An autoencoder as a transformer: a network that squeezes rows through few numbers and restores them."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

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

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on (rows, columns) numbers.

        Raises:
            ValueError: an argument is not a positive number.
        """
        for name in ("n_components", "hidden", "epochs", "learning_rate", "batch_rows"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is a positive number; found {getattr(self, name)!r}")
        import torch

        points = np.asarray(X, dtype=np.float64)
        self.mean_, deviations = points.mean(axis=0), points.std(axis=0)
        self.scale_ = np.where(deviations > 0, deviations, 1.0)
        rows = torch.tensor((points - self.mean_) / self.scale_, dtype=torch.float32)
        width = rows.shape[1]
        sizes = (
            (width, self.hidden),
            (self.hidden, self.n_components),
            (self.n_components, self.hidden),
            (self.hidden, width),
        )
        random = torch.Generator().manual_seed(self.random_state)
        weights = []
        for before, after in sizes:
            bound = (6 / (before + after)) ** 0.5  # Glorot and Bengio 2010
            weights.append((torch.rand(before, after, generator=random) * 2 - 1) * bound)
            weights.append(torch.zeros(after))
        for each in weights:
            each.requires_grad_(True)
        optimizer = torch.optim.Adam(weights, lr=self.learning_rate)
        for _ in range(self.epochs):
            order = torch.randperm(len(rows), generator=random)
            for start in range(0, len(rows), self.batch_rows):
                optimizer.zero_grad()
                batch = rows[order[start : start + self.batch_rows]]
                coded = torch.tanh(batch @ weights[0] + weights[1]) @ weights[2] + weights[3]
                restored = torch.tanh(coded @ weights[4] + weights[5]) @ weights[6] + weights[7]
                loss = ((restored - batch) ** 2).mean()
                loss.backward()
                optimizer.step()
        self.weights_ = [each.detach().numpy().astype(np.float64) for each in weights]
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
