"""A linear model that learns row by row: logistic, softmax or least squares, by AdaGrad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refit.config.train import Arguments
from refit.learners.contract import Floats, Spec
from refit.learners.encoding import Encoding
from refit.learners.networks.params import checked
from refit.learners.online.params import LinearParams
from refit.learners.online.vectors import Vectors
from refit.schemas.online_state import LinearState

FILE = "linear.json"
TINY = 1e-8


class Linear:
    """Weights of the vectors of `Vectors` and a constant, moved by the gradient of each row's loss.

    Each weight has a rate of its own, `learning_rate` by the root of the sum of its squared gradients, so that a rarely
    set category learns as fast as a number: Duchi, Hazan, Singer (2011), "Adaptive subgradient methods for online
    learning and stochastic optimization", JMLR 12, figure 1. In a regression the label is scaled as features are.
    """

    safe_format = "json"

    def __init__(self, spec: Spec, params: Arguments, where: str) -> None:
        self._rate = float(checked(LinearParams, "linear", params, where).learning_rate)
        self._task, self._outputs = spec.task, max(1, len(spec.classes))

    def start(self, encoding: Encoding) -> None:
        """Forget everything, and take rows of this encoding from now on."""
        self.vectors = Vectors(encoding)
        self.weights = np.zeros((self._outputs, self.vectors.width + 1))
        self.squares = np.full_like(self.weights, TINY)
        self.label = np.zeros(3)  # of a regression: count, mean and sum of squared distances from it

    def predict(self, matrix: Floats) -> Floats:
        """Predictions of encoded rows, in the shape of the task."""
        vectors = self.vectors.of(matrix)
        if len(vectors) == 1:
            scores = (self.weights[:, :-1] * vectors).sum(axis=1)[None] + self.weights[:, -1]
        else:
            scores = vectors @ self.weights[:, :-1].T + self.weights[:, -1]
        predicted = self._linked(scores)
        return predicted if self._task == "multiclass" else predicted[:, 0]

    def learn(self, row: Floats, label: float) -> None:
        """Learn an encoded row, shape (columns,)."""
        self.vectors.learn(row)
        vector = np.append(self.vectors.of(row[None])[0], 1.0)
        if self._task == "regression":
            self.label[0] += 1
            distance = label - self.label[1]
            self.label[1] += distance / self.label[0]
            self.label[2] += distance * (label - self.label[1])
        target = np.arange(self._outputs) == label if self._task == "multiclass" else np.array([label])
        scores = (self.weights * vector).sum(axis=1)[None]
        slope = (self._linked(scores)[0] - target) / (self._deviation if self._task == "regression" else 1.0)
        gradient = slope[:, None] * vector
        self.squares += gradient**2
        self.weights -= self._rate * gradient / np.sqrt(self.squares)

    @property
    def _deviation(self) -> float:
        """The standard deviation of the labels so far; 1 while they are all equal."""
        count, _, squares = self.label
        return float(np.sqrt(squares / count)) if squares > 0 else 1.0

    def _linked(self, scores: Floats) -> Floats:
        """(rows, outputs) predictions of scores."""
        if self._task == "regression":
            return np.asarray(self.label[1] + self._deviation * scores)
        if self._task == "multiclass":
            odds = np.exp(scores - scores.max(axis=1, keepdims=True))
            return np.asarray(odds / odds.sum(axis=1, keepdims=True))
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -35, 35))))

    def learned(self) -> Any:
        """Everything that decides predictions."""
        return self._state().to_json()

    def _state(self) -> LinearState:
        weights, squares = (tuple(tuple(row) for row in each.tolist()) for each in (self.weights, self.squares))
        count, mean, scatter = self.label.tolist()
        return LinearState(vectors=self.vectors.state(), weights=weights, squares=squares, label=(count, mean, scatter))

    def unsafe_reason(self) -> str | None:
        return None

    def save(self, folder: Path) -> None:
        self._state().write(folder / FILE)

    def load(self, folder: Path, trusted_types: tuple[str, ...]) -> None:
        state = LinearState.read(folder / FILE)
        self.vectors.restore(state.vectors)
        for name in ("weights", "squares", "label"):
            values = np.asarray(getattr(state, name), dtype=np.float64)
            if values.shape != getattr(self, name).shape:
                raise ValueError(f"{name} has shape {values.shape}, {getattr(self, name).shape} was expected")
            setattr(self, name, values)
