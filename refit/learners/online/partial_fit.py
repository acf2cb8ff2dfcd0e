"""A scikit-learn estimator with `partial_fit`, which learns one row at a time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from refit.config.train import Arguments
from refit.errors import UserError
from refit.learners import safe
from refit.learners.contract import Floats, Spec
from refit.learners.encoding import Encoding
from refit.learners.imports import build
from refit.learners.online.vectors import Vectors
from refit.schemas.online_state import PartialFitState

STATE, WEIGHTS = "vectors.json", "weights.skops"


class PartialFit:
    """An estimator by import path, given the vectors of `Vectors`; before its first row it predicts nothing known."""

    safe_format = "skops"

    def __init__(self, spec: Spec, kind: str, params: Arguments, where: str, *, stored: bool = False) -> None:
        self._spec, self._kind = spec, kind
        self._classes = np.arange(max(2, len(spec.classes)))
        if stored:  # a class that a folder names is never imported
            return
        self._blank: Any = build(kind, params, seed=spec.seed, where=where, task=spec.task)
        if not hasattr(self._blank, "partial_fit"):
            raise UserError(
                f"learner 'online': {kind} has no partial_fit, so it cannot learn row by row; SGDClassifier, "
                f"SGDRegressor, MLPClassifier, GaussianNB and Refit's own 'linear' can ({where}.kind)"
            )

    def start(self, encoding: Encoding) -> None:
        """Forget everything, and take rows of this encoding from now on."""
        self.vectors = Vectors(encoding)
        self.estimator: Any = copy.deepcopy(getattr(self, "_blank", None))
        self.fitted = False

    def predict(self, matrix: Floats) -> Floats:
        """Predictions of encoded rows, in the shape of the task."""
        is_number = self._spec.task == "regression"
        blank = np.full(self._spec.problem.shape(len(matrix)), 0.0 if is_number else 1 / len(self._classes))
        if not self.fitted:
            return blank
        vectors = self.vectors.of(matrix)
        with np.errstate(all="ignore"):
            if is_number:
                predicted = np.asarray(self.estimator.predict(vectors), dtype=np.float64)
            else:
                predicted = np.asarray(self.estimator.predict_proba(vectors), dtype=np.float64)
        predicted = predicted[:, 1] if self._spec.task == "binary" else predicted
        if is_number or hasattr(self.estimator, "coef_") or hasattr(self.estimator, "coefs_"):
            return predicted  # weights that are not finite have diverged
        finite = np.isfinite(predicted)  # naive Bayes knows nothing of a class that it has not met
        return np.where(finite if finite.ndim == 1 else finite.all(axis=1, keepdims=True), predicted, blank)

    def learn(self, row: Floats, label: float) -> None:
        """Learn an encoded row, shape (columns,)."""
        self.vectors.learn(row)
        extra = {} if self._spec.task == "regression" or self.fitted else {"classes": self._classes}
        target = np.array([label if self._spec.task == "regression" else int(label)])
        with np.errstate(all="ignore"):
            self.estimator.partial_fit(self.vectors.of(row[None]), target, **extra)
        self.fitted = True

    def learned(self) -> Any:
        """Everything that decides predictions."""
        return {"vectors": self.vectors.state().to_json(), "estimator": self.estimator, "fitted": self.fitted}

    def unsafe_reason(self) -> str | None:
        return safe.unsafe_reason(self.estimator, self._spec.trusted_types)

    def save(self, folder: Path) -> None:
        PartialFitState(vectors=self.vectors.state(), fitted=self.fitted).write(folder / STATE)
        safe.save_skops(self.estimator, folder / WEIGHTS)

    def load(self, folder: Path, trusted_types: tuple[str, ...]) -> None:
        state = PartialFitState.read(folder / STATE)
        self.vectors.restore(state.vectors)
        self.fitted = state.fitted
        self.estimator = safe.load_skops(folder / WEIGHTS, trusted_types)
