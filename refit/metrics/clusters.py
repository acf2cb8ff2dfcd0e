"""Clustered standard errors by the delete-one-cluster jackknife.

Rows of one day (or of another declared key) share weather, staffing and luck, so they are not independent: the unit
is the cluster. Every statistic is computed once with all rows and once without each cluster, and the spread of the
latter is the standard error (delete-one-cluster jackknife around the full estimate, "CV3" in MacKinnon, Nielsen and
Webb 2023, "Leverage, influence, and the jackknife in clustered regression models", Stata Journal 23(4)); bounds use
Student's t. Where the clusters are days, luck may also last from one to the next (`refit.metrics.serial_correlation`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refit.metrics.serial_correlation import DaysError, error_of_mean

Floats = NDArray[np.float64]

__all__ = ["Clusters", "Estimate", "LeftOut", "jackknife", "leave_out_mean", "sums_without"]


@dataclass(frozen=True)
class Estimate:
    """A number with its clustered standard error; `clusters` is the effective count (`Clusters.effective`).

    >>> Estimate(0.1, 0.02, 30.0).lower(0.05) < 0.1 < Estimate(0.1, 0.02, 30.0).upper(0.05)
    True
    """

    value: float
    standard_error: float  # of independent clusters
    clusters: float
    monte_carlo_error: float = 0.0  # the part of the standard error that comes from randomly drawn points, not rows
    days: DaysError | None = field(default=None, compare=False)  # the error if luck lasts over days; the bounds use it

    def lower(self, alpha: float) -> float:
        """The one-sided lower bound, wrong with probability `alpha`."""
        return self.value - self._reach(alpha)

    def upper(self, alpha: float) -> float:
        """The one-sided upper bound, wrong with probability `alpha`."""
        return self.value + self._reach(alpha)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided interval that holds the true value with probability `confidence`."""
        alpha = (1 - confidence) / 2
        return self.lower(alpha), self.upper(alpha)

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.standard_error) and self.clusters > 1

    def widening(self, alpha: float) -> float:
        """How many times as far from the value its bounds lie as they would if the clusters were independent."""
        independent = self._independent_reach(alpha)
        return self._reach(alpha) / independent if independent else 1.0

    def _reach(self, alpha: float) -> float:
        return self.days.reach(alpha) if self.days and self.finite else self._independent_reach(alpha)

    def _independent_reach(self, alpha: float) -> float:
        if not self.finite:
            return math.nan
        from scipy.special import stdtrit

        return float(stdtrit(self.clusters - 1, 1 - alpha)) * self.standard_error


@dataclass(frozen=True)
class Clusters:
    """Which cluster each row belongs to, as codes 0 to `count` - 1."""

    codes: NDArray[np.int64]
    count: int
    days: NDArray[np.int64] | Floats | None = None  # (count,) number of each one's day, ascending; None if not by day
    merged: bool = False  # whether a cluster holds several days, of which `days` has the mean

    @classmethod
    def of(cls, keys: ArrayLike) -> Clusters:
        """Clusters from any keys; missing keys (None, NaN, NaT, NA) form one cluster, distinct from any text.

        >>> Clusters.of(["a", None, "None", float("nan"), "a"]).codes
        array([1, 2, 0, 2, 1])
        """
        values = np.asarray(keys) if isinstance(keys, np.ndarray) else _array(keys)
        missing = _missing(values)
        names, codes = np.unique(values[~missing].astype(str), return_inverse=True)
        placed = np.full(len(values), len(names), dtype=np.int64)
        placed[~missing] = codes
        return cls(placed, len(names) + bool(missing.any()))

    @classmethod
    def by_day(cls, days: ArrayLike) -> Clusters:
        """One cluster a day, in order of time; a missing day is a cluster without a place in that order.

        >>> Clusters.by_day(np.array(["2024-03-01", "2024-02-28"], "datetime64[D]")).days
        array([19781, 19783])
        """
        dates = np.asarray(days, dtype="datetime64[D]")
        by_name = cls.of(dates)
        return by_name if np.isnat(dates).any() else replace(by_name, days=np.unique(dates).astype(np.int64))

    @classmethod
    def rows(cls, count: int) -> Clusters:
        """Every row is its own cluster: rows are treated as independent."""
        return cls(np.arange(count, dtype=np.int64), count)

    @property
    def effective(self) -> float:
        """Kish's effective number of clusters: the number of equally large clusters with the same information.

        >>> Clusters.of(["a", "a", "b", "b"]).effective
        2.0
        """
        sizes = np.bincount(self.codes, minlength=self.count).astype(float)
        return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(self.codes) else 0.0

    def only(self, rows: NDArray[Any]) -> Clusters:
        """The clusters of some of the rows."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        days = None if self.days is None else self.days[present]
        return Clusters(codes.astype(np.int64), len(present), days, self.merged)

    def pooled(self, most: int) -> Clusters:
        """The same rows with clusters merged into at most `most`; days stay in order, as stretches of equal length."""
        if self.count <= most:
            return self
        if self.days is None:
            return Clusters(self.codes % most, most)
        stretch = np.arange(self.count) * most // self.count
        days = np.bincount(stretch, self.days) / np.bincount(stretch)
        return Clusters(self.codes * most // self.count, most, days, merged=True)


def _array(keys: ArrayLike) -> NDArray[Any]:
    """Keys as an array that keeps None and NaN, which numpy turns into texts if one of the keys is a text."""
    values = np.asarray(keys)
    return np.asarray(keys, dtype=object) if values.dtype.kind in "US" else values


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(rows,) whether a key is None or, like NaN, NaT and NA, not equal to itself."""
    if values.dtype != object:
        return np.asarray(values != values, dtype=np.bool_)
    return np.array([value is None or not _is_itself(value) for value in values], dtype=np.bool_)


