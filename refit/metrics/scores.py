"""Checks predictions that are scored, and finds the threshold with the best F1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refit.errors import RefitError
from refit.metrics.ranks import at_or_above

Floats = NDArray[np.float64]


def best_f1_threshold(label: ArrayLike, p: ArrayLike) -> float:
    """The highest threshold with the best F1.

    Use predictions for rows that the model did not see.

    >>> best_f1_threshold([0, 1, 0, 1], [0.1, 0.6, 0.2, 0.7])
    0.6
    """
    y, q = checked(label, p)
    if not y.any():
        return 0.5
    levels, hits, rows = at_or_above(y, q)
    return float(levels[np.argmax(2 * hits / (rows + y.sum()))])


def checked(label: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], Floats]:
    """Labels and predictions as arrays.

    Raises:
        RefitError: no rows, unequal lengths, or a prediction that is not finite.
    """
    y: NDArray[Any] = np.asarray(label)
    p: Floats = np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or len(y) != len(p) or not len(y):
        raise RefitError(f"scores need as many predictions as labels, and one at least; found {p.shape}, {y.shape}")
    if not np.isfinite(p).all():
        raise RefitError(f"{int((~np.isfinite(p)).sum())} of {len(p)} predictions are not finite numbers")
    return y, p
