"""Densities of Gaussian mixtures, for rows that may lack values: what a clustering says of how usual a row is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

__all__ = ["FLOOR", "Mixture"]

FLOOR = 1e-6  # added to each variance, in units of the features' own, as scikit-learn's mixtures do


@dataclass(frozen=True)
class Mixture:
    """A mixture of k Gaussians in d dimensions."""

    weights: Floats  # (k,)
    means: Floats  # (k, d)
    covariances: Floats  # (k, d, d)

    @classmethod
    def of_groups(cls, points: Floats, groups: NDArray[np.int64], count: int) -> Mixture:
        """The mixture that a division of points implies: each group with its share, mean and covariance.

        The covariance of a group is drawn towards the variances within all groups, by as many points as there are
        dimensions and one, so that a small group has a density too.

        Args:
            points: (rows, d) without nan.
            groups: (rows,) 0 to `count` - 1; each occurs.

        >>> points = np.array([[0.0], [2.0], [10.0], [12.0]])
        >>> Mixture.of_groups(points, np.array([0, 0, 1, 1]), 2).means.ravel().tolist()
        [1.0, 11.0]
        """
        sizes = np.bincount(groups, minlength=count).astype(np.float64)
        means = np.stack([points[groups == group].mean(axis=0) for group in range(count)])
        within = ((points - means[groups]) ** 2).mean(axis=0)
        dimensions = points.shape[1]
        covariances = np.empty((count, dimensions, dimensions))
        for group in range(count):
            apart = points[groups == group] - means[group]
            prior = dimensions + 1
            covariances[group] = (apart.T @ apart + prior * np.diag(within)) / (sizes[group] + prior)
            covariances[group] += FLOOR * np.eye(dimensions)
        return cls(sizes / sizes.sum(), means, covariances)

    def log_joint(self, points: Floats) -> Floats:
        """(rows, k) log of weight times density of each Gaussian; dimensions that are nan are integrated out."""
        joint = np.tile(np.log(self.weights), (len(points), 1))
        for known, rows in _patterns(points):
            if not known.any():
                continue
            part = points[rows][:, known]
            for group, mean in enumerate(self.means[:, known]):
                joint[rows, group] += _log_density(part - mean, self.covariances[group][np.ix_(known, known)])
        return joint

    def log_density(self, points: Floats) -> Floats:
        """(rows,) log of the density; 0 for a row of nan alone.

        >>> one = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
        >>> one.log_density(np.array([[0.0], [np.nan]])).round(4).tolist()
        [-0.9189, 0.0]
        """
        joint = self.log_joint(points)
        top = joint.max(axis=1)
        return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)))


def _patterns(points: Floats) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Each pattern of known dimensions, with its rows."""
    known = ~np.isnan(points)
    if known.all():
        yield known[0] if len(known) else np.zeros(0, dtype=np.bool_), np.arange(len(points))
        return
    patterns, codes = np.unique(known, axis=0, return_inverse=True)
    for code, pattern in enumerate(patterns):
        yield pattern, np.flatnonzero(codes.ravel() == code)


def _log_density(apart: Floats, covariance: Floats) -> Floats:
    """(rows,) log density of points, given apart from the mean."""
    from scipy.linalg import solve_triangular

    root = np.linalg.cholesky(covariance)
    white = solve_triangular(root, apart.T, lower=True)
    volume = np.log(np.diag(root)).sum() + apart.shape[1] / 2 * np.log(2 * np.pi)
    return np.asarray(-0.5 * (white**2).sum(axis=0) - volume, dtype=np.float64)
