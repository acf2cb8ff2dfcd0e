"""What seven simple detectors agree on: the best guess of which rows are anomalies where there is no label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.metrics import tails
from refit.metrics.row_cache import cached_by_rows
from refit.metrics.scaling import Scaling

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor

Floats = NDArray[np.float64]

__all__ = ["FEWEST", "Members", "agreed", "halves", "surprise_of_ranks"]

FEWEST = 20  # rows
MOST = 5_000  # rows that one half of the detectors is fitted to, and that it compares new rows with
NEIGHBOURS, TREES = 20, 100
NARROW = 50  # columns up to which a tree of rows finds neighbours, as of more it is slower than all distances
RIDGE = 1e-6  # of the covariance of standardised columns


@dataclass(frozen=True)
class Members:
    """Seven detectors of one family each, or nearly so, and what they say of rows that they were not fitted to.

    Distance to the mean, Mahalanobis distance, ECOD, COPOD, isolation forest, distance to the nearest rows, and local
    outlier factor. A row's surprise is the mean over them of the negative log of the share of other rows with such a
    score. Source: Aggarwal and Sathe (2015), "Theoretical Foundations and Algorithms for Outlier Ensembles".
    """

    mean: Floats
    precision: Floats  # inverse covariance
    ascending: Floats  # values of each column
    left: NDArray[np.bool_]  # whether the left tail of a column is the longer one
    forest: IsolationForest
    neighbours: LocalOutlierFactor
    reference: Floats  # (detectors, rows) ascending scores of the other half

    @classmethod
    def fitted(cls, rows: Floats, others: Floats, seed: int) -> Members:
        """The detectors of (rows, columns) standardised numbers, and the scores that they give to others."""
        from sklearn.ensemble import IsolationForest
        from sklearn.neighbors import LocalOutlierFactor

        covariance = np.atleast_2d(np.cov(rows, rowvar=False)) + RIDGE * np.eye(rows.shape[1])
        ascending, left = tails.learned(rows)
        forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(rows)
        count = min(NEIGHBOURS, len(rows) - 1)
        algorithm = "kd_tree" if rows.shape[1] <= NARROW else "brute"
        neighbours = LocalOutlierFactor(n_neighbors=count, novelty=True, algorithm=algorithm).fit(rows)
        precision = np.asarray(np.linalg.pinv(covariance), dtype=np.float64)
        members = cls(rows.mean(axis=0), precision, ascending, left, forest, neighbours, np.empty((0, 0)))
        return replace(members, reference=np.ascontiguousarray(np.sort(members.scores(others), axis=1)))

    def scores(self, points: Floats) -> Floats:
        """(detectors, rows) higher is more anomalous."""
        apart = points - self.mean
        surprises = tails.surprises(points, self.ascending, self.left)
        each = [
            np.sqrt((apart**2).sum(axis=1)),
            np.sqrt(np.maximum(_squares(apart, self.precision), 0.0)),
            tails.ecod(surprises),
            tails.copod(surprises),
            -self.forest.score_samples(points),
            self.neighbours.kneighbors(points)[0].mean(axis=1),
            -self.neighbours.score_samples(points),
        ]
        return np.asarray(each, dtype=np.float64)

    def surprise(self, points: Floats) -> Floats:
        """(rows,) the mean surprise of the detectors."""
        count = self.reference.shape[1]
        total = np.zeros(len(points))
        for own, others in zip(self.scores(points), self.reference, strict=True):
            below = (np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")) / 2
            total -= np.log((count - below + 1) / (count + 1))
        return total / len(self.reference)


def _squares(apart: Floats, precision: Floats) -> Floats:
    """(rows,) squared Mahalanobis distances; of many columns by a product, which is faster by far."""
    if apart.shape[1] <= NARROW:
        return np.asarray(np.einsum("ij,jk,ik->i", apart, precision, apart))
    return np.asarray(((apart @ precision) * apart).sum(axis=1))


def halves(rows: Floats, seed: int) -> tuple[tuple[Members, Members], NDArray[np.int64]]:
    """Detectors of each of two halves, drawn by chance, that know the other by its scores; and each row's half."""
    random = np.random.default_rng(seed)
    half = random.permutation(len(rows)) % 2
    first, second = (rows[random.permutation(np.flatnonzero(half == each))[:MOST]] for each in (0, 1))
    return (Members.fitted(first, second, seed), Members.fitted(second, first, seed)), half


def agreed(numbers: Floats) -> Floats:
    """(rows,) the surprise of each row by detectors of the other half of the rows; 0 for all if there are too few.

    Args:
        numbers: (rows, columns) which may be nan.
    """
    return _agreed(numbers, 0)


@cached_by_rows
def _agreed(numbers: Floats, seed: int) -> Floats:
    if len(numbers) < FEWEST:
        return np.zeros(len(numbers))
    rows = np.nan_to_num(Scaling.of(numbers).scaled(numbers), nan=0.0)
    members, half = halves(rows, seed)
    result = np.empty(len(rows))
    for each in (0, 1):
        result[half == each] = members[1 - each].surprise(rows[half == each])
    return result


def surprise_of_ranks(scores: Floats) -> Floats:
    """(rows,) the negative log of the share of rows with such a score, so that a correlation weighs the upper end.

    >>> surprise_of_ranks(np.array([3.0, 1.0, 2.0, 2.0])).round(2).tolist()
    [2.08, 0.13, 0.69, 0.69]
    """
    ascending = np.sort(scores)
    below = (np.searchsorted(ascending, scores, "left") + np.searchsorted(ascending, scores, "right")) / 2
    return np.asarray(-np.log((len(scores) - below) / len(scores)), dtype=np.float64)
