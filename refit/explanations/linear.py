"""Shapley values of linear models: the coefficient times the row's distance from the mean of the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.explanations.encoded import encoded
from refit.explanations.shapley import RawContributions
from refit.learners import Learner
from refit.learners.sklearn_estimator import SklearnEstimator

if TYPE_CHECKING:
    import pyarrow as pa


def explain(learner: Learner, rows: pa.Table, background: pa.Table, seconds: float) -> RawContributions | None:
    """Exact contributions, assuming independent features; None if the learner is not a linear model."""
    if not isinstance(learner, SklearnEstimator):
        return None
    estimator, given, indices = encoded(learner, rows)
    coefficients = getattr(estimator, "coef_", None)
    if coefficients is None or not hasattr(estimator, "intercept_"):
        return None
    coefficients = np.atleast_2d(
        np.asarray(coefficients.todense() if hasattr(coefficients, "todense") else coefficients)
    )
    if coefficients.shape[1] != len(indices):
        return None
    ours = _parts(given, coefficients, indices, len(learner.spec.features))
    usual = _parts(encoded(learner, background)[1], coefficients, indices, len(learner.spec.features)).mean(axis=0)
    base = np.atleast_1d(estimator.intercept_) + usual.sum(axis=0)
    return RawContributions(ours - usual, base, np.arange(rows.num_rows), "linear")


def _parts(
    given: Any, coefficients: NDArray[np.float64], indices: NDArray[np.int64], features: int
) -> NDArray[np.float64]:
    """(rows, features, outputs) the sum that each feature's columns add to the score."""
    parts = np.zeros((given.shape[0], features, len(coefficients)))
    for index in np.unique(indices):
        columns = np.flatnonzero(indices == index)
        parts[:, index] = given[:, columns] @ coefficients[:, columns].T
    return parts
