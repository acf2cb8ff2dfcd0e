"""ECOD and COPOD: how far out in its tails a row lies, column by column, by the training rows alone.

The package pyod has both, but puts the rows that it scores among the training rows, so that a row's score depends on
the others that are scored with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin

Floats = NDArray[np.float64]


class _Tails(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """The tail probabilities of each column, from the sorted training values."""

    def fit(self, X: Any, y: Any = None) -> Self:
        points = np.asarray(X, dtype=np.float64)
        self.sorted_ = np.ascontiguousarray(np.sort(points, axis=0))
        apart = points - points.mean(axis=0)
        self.left_ = (apart**3).mean(axis=0) < 0  # columns whose left tail is the longer one
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, to be stored."""
        return {"sorted": self.sorted_, "left": self.left_}

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""
        self.sorted_, self.left_ = arrays["sorted"], arrays["left"]

    def _surprises(self, X: Any) -> tuple[Floats, Floats, Floats]:
        """(rows, columns) negative log of the left tail's probability, of the right tail's, and of the longer one's."""
        points, count = np.asarray(X, dtype=np.float64), len(self.sorted_)
        columns = range(points.shape[1])
        up_to = np.stack([np.searchsorted(self.sorted_[:, j], points[:, j], "right") for j in columns], axis=1)
        from_on = count - np.stack([np.searchsorted(self.sorted_[:, j], points[:, j], "left") for j in columns], axis=1)
        left, right = (-np.log(np.maximum(each, 0.5) / (count + 1)) for each in (up_to, from_on))
        return left, right, np.where(self.left_, left, right)


class ECOD(_Tails):
    """The sum over columns of the surprise of the left tails, the right ones, or the longer ones: the largest.

    Source: Li et al. (2022), "ECOD: Unsupervised Outlier Detection Using Empirical Cumulative Distribution Functions".

    >>> ECOD().fit([[0.0], [1.0], [2.0]]).score_samples([[1.0], [9.0]]).round(2).tolist()
    [-0.69, -2.08]
    """

    def score_samples(self, X: Any) -> Floats:
        """(rows,) lower is more anomalous, as in scikit-learn."""
        sums = [each.sum(axis=1) for each in self._surprises(X)]
        return -np.asarray(np.max(sums, axis=0), dtype=np.float64)


class COPOD(_Tails):
    """The sum over columns of the surprise of the longer tail, or of the mean of both where that is more.

    Source: Li et al. (2020), "COPOD: Copula-Based Outlier Detection", algorithm 1, column by column as its authors'
    code has it.
    """

    def score_samples(self, X: Any) -> Floats:
        """(rows,) lower is more anomalous, as in scikit-learn."""
        left, right, longer = self._surprises(X)
        return -np.asarray(np.maximum(longer, (left + right) / 2).sum(axis=1), dtype=np.float64)
