"""Paired comparison of two models on the same rows: a gain without its error promotes an equal model half the time.

Rows of one day (or of another declared key) share weather, staffing and luck, so they are not independent: the unit
is the cluster. Every statistic is computed once with all rows and once without each cluster, and the spread of the
latter is the standard error (delete-one-cluster jackknife around the full estimate, "CV3" in MacKinnon, Nielsen and
Webb 2023, "Leverage, influence, and the jackknife in clustered regression models", Stata Journal 23(4)); bounds use
Student's t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "HIGHER_IS_BETTER",
    "Clusters",
    "Estimate",
    "LeftOut",
    "Metric",
    "Sample",
    "error_reduction",
    "gain",
    "jackknife",
    "leave_out",
    "leave_out_mean",
    "single",
]

Metric = Literal["roc_auc", "average_precision", "log_loss", "brier"]
HIGHER_IS_BETTER: dict[str, bool] = {"roc_auc": True, "average_precision": True, "log_loss": False, "brier": False}
_MOST_GROUPS = 200  # average precision is computed anew without each cluster; beyond this many they are pooled


@dataclass(frozen=True)
class Estimate:
    """A number with its clustered standard error; `clusters` is the effective count (`Clusters.effective`).

    >>> Estimate(0.1, 0.02, 30.0).lower(0.05) < 0.1 < Estimate(0.1, 0.02, 30.0).upper(0.05)
    True
    """

    value: float
    standard_error: float
    clusters: float

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

    def _reach(self, alpha: float) -> float:
        if not self.finite:
            return math.nan
        from scipy.special import stdtrit

        return float(stdtrit(self.clusters - 1, 1 - alpha)) * self.standard_error


@dataclass(frozen=True)
class Clusters:
    """Which cluster each row belongs to, as codes 0 to `count` - 1."""

    codes: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, keys: ArrayLike) -> Clusters:
        """Clusters from any key; missing ones (None, NaN, NaT) make one cluster together."""
        values, codes = np.unique(np.asarray(keys).astype(str), return_inverse=True)
        return cls(codes.astype(np.int64), len(values))

    @classmethod
    def rows(cls, count: int) -> Clusters:
        """Every row by itself: rows taken as independent."""
        return cls(np.arange(count, dtype=np.int64), count)

    @property
    def effective(self) -> float:
        """Kish's count: that of equally large clusters which would tell as much.

        >>> Clusters.of(["a", "a", "b", "b"]).effective
        2.0
        """
        sizes = np.bincount(self.codes, minlength=self.count).astype(float)
        return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(self.codes) else 0.0

    def pooled(self, most: int) -> Clusters:
        """The same with clusters put together, so that there are at most `most`."""
        return self if self.count <= most else Clusters(self.codes % most, most)


@dataclass(frozen=True)
class Sample:
    """Labels (0 or 1) of the rows that models are compared on, with their clusters."""

    labels: NDArray[np.int64]
    clusters: Clusters

    def only(self, rows: NDArray[Any]) -> Sample:
        """Some of the rows, with the clusters that they fall in."""
        _, codes = np.unique(self.clusters.codes[rows], return_inverse=True)
        return Sample(self.labels[rows], Clusters(codes.astype(np.int64), int(codes.max(initial=-1)) + 1))


@dataclass(frozen=True)
class LeftOut:
    """A statistic on all rows, and without each cluster (or group of clusters)."""

    value: float
    without: NDArray[np.float64]
    clusters: float


def gain(metric: Metric, sample: Sample, candidate: ArrayLike, opponent: ArrayLike) -> Estimate:
    """How much better `candidate` scores than `opponent` on the same rows: positive is better, whatever the metric.

    Not finite (nan) where the metric is undefined, with one class only for instance; nothing is raised.
    """
    ours, theirs = leave_out(metric, sample, candidate), leave_out(metric, sample, opponent)
    sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0
    return jackknife(LeftOut(sign * (ours.value - theirs.value), sign * (ours.without - theirs.without), ours.clusters))


def error_reduction(metric: Metric, sample: Sample, candidate: ArrayLike, opponent: ArrayLike) -> Estimate:
    """The share of the opponent's distance from a perfect metric that the candidate takes away: 1 is perfect, 0 equal.

    The distance is 1 - value where higher is better and the loss itself where lower is. A gain of 0.01 is little from a
    ROC AUC of 0.6 and half of all that is missing from one of 0.98. Not finite where the opponent is perfect already.
    """
    ours, theirs = leave_out(metric, sample, candidate), leave_out(metric, sample, opponent)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = 1 - _distance(metric, ours) / _distance(metric, theirs)
    shares = np.where(np.isfinite(shares), shares, np.nan)
    return jackknife(LeftOut(float(shares[0]), shares[1:], ours.clusters))


def _distance(metric: Metric, left: LeftOut) -> NDArray[np.float64]:
    """How far from perfect: with all rows first, then without each cluster."""
    values = np.concatenate([[left.value], left.without])
    return 1 - values if HIGHER_IS_BETTER[metric] else values


def single(metric: Metric, sample: Sample, scores: ArrayLike) -> Estimate:
    """One model's metric with its clustered standard error."""
    return jackknife(leave_out(metric, sample, scores))


