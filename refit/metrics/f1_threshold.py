"""The threshold with the best F1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from refit.metrics.formulas import checked
from refit.metrics.ranks import at_or_above


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
