"""The threshold with the best F1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from refit.metrics.clusters import Floats
from refit.metrics.formulas import checked
from refit.metrics.ranks import at_or_above


def best_f1_threshold(label: ArrayLike, p: ArrayLike) -> float:
    """The threshold with the best F1, of equally good ones the highest; in the middle between two predictions.

    Use predictions for rows that the model did not see.

    >>> best_f1_threshold([0, 1, 0, 1], [0.1, 0.6, 0.2, 0.7])
    0.4
    """
    y, q = checked(label, p)
    if not y.any():
        return 0.5
    levels, hits, rows = at_or_above(y, q)
    return above_the_next(levels, int(np.argmax(2 * hits / (rows + y.sum()))))


def above_the_next(levels: Floats, index: int) -> float:
    """A threshold for all predictions down to a level: half of the way to the next lower one, if there is one.

    Any threshold in that gap is as good on these rows. At its upper end it would cut off a new row that lies a little
    lower, at which a model that is sure of all rows would find none.

    >>> above_the_next(np.array([0.75, 0.25]), 0), above_the_next(np.array([0.75, 0.25]), 1)
    (0.5, 0.25)
    """
    level = float(levels[index])
    if index + 1 == len(levels):
        return level
    middle = (level + float(levels[index + 1])) / 2
    return middle if levels[index + 1] < middle else level
