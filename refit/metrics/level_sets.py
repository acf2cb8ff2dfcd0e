"""Volumes of the level sets of a score: how well an anomaly detector does is seen without labels by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

__all__ = ["Volumes", "ball", "proposal"]

POINTS, KERNELS = 8_000, 400
WIDTHS = (0.1, 0.3, 1.0, 3.0)  # of the kernels, in standard deviations of the columns
MARGIN = 0.05  # of the range of each column, on both sides
AT_ONCE = 4_000_000  # numbers that lie between points and centres at a time


@dataclass(frozen=True)
class Volumes:
    """The volume of the points that are no more anomalous than a score, in the units of the columns.

    The lower the volume that holds a share of the rows, the better a score tells usual rows from all that there could
    be: the mass-volume curve. The mean of its logarithm over all shares is the mean over rows of `log_of`. Source:
    Goix (2016), "How to evaluate the quality of unsupervised anomaly detection algorithms?"; the volumes are estimated
    by importance sampling, as evenly spread points would hardly ever hit where most rows lie.
    """

    scores: Floats  # (n,) of the points, ascending
    log_volumes: Floats  # (n,) log of the volume of the points up to each

    @classmethod
    def of(cls, scores: Floats, log_weights: Floats, log_unit: float) -> Volumes:
        """The volumes by the scores of the points of a `proposal`.

        Args:
            log_unit: log of the volume of a cube of side 1 in the proposal's own units.
        """
        order = np.argsort(scores, kind="stable")
        return cls(scores[order], np.logaddexp.accumulate(log_weights[order]) + log_unit)

    def log_of(self, scores: Floats) -> Floats:
        """(rows,) log of the volume of what is no more anomalous than each score; never less than the smallest."""
        index = np.searchsorted(self.scores, scores, side="right") - 1
        return np.asarray(self.log_volumes[np.maximum(index, 0)], dtype=np.float64)


def proposal(points: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """Points to estimate volumes by, and the log of the volume that each stands for.

    Half of them are spread evenly over the range of the given ones, half lie near them, at several distances. A column
    without range counts as a point: the volume is that of the other columns.

    Args:
        points: (rows, d), on a scale on which columns vary alike.
    """
    random = np.random.default_rng(seed)
    every, varied = points, np.ptp(points, axis=0) > 0
    points = points[:, varied]
    width = points.shape[1]
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    centres = points[random.choice(len(points), min(KERNELS, len(points)), replace=False)]
    even = random.uniform(low, high, (POINTS // 2, width))
    near = POINTS - len(even)
    widths = np.array(WIDTHS)[random.integers(0, len(WIDTHS), near)]
    close = centres[random.integers(0, len(centres), near)] + random.normal(size=(near, width)) * widths[:, None]
    drawn = np.vstack([even, close])
    drawn = drawn[((drawn >= low) & (drawn <= high)).all(axis=1)]
    log_even = np.log(0.5) - np.log(high - low).sum()
    log_density = np.full(len(drawn), log_even)
    count = max(1, AT_ONCE // (len(centres) * max(width, 1)))
    for start in range(0, len(drawn), count):
        part = slice(start, start + count)
        squares = ((drawn[part, None, :] - centres[None]) ** 2).sum(axis=2)
        for each in WIDTHS:
            exponents = -squares / (2 * each**2)
            top = exponents.max(axis=1)
            log_kernel = top + np.log(np.exp(exponents - top[:, None]).mean(axis=1))
            log_kernel += np.log(0.5 / len(WIDTHS)) - width * np.log(each * np.sqrt(2 * np.pi))
            log_density[part] = np.logaddexp(log_density[part], log_kernel)
    whole = np.repeat(every[:1], len(drawn), axis=0)
    whole[:, varied] = drawn
    return whole, -log_density - np.log(POINTS)


def ball(radius: Floats, dimensions: int) -> Floats:
    """Log of the volume of balls.

    >>> np.exp(ball(np.array([1.0, 2.0]), 2)).round(4).tolist()
    [3.1416, 12.5664]
    """
    from math import lgamma, log, pi

    unit = dimensions / 2 * log(pi) - lgamma(dimensions / 2 + 1)
    return np.asarray(unit + dimensions * np.log(np.maximum(radius, 1e-12)), dtype=np.float64)
