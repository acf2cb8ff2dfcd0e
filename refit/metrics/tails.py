"""How far out in the tails of each column a value lies, by sorted values: the formulas of ECOD and COPOD."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

__all__ = ["copod", "ecod", "learned"]

Surprises = tuple[Floats, Floats, Floats]


def learned(points: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """(rows, columns) ascending values, and (columns,) whether the left tail of a column is the longer one."""
    apart = points - points.mean(axis=0)
    return np.ascontiguousarray(np.sort(points, axis=0)), (apart**3).mean(axis=0) < 0


def surprises(points: Floats, ascending: Floats, left: NDArray[np.bool_]) -> Surprises:
    """(rows, columns) negative log of the left tail's probability, of the right tail's, and of the longer one's."""
    count, columns = len(ascending), range(points.shape[1])
    up_to = np.stack([np.searchsorted(ascending[:, j], points[:, j], "right") for j in columns], axis=1)
    from_on = count - np.stack([np.searchsorted(ascending[:, j], points[:, j], "left") for j in columns], axis=1)
    of_left, of_right = (-np.log(np.maximum(each, 0.5) / (count + 1)) for each in (up_to, from_on))
    return of_left, of_right, np.where(left, of_left, of_right)


def ecod(each: Surprises) -> Floats:
    """(rows,) the sum over columns of the surprise of the left tails, the right ones, or the longer ones: the largest.

    Source: Li et al. (2022), "ECOD: Unsupervised Outlier Detection Using Empirical Cumulative Distribution Functions".
    """
    return np.asarray(np.max([part.sum(axis=1) for part in each], axis=0), dtype=np.float64)


def copod(each: Surprises) -> Floats:
    """(rows,) the sum over columns of the surprise of the longer tail, or of the mean of both where that is more.

    Source: Li et al. (2020), "COPOD: Copula-Based Outlier Detection", algorithm 1, column by column as its authors'
    code has it.
    """
    left, right, longer = each
    return np.asarray(np.maximum(longer, (left + right) / 2).sum(axis=1), dtype=np.float64)
