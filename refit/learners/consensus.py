"""Seven simple detectors as one: where no label says which of them is right, their mean is a safe choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin

from refit.metrics.consensus import FEWEST, Members, halves

__all__ = ["Consensus"]

Floats = NDArray[np.float64]


class Consensus(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """The mean surprise of the detectors of `refit.metrics.consensus`, fitted to each half of the rows.

    >>> rows = np.random.default_rng(0).normal(size=(200, 2))
    >>> usual, odd = Consensus().fit(rows).score_samples([[0.0, 0.0], [5.0, -5.0]])
    >>> bool(odd < usual)
    True
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to (rows, columns) standardised numbers.

        Raises:
            ValueError: there are too few rows.
        """
        points = np.asarray(X, dtype=np.float64)
        if len(points) < FEWEST:
            raise ValueError(f"{len(points)} rows are too few for a consensus of detectors; it needs {FEWEST}")
        for half, members in enumerate(halves(points, self.random_state)[0]):
            for name in _names():
                setattr(self, f"{name}_{half}_", getattr(members, name))
        return self

    def score_samples(self, X: Any) -> Floats:
        """(rows,) lower is more anomalous, as in scikit-learn."""
        points = np.asarray(X, dtype=np.float64)
        members = [Members(*(getattr(self, f"{name}_{half}_") for name in _names())) for half in (0, 1)]
        return -np.asarray(np.mean([each.surprise(points) for each in members], axis=0), dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of what was learned, to be stored."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def parts(self) -> dict[str, BaseEstimator]:
        """The estimators of scikit-learn in it."""
        return {name: value for name, value in vars(self).items() if isinstance(value, BaseEstimator)}

    def take(self, arrays: Mapping[str, NDArray[Any]], parts: Mapping[str, BaseEstimator]) -> None:
        """Take over what `arrays` and `parts` gave."""
        for name, value in (*arrays.items(), *parts.items()):
            setattr(self, name, value)


def _names() -> tuple[str, ...]:
    return tuple(each.name for each in fields(Members))