def _is_itself(value: Any) -> bool:
    same = value == value
    return isinstance(same, bool | np.bool_) and bool(same)


@dataclass(frozen=True)
class LeftOut:
    """A statistic on all rows, and without each cluster (or merged clusters)."""

    value: float
    without: NDArray[np.float64]
    clusters: float
    redrawn: NDArray[np.float64] | None = None  # without each part of the random points that it is estimated by, if any

    def minus(self, other: LeftOut, sign: float = 1.0) -> LeftOut:
        """The difference from another statistic of the same rows, clusters and points, times a sign."""
        value, without = sign * (self.value - other.value), sign * (self.without - other.without)
        redrawn = None if self.redrawn is None or other.redrawn is None else sign * (self.redrawn - other.redrawn)
        return LeftOut(value, without, self.clusters, redrawn)


def jackknife(left: LeftOut, clusters: Clusters | None = None) -> Estimate:
    """The estimate and standard error of a statistic known with all rows and without each cluster.

    Where random points estimate it, their error, by the jackknife over parts of them, is part of the standard error.

    Args:
        clusters: those of the rows; if they are days, the bounds allow for luck that lasts from one to the next.
    """
    error, count = _spread(left.without, left.value), len(left.without)
    ordered = None if clusters is None or count < 2 else clusters.pooled(count)
    with np.errstate(invalid="ignore"):
        values = (1 - count) * (left.without - left.value)
    days = None
    if ordered is not None and ordered.days is not None:
        days = error_of_mean(values, ordered.days, left.clusters, weekly=not ordered.merged)
    if left.redrawn is None:
        return Estimate(left.value, error, left.clusters, days=days)
    by_points = _spread(left.redrawn, left.value)
    if days is not None:
        days = replace(days, errors=np.hypot(days.errors, by_points))
    return Estimate(left.value, math.hypot(error, by_points), left.clusters, by_points, days)


def _spread(without: NDArray[np.float64], value: float) -> float:
    """The jackknife's standard error; nan if there is nothing to compare."""
    if (count := len(without)) < 2:
        return math.nan
    with np.errstate(invalid="ignore"):  # an infinite value, such as mape with a label of 0, has no error
        return math.sqrt((count - 1) / count * float(((without - value) ** 2).sum()))


def sums_without(columns: Sequence[NDArray[Any]], clusters: Clusters) -> tuple[Floats, Floats]:
    """The sums of columns over all rows (columns,), and over all rows without each cluster (columns, clusters)."""
    sums = np.array([np.bincount(clusters.codes, column, clusters.count) for column in columns], dtype=np.float64)
    whole = sums.sum(axis=1)
    return whole, whole[:, None] - sums


def leave_out_mean(values: Floats, clusters: Clusters) -> LeftOut:
    """The mean of a column on all rows and without each cluster; nan if that leaves no rows."""
    whole, without = sums_without([values, np.ones(len(values))], clusters)
    with np.errstate(divide="ignore", invalid="ignore"):
        return LeftOut(float(whole[0] / whole[1]), without[0] / without[1], clusters.effective)
