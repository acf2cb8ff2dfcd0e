"""Judges scores of anomalies without labels: by the volumes of their level sets, estimated by points for all models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.metrics.clusters import Clusters, LeftOut, leave_out_mean
from refit.metrics.row_cache import cached_by_rows

Floats = NDArray[np.float64]
Labels = NDArray[Any]

__all__ = ["MASSES", "ExcessMass", "MassVolume", "ReferencePoints", "log_volumes"]

POINTS, KERNELS = 16_000, 64
PARTS = 20  # of the points, for the error of an estimate
WIDTHS = (0.1, 0.3, 1.0, 3.0)  # of the kernels, in the columns' own spreads
EVEN = 0.2  # share of the values of scattered points that are drawn from the whole range
MARGIN = 0.05  # of the range of each column, on both sides
MASSES = (0.9, 0.999)  # shares of the rows whose level sets count, as Goix has them
LEVELS, SETS = 50, 500  # of the excess mass
FEWEST = 30.0  # effective points that have to lie where nine rows in ten do
MOST_GROUPS = 200  # the volume is computed again without each cluster; more clusters than this are merged
OWN_VOLUME = 1  # column of predictions: the log volume by a model's own points
VOLUME, LEVEL, EFFECTIVE, FIRST_PART = 3, 4, 5, 6  # columns that `ReferencePoints.judged` appends
OF_PARTS = slice(FIRST_PART, FIRST_PART + PARTS)


@dataclass(frozen=True)
class ReferencePoints:
    """Points in the range of some rows, by which the volumes of all models' level sets on these rows are estimated.

    Models that are compared get the same points, so that most of the error of their estimates is the same, and the rest
    of it is known. Source: Goix (2016), "How to evaluate the quality of unsupervised anomaly detection algorithms?".
    His points lie evenly in the range; rows of many columns, or with long tails, fill next to nothing of it, so these
    are drawn by importance: a third evenly, a third around rows, a third with each value near a row's, at a distance of
    its own, or anywhere.
    """

    points: Floats  # (points, columns)
    log_weights: Floats  # (points,) log of the volume that each stands for, in the units of the columns that vary
    level: float  # log of the density up to which excess mass is measured

    @classmethod
    def of(cls, numbers: Floats, seed: int = 0) -> ReferencePoints | None:
        """The points for (rows, columns) numbers, which may be nan; None if no column varies.

        A column of one value is no dimension: all points have it.
        """
        return _drawn(numbers, seed)

    def judged(self, predicted: Floats, of_points: Floats) -> Floats:
        """(rows, 6 + `PARTS`) predictions with what the metrics need of these points.

        After the problem's own parts come the log volume of what is no more anomalous than each row, the level, the
        effective number of points that lie where nine rows in ten do, and the log volumes without each part of the
        points.

        Args:
            predicted: (rows, 3) a model's predictions of the rows; the first is the score, higher is more anomalous.
            of_points: (points,) its scores of the points.
        """
        of_rows = predicted[:, 0]
        order = np.argsort(of_points, kind="stable")
        index = np.maximum(np.searchsorted(of_points[order], of_rows, side="right") - 1, 0)
        part = np.arange(len(order))[order] % PARTS
        weights = self.log_weights[order]
        volumes = [np.logaddexp.accumulate(weights)[index]]
        for each in range(PARTS):
            summed = np.logaddexp.accumulate(np.where(part == each, -np.inf, weights))
            lowest = summed[np.isfinite(summed)].min()
            volumes.append(np.maximum(summed, lowest)[index] + np.log(PARTS / (PARTS - 1)))
        inside = weights[: np.searchsorted(of_points[order], np.quantile(of_rows, MASSES[0]), side="right")]
        effective = np.exp(2 * np.logaddexp.reduce(inside) - np.logaddexp.reduce(2 * inside)) if len(inside) else 0.0
        constants = [np.full(len(of_rows), self.level), np.full(len(of_rows), effective)]
        return np.column_stack([predicted, volumes[0], *constants, *volumes[1:]])


@cached_by_rows
def _drawn(numbers: Floats, seed: int) -> ReferencePoints | None:
    filled = np.where(np.isnan(numbers).all(axis=0), 0.0, numbers)
    centre = np.nanmedian(filled, axis=0)
    whole = np.where(np.isnan(filled), centre, filled)
    ranges = np.ptp(whole, axis=0)
    varied = ranges > 0
    if not varied.any():
        return None
    low, high = np.quantile(whole[:, varied], [0.05, 0.95], axis=0)
    spread = np.where(high > low, high - low, ranges[varied])
    rows = (whole[:, varied] - centre[varied]) / spread
    scaled, log_weights = _proposed(rows, np.random.default_rng(seed))
    points = np.repeat(centre[None], len(scaled), axis=0)
    points[:, varied] = centre[varied] + scaled * spread
    log_weights = log_weights + np.log(spread).sum()
    level = _level(np.sqrt((scaled**2).sum(axis=1)), log_weights, np.sqrt((rows**2).sum(axis=1)))
    return ReferencePoints(points, log_weights, level)


def _proposed(rows: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Points around rows whose columns have alike spreads, and the log of the volume that each stands for."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    third, width = POINTS // 3, rows.shape[1]
    centres = rows[random.choice(len(rows), min(KERNELS, len(rows)), replace=False)]
    widths = np.array(WIDTHS)

    def around(each: NDArray[np.float64]) -> Floats:
        near = centres[random.integers(0, len(centres), third)]
        return np.asarray(near + random.normal(size=(third, width)) * each)

    even = random.uniform(low, high, (third, width))
    close = around(widths[random.integers(0, len(WIDTHS), (third, 1))])
    scattered = around(widths[random.integers(0, len(WIDTHS), (third, width))])
    anywhere = random.random((third, width)) < EVEN
    scattered[anywhere] = random.uniform(low, high, (third, width))[anywhere]
    drawn = np.vstack([even, close, scattered])
    drawn = drawn[((drawn >= low) & (drawn <= high)).all(axis=1)]
    log_density = np.empty(len(drawn))
    for start in range(0, len(drawn), 1_000):
        part = slice(start, start + 1_000)
        log_density[part] = _log_density(drawn[part], centres, high - low)
    return drawn, -log_density - np.log(3 * third)


def _log_density(points: Floats, centres: Floats, ranges: Floats) -> Floats:
    """(points,) log density of the three kinds of points together."""
    squares = (points[:, None] - centres[None]) ** 2
    width = points.shape[1]
    total = squares.sum(axis=2)
    kernels = [-total / (2 * each**2) - width * np.log(each * np.sqrt(2 * np.pi)) for each in WIDTHS]
    close = np.logaddexp.reduce(np.logaddexp.reduce(kernels, axis=0), axis=1) - np.log(len(WIDTHS) * len(centres))
    of_values = sum(np.exp(-squares / (2 * each**2)) / (each * np.sqrt(2 * np.pi)) for each in WIDTHS)
    of_values = (1 - EVEN) / len(WIDTHS) * of_values + EVEN / ranges
    scattered = np.logaddexp.reduce(np.log(of_values).sum(axis=2), axis=1) - np.log(len(centres))
    even = np.full(len(points), -np.log(ranges).sum())
    return np.asarray(np.logaddexp.reduce([even, close, scattered], axis=0) - np.log(3))


def _level(of_points: Floats, log_weights: Floats, of_rows: Floats) -> float:
    """Log of the density at which the distance to the middle has an excess mass of 0.9."""
    order = np.argsort(of_points, kind="stable")
    volumes = np.logaddexp.accumulate(log_weights[order])
    distances = np.sort(of_rows)
    index = np.maximum(np.searchsorted(of_points[order], distances, side="right") - 1, 0)
    above = np.arange(1, len(distances) + 1) / len(distances) - MASSES[0]
    return float((np.log(above[above > 0]) - volumes[index][above > 0]).max())


@dataclass(frozen=True)
class MassVolume:
    """The mean, over the shares of the rows in `MASSES`, of the log of the volume that holds each share.

    The logarithm makes the difference between two models independent of the units of the columns. Where no points were
    drawn, it is the mean of what each model says of its own volumes: no error is known of it.
    """

    def value(self, labels: Labels, predicted: Floats, threshold: float) -> float:
        own = log_volumes(predicted)
        return _mean_of_masses(np.sort(own)) if _judged(predicted) else float(own.mean())

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        value = self.value(labels, predicted, threshold)
        if not _judged(predicted):
            return replace(leave_out_mean(log_volumes(predicted), clusters), redrawn=np.full(PARTS, np.nan))
        groups = clusters.pooled(MOST_GROUPS)
        order = np.argsort(predicted[:, VOLUME], kind="stable")
        own, codes, parts = predicted[order, VOLUME], groups.codes[order], predicted[order][:, OF_PARTS]
        without = np.array([_mean_of_masses(own[codes != each]) for each in range(groups.count)])
        redrawn = np.array([_mean_of_masses(parts[:, each]) for each in range(PARTS)])
        return LeftOut(value, without, clusters.effective, _if_enough(redrawn, predicted))


@dataclass(frozen=True)
class ExcessMass:
    """The mean, over levels of density, of the share of rows in a set beyond what the level gives its volume.

    The set is the best level set of a model's score (the excess-mass curve), of at most `SETS`. Levels reach up to
    where the distance to the middle keeps 0.9, the same for all models. nan where no points were drawn.
    """

    def value(self, labels: Labels, predicted: Floats, threshold: float) -> float:
        if not _judged(predicted):
            return np.nan
        own = predicted[:, VOLUME]
        return float(_excess(_shares(own, np.zeros(len(own), dtype=np.int64), 1), _sets(predicted)[:, :1])[0])

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        if not _judged(predicted):
            return LeftOut(np.nan, np.full(clusters.count, np.nan), clusters.effective)
        groups, own, sets = clusters.pooled(MOST_GROUPS), predicted[:, VOLUME], _sets(predicted)
        whole = _shares(own, np.zeros(len(own), dtype=np.int64), 1)
        without = _excess(_shares(own, groups.codes, groups.count), sets[:, :1])
        redrawn = _if_enough(_excess(whole, sets[:, 1:]), predicted)
        return LeftOut(float(_excess(whole, sets[:, :1])[0]), without, clusters.effective, redrawn)


def log_volumes(predicted: Floats) -> Floats:
    """(rows,) log volume of what is no more anomalous than each row: by the common points, if there are any."""
    return np.asarray(predicted[:, VOLUME if _judged(predicted) else OWN_VOLUME])


def _judged(predicted: Floats) -> bool:
    return bool(predicted.shape[1] >= OF_PARTS.stop)


def _if_enough(redrawn: Floats, predicted: Floats) -> Floats:
    """Values without each part of the points; nan if too few lie where the rows do for their spread to mean much."""
    return redrawn if predicted[:, EFFECTIVE].min() >= FEWEST else np.full(len(redrawn), np.nan)


def _mean_of_masses(ascending: Floats) -> float:
    """The mean of the quantile function of some values over `MASSES`; nan without a value."""
    edges = np.clip(np.arange(len(ascending) + 1) / max(len(ascending), 1), *MASSES)
    return float(np.diff(edges) @ ascending / (MASSES[1] - MASSES[0])) if len(ascending) else np.nan


def _row_sample(rows: int) -> NDArray[np.int64]:
    """The places of the rows whose level sets are looked at, in the order of their volumes."""
    return np.unique(np.linspace(0, rows - 1, min(rows, SETS)).round().astype(np.int64))


def _sets(predicted: Floats) -> Floats:
    """(sets, 1 + parts) their volumes as multiples of one over the highest level, and those without each part."""
    order = np.argsort(predicted[:, VOLUME], kind="stable")[_row_sample(len(predicted))]
    volumes = np.column_stack([predicted[order, VOLUME], predicted[order][:, OF_PARTS]])
    return np.asarray(np.exp(volumes + predicted[order, LEVEL][:, None]))


def _shares(own: Floats, codes: NDArray[np.int64], count: int) -> Floats:
    """(groups, sets) the share of rows in each set, without each of several groups; of all rows if there is one."""
    ends = np.sort(own, kind="stable")[_row_sample(len(own))]
    inside = np.zeros((count, len(ends) + 1))
    np.add.at(inside, (codes, np.searchsorted(ends, own, side="left")), 1.0)
    inside = inside.cumsum(axis=1)
    left = inside if count == 1 else inside.sum(axis=0) - inside
    return np.asarray(left[:, :-1] / left[:, -1:])


def _excess(shares: Floats, volumes: Floats) -> Floats:
    """(groups or parts,) the mean excess mass for (groups, sets) shares of the rows and (sets, parts) volumes."""
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    each = [(shares - level * volumes.T).max(axis=1) for level in levels]
    return np.asarray(np.mean(each, axis=0))
