"""A kind of problem that Refit does not have: clusters of rows without labels, as an installed package would add it.

A model predicts how surprising each row is: the negative logarithm of its density under a mixture of round clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refit.metrics import Metric
from refit.metrics.formulas import OfSums
from refit.problems.unlabelled import Unlabelled


def surprise(points: np.ndarray, centres: np.ndarray, spread: float) -> np.ndarray:
    """(rows,) negative log-likelihood of points under equal, round Gaussian clusters; shapes (rows, d), (k, d)."""
    squares = ((points[:, None, :] - centres[None]) ** 2).sum(axis=2) / (2 * spread**2)
    nearest = squares.min(axis=1)
    mixture = np.exp(nearest[:, None] - squares).mean(axis=1)
    return nearest - np.log(mixture) + points.shape[1] * np.log(spread * np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class Clusters(Unlabelled):
    name: ClassVar[str] = "clusters"
    task: ClassVar[str] = "clusters"
    demand: ClassVar[str] = "not finite"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("surprise", "mean surprise", False, (-np.inf, np.inf)),)
    default_metric: ClassVar[str] = "surprise"

    def invalid_predictions(self, predicted: Any) -> Any:
        return ~np.isfinite(predicted)

    def naive(self, labels: Any, metric: str, rows: Any = None) -> dict[str, Any]:
        """One cluster around the mean."""
        points = np.column_stack([rows[name].to_numpy() for name in ("x", "y")])
        return {"centre": points.mean(axis=0).tolist(), "spread": float(points.std())}

    def guess(self, naive: Any, rows: int) -> Any:
        raise NotImplementedError("the guess needs the rows")

    def guess_for(self, table: Any, naive: Any) -> Any:
        points = np.column_stack([table[name].to_numpy() for name in ("x", "y")])
        return surprise(points, np.array([naive["centre"]]), naive["spread"])

    def formula(self, metric: str) -> OfSums:
        return {"surprise": OfSums(lambda _, p, __: (p, np.ones(len(p))), lambda sums: sums[0] / sums[1])}[metric]
