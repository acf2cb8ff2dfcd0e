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

from refit.metrics import tails

Floats = NDArray[np.float64]


class _Tails(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """The tail probabilities of each column, from the sorted training values."""

    def fit(self, X: Any, y: Any = None) -> Self:
        self.sorted_, self.left_ = tails.learned(np.asarray(X, dtype=np.float64))
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, to be stored."""
        return {"sorted": self.sorted_, "left": self.left_}

    def parts(self) -> dict[str, BaseEstimator]:
        return {}

    def take(self, arrays: Mapping[str, NDArray[Any]], parts: Mapping[str, BaseEstimator]) -> None:
        """Take over what `arrays` gave."""
        self.sorted_, self.left_ = arrays["sorted"], arrays["left"]

    def _surprises(self, X: Any) -> tuple[Floats, Floats, Floats]:
        return tails.surprises(np.asarray(X, dtype=np.float64), self.sorted_, self.left_)


class ECOD(_Tails):
    """The largest of three sums of surprises (`refit.metrics.tails.ecod`).

    >>> ECOD().fit([[0.0], [1.0], [2.0]]).score_samples([[1.0], [9.0]]).round(2).tolist()
    [-0.69, -2.08]
    """

    def score_samples(self, X: Any) -> Floats:
        """(rows,) lower is more anomalous, as in scikit-learn."""
        return -tails.ecod(self._surprises(X))


class COPOD(_Tails):
    """The sum of surprises of the longer tails, or of the mean of both (`refit.metrics.tails.copod`)."""

    def score_samples(self, X: Any) -> Floats:
        """(rows,) lower is more anomalous, as in scikit-learn."""
        return -tails.copod(self._surprises(X))