def jackknife(left: LeftOut) -> Estimate:
    """The estimate and standard error of a statistic known with all rows and without each cluster."""
    count = len(left.without)
    if count < 2:
        return Estimate(left.value, math.nan, left.clusters)
    variance = (count - 1) / count * float(((left.without - left.value) ** 2).sum())
    return Estimate(left.value, math.sqrt(variance), left.clusters)


def leave_out(metric: Metric, sample: Sample, scores: ArrayLike) -> LeftOut:
    """The metric of `scores` (probabilities of 1) on all rows, and exactly without each cluster."""
    scores = np.asarray(scores, dtype=np.float64)
    clusters = sample.clusters
    if len(scores) != len(sample.labels):
        raise ValueError(f"{len(scores)} scores for {len(sample.labels)} labels")
    if not len(scores) or not np.isfinite(scores).all():
        return LeftOut(math.nan, np.full(clusters.count, math.nan), clusters.effective)
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "roc_auc":
            return _roc_auc(sample.labels, scores, clusters)
        if metric == "average_precision":
            return _average_precision(sample.labels, scores, clusters.pooled(_MOST_GROUPS))
        if metric == "log_loss":
            return leave_out_mean(_log_losses(sample.labels, scores), clusters)
        if metric == "brier":
            return leave_out_mean((scores - sample.labels.astype(np.float64)) ** 2, clusters)
    raise ValueError(f"metric {metric!r} is unknown; known are {', '.join(HIGHER_IS_BETTER)}")


def leave_out_mean(values: NDArray[np.float64], clusters: Clusters) -> LeftOut:
    """The mean of a column, on all rows and without each cluster; nan without a cluster that holds all rows."""
    sums = np.bincount(clusters.codes, values, clusters.count)
    sizes = np.bincount(clusters.codes, minlength=clusters.count)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = (sums.sum() - sums) / (len(values) - sizes)
        return LeftOut(float(sums.sum() / np.float64(len(values))), without, clusters.effective)


def _roc_auc(labels: NDArray[np.int64], scores: NDArray[np.float64], clusters: Clusters) -> LeftOut:
    """The share of (positive, negative) pairs in the right order, ties counting half.

    Leaving out cluster g takes away the pairs with a positive in g and those with a negative in g, which counts those
    with both in g twice: U - row_g - column_g + within_g. Sorting makes all three sums n log n, however many clusters.
    """
    positive, count = labels == 1, clusters.count
    of_positive, of_negative = clusters.codes[positive], clusters.codes[~positive]
    above, below = scores[positive], scores[~positive]
    row = np.bincount(of_positive, _halves_below(above, below), count)
    column = np.bincount(of_negative, 2 * len(above) - _halves_below(below, above), count)
    # Ranks shifted by cluster: negatives of earlier clusters lie below every positive of later ones; take them off.
    ranks = np.unique(scores, return_inverse=True)[1] + clusters.codes * (len(scores) + 1)
    positives, negatives = np.bincount(of_positive, minlength=count), np.bincount(of_negative, minlength=count)
    earlier = np.cumsum(negatives) - negatives
    inside = _halves_below(ranks[positive], ranks[~positive]) - 2 * earlier[of_positive]
    within = np.bincount(of_positive, inside, count)
    pairs = 2.0 * len(above) * len(below)
    pairs_without = 2.0 * (len(above) - positives) * (len(below) - negatives)
    value = float(np.float64(row.sum()) / pairs) if pairs else math.nan
    return LeftOut(value, (row.sum() - row - column + within) / pairs_without, clusters.effective)


def _halves_below(values: NDArray[Any], others: NDArray[Any]) -> NDArray[np.int64]:
    """For each value, twice the number of others below it plus the number equal to it."""
    ordered = np.sort(others)
    halves: NDArray[np.int64] = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return halves


def _average_precision(labels: NDArray[np.int64], scores: NDArray[np.float64], clusters: Clusters) -> LeftOut:
    """Precision at each distinct score, weighted by the recall gained there (no interpolation)."""
    rank = np.unique(-scores, return_inverse=True)[1]
    size = int(rank.max()) + 1
    rows = np.bincount(rank, minlength=size)
    hits = np.bincount(rank[labels == 1], minlength=size)
    without = np.empty(clusters.count)
    order = np.argsort(clusters.codes, kind="stable")
    starts = np.searchsorted(clusters.codes[order], np.arange(clusters.count + 1))
    for cluster in range(clusters.count):
        members = order[starts[cluster] : starts[cluster + 1]]
        gone = np.bincount(rank[members], minlength=size)
        gone_hits = np.bincount(rank[members][labels[members] == 1], minlength=size)
        without[cluster] = _step_area(hits - gone_hits, rows - gone)
    return LeftOut(_step_area(hits, rows), without, clusters.effective)


def _step_area(hits: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    gained = np.flatnonzero(hits)
    if not len(gained):
        return math.nan
    true, found = np.cumsum(hits), np.cumsum(rows)
    return float((hits[gained] * (true[gained] / found[gained])).sum() / true[-1])


def _log_losses(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    tiny = 1e-15  # a certain and wrong prediction costs 35, not infinity
    clipped = np.clip(scores, tiny, 1 - tiny)
    losses: NDArray[np.float64] = -np.where(labels == 1, np.log(clipped), np.log1p(-clipped))
    return losses
