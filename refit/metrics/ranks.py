"""Ranking metrics, computed exactly on all rows and without each cluster, although they are not functions of sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.metrics.clusters import Clusters, Floats, LeftOut

__all__ = [
    "at_or_above",
    "average_precision",
    "average_precision_without",
    "roc_auc",
    "roc_auc_ovr",
    "roc_auc_ovr_without",
    "roc_auc_without",
]

Labels = NDArray[Any]

_MOST_GROUPS = 200  # average precision is computed again without each cluster; more clusters than this are merged


def at_or_above(labels: Labels, p: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The distinct predictions in descending order, and for each the number of positives and rows at or above it.

    >>> at_or_above(np.array([0, 1, 1]), np.array([0.2, 0.2, 0.7]))
    (array([0.7, 0.2]), array([1, 2]), array([1, 3]))
    """
    levels, rank = np.unique(-p, return_inverse=True)
    return -levels, np.cumsum(np.bincount(rank, labels).astype(np.int64)), np.cumsum(np.bincount(rank))


def roc_auc(labels: Labels, p: Floats) -> float:
    """Probability that a positive row ranks above a negative one, ties counting half; NaN if a class is missing.

    Equals the Mann-Whitney U statistic over the number of pairs (Hanley and McNeil 1982).

    >>> roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positive = int(np.sum(labels))
    negative = len(labels) - positive
    if not positive or not negative:
        return math.nan
    _, group, count = np.unique(p, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2  # ranks from 1, tied rows share the mean of theirs
    rank_sum = float(mean_rank[group][labels == 1].sum())
    return (rank_sum - positive * (positive + 1) / 2) / (positive * negative)


def average_precision(labels: Labels, p: Floats) -> float:
    """Mean precision over the recalls, a step for each distinct score; NaN without a positive row.

    >>> round(average_precision(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])), 4)
    0.8333
    """
    positive = np.sum(labels)
    if not positive:
        return math.nan
    _, hits, rows = at_or_above(labels, p)
    return float(np.sum(np.diff(hits, prepend=0.0) / positive * (hits / rows)))


def roc_auc_ovr(labels: Labels, p: Floats) -> float:
    """The mean ROC AUC of each class that occurs in the labels against the rest."""
    values = [roc_auc((labels == each).astype(np.float64), p[:, each]) for each in _present(labels)]
    return float(np.mean(values)) if values else math.nan


def roc_auc_ovr_without(labels: Labels, p: Floats, clusters: Clusters) -> LeftOut:
    """`roc_auc_ovr` on all rows and without each cluster."""
    of_classes = [roc_auc_without((labels == each).astype(np.int64), p[:, each], clusters) for each in _present(labels)]
    if not of_classes:
        return LeftOut(math.nan, np.full(clusters.count, math.nan), clusters.effective)
    without = np.mean([each.without for each in of_classes], axis=0)
    return LeftOut(float(np.mean([each.value for each in of_classes])), without, clusters.effective)


def _present(labels: Labels) -> Labels:
    return np.unique(labels[labels >= 0])


def roc_auc_without(labels: Labels, scores: Floats, clusters: Clusters) -> LeftOut:
    """The share of (positive, negative) pairs in the right order, ties counting half.

    Leaving out cluster g removes the pairs with a positive in g and those with a negative in g, which counts the pairs
    with both in g twice: U - row_g - column_g + within_g. With sorting all three sums take n log n, for any number of
    clusters.
    """
    positive, count = labels == 1, clusters.count
    of_positive, of_negative = clusters.codes[positive], clusters.codes[~positive]
    above, below = scores[positive], scores[~positive]
    row = np.bincount(of_positive, _halves_below(above, below), count)
    column = np.bincount(of_negative, 2 * len(above) - _halves_below(below, above), count)
    # Ranks are shifted by cluster: negatives of earlier clusters lie below every positive of later ones; subtract them.
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


def average_precision_without(labels: Labels, scores: Floats, clusters: Clusters) -> LeftOut:
    """Precision at each distinct score, weighted by the recall gained there (no interpolation)."""
    clusters = clusters.pooled(_MOST_GROUPS)
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
    hits_so_far, rows_so_far = np.cumsum(hits), np.cumsum(rows)
    return float((hits[gained] * (hits_so_far[gained] / rows_so_far[gained])).sum() / hits_so_far[-1])
