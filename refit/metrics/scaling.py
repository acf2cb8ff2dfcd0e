"""Scales numbers for methods that measure distances, and says what that does to a density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

__all__ = ["Scaling"]


@dataclass(frozen=True)
class Scaling:
    """Takes logarithms of some columns, then gives each a mean of 0 and a standard deviation of 1.

    The logarithm is sign(x) log(1 + |x|), so that it is there for every number. A column without variation keeps its
    own unit.
    """

    logs: NDArray[np.bool_]  # (columns,)
    means: Floats
    deviations: Floats

    @classmethod
    def of(cls, numbers: Floats, logs: NDArray[np.bool_] | None = None) -> Scaling:
        """The scaling of (rows, columns) numbers, of which nan are left out."""
        chosen = np.zeros(numbers.shape[1], dtype=np.bool_) if logs is None else logs
        values = _logged(numbers, chosen)
        known = ~np.isnan(values)
        counts = np.maximum(known.sum(axis=0), 1)
        means = np.where(known, values, 0.0).sum(axis=0) / counts
        deviations = np.sqrt(np.where(known, (values - means) ** 2, 0.0).sum(axis=0) / counts)
        flat = deviations <= 1e-9 * np.maximum(np.abs(means), 1e-300)
        return cls(chosen, means, np.where(flat, 1.0, deviations))

    def scaled(self, numbers: Floats) -> Floats:
        """(rows, columns) numbers on the new scale; nan stays nan."""
        return np.asarray((_logged(numbers, self.logs) - self.means) / self.deviations)

    def original(self, scaled: Floats) -> Floats:
        """The numbers that were scaled.

        >>> scaling = Scaling.of(np.array([[1.0], [10.0], [100.0]]), np.array([True]))
        >>> scaling.original(scaling.scaled(np.array([[-7.0]]))).round(9).tolist()
        [[-7.0]]
        """
        values = scaled * self.deviations + self.means
        powers = np.expm1(np.abs(values), where=self.logs, out=np.zeros_like(values))
        return np.where(self.logs, np.sign(values) * powers, values)

    def log_stretch(self, numbers: Floats) -> Floats:
        """(rows,) what has to be added to the negative log of a density of scaled numbers for one of the numbers.

        It is the negative log of the derivative, over the columns that a row has: comparable between models, however
        each of them scales its numbers.
        """
        steps = np.log(self.deviations) + np.where(self.logs, np.log1p(np.abs(numbers)), 0.0)
        return np.asarray(np.where(np.isnan(numbers), 0.0, steps).sum(axis=1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` makes it from again."""
        return {"logs": self.logs.astype(np.uint8), "centre": self.means, "deviations": self.deviations}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Scaling:
        return cls(arrays["logs"].astype(np.bool_), arrays["centre"], arrays["deviations"])


def _logged(numbers: Floats, logs: NDArray[np.bool_]) -> Floats:
    return np.where(logs, np.sign(numbers) * np.log1p(np.abs(numbers)), numbers)
