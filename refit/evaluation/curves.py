"""Computes the points of plots of predictions, once for PNG, CSV and the report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.holdout import Holdout, tidy
from refit.metrics.ranks import at_or_above
from refit.schemas.artifact import Part
from refit.schemas.evaluation import DailyScores

Floats = NDArray[np.float64]

MOST_POINTS = 200
HISTOGRAM_BINS = 40
MOST_THRESHOLDS = 60  # spread evenly over the rows, and as many over the positive rows

CurvePoints = tuple[tuple[float, float], ...]
CountsAt = tuple[float, int, int]  # a threshold, and the positive and negative rows at or above it


class ScoreHistogram(Part):
    """Counts of predictions by class, in equal bins from 0 to 1."""

    edges: tuple[float, ...]
    positive: tuple[int, ...]
    negative: tuple[int, ...]


def roc(labels: NDArray[np.int64], p: Floats) -> CurvePoints:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), at most about 200 points.

    >>> roc(np.array([0, 1]), np.array([0.2, 0.8]))
    ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    """
    _, hits, counts = at_or_above(labels, p)
    misses = counts - hits
    return _thinned(np.append(0, misses) / max(misses[-1], 1), np.append(0, hits) / max(hits[-1], 1))


def precision_recall(labels: NDArray[np.int64], p: Floats) -> CurvePoints:
    """(recall, precision), a step for each distinct prediction, at most about 200 points."""
    _, hits, counts = at_or_above(labels, p)
    some = hits > 0
    return _thinned(hits[some] / max(hits[-1], 1), hits[some] / counts[some])


def at_thresholds(labels: NDArray[np.int64], p: Floats, own: float) -> tuple[CountsAt, ...]:
    """How many rows of each class lie at or above thresholds of many sizes, ascending; `own` is one of them.

    >>> at_thresholds(np.array([0, 1, 1]), np.array([0.2, 0.3, 0.7]), 0.5)
    ((0.2, 2, 1), (0.3, 2, 0), (0.5, 1, 0), (0.7, 1, 0))
    """
    levels, hits, counts = at_or_above(labels, p)
    shares = np.linspace(0, 1, MOST_THRESHOLDS)
    indices = {int(np.searchsorted(each, share * each[-1])) for each in (hits, counts) for share in shares}
    thresholds = sorted({own, *(float(levels[index]) for index in indices)})
    above = np.searchsorted(-levels, [-each for each in thresholds], side="right")
    hits, counts = np.append(0, hits), np.append(0, counts)
    return tuple(zip(thresholds, hits[above].tolist(), (counts - hits)[above].tolist(), strict=True))


def _thinned(x: Floats, y: Floats) -> CurvePoints:
    """Keep points at about equal distances along x, always with the first and the last."""
    if len(x) > MOST_POINTS:
        wanted = np.searchsorted(x, np.linspace(0, 1, MOST_POINTS) * x[-1])
        indices = np.unique(np.concatenate([[0], np.minimum(wanted, len(x) - 1), [len(x) - 1]]))
        x, y = x[indices], y[indices]
    return tuple((round(float(a), 6), round(float(b), 6)) for a, b in zip(x, y, strict=True))


def histogram(labels: NDArray[np.int64], p: Floats) -> ScoreHistogram:
    """Counts of predictions by class, in equal bins from 0 to 1."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    within = np.clip(p, 0, 1)
    return ScoreHistogram(
        edges=tuple(round(float(edge), 6) for edge in edges),
        positive=tuple(np.histogram(within[labels == 1], edges)[0].tolist()),
        negative=tuple(np.histogram(within[labels == 0], edges)[0].tolist()),
    )


def daily(test: Holdout, scored: Mapping[str, Floats], metric: str) -> tuple[DailyScores, ...]:
    """The metric of each model for each day of the test window; None on a day whose labels are constant."""
    result = []
    for day in np.unique(test.days):
        rows = test.days == day
        labels = test.labels[rows]
        undefined = test.problem.constant_labels(labels)
        scores = {
            name: None if undefined else tidy(test.problem.score(metric, labels, p[rows])) for name, p in scored.items()
        }
        result.append(DailyScores(day=str(day), rows=int(rows.sum()), scores=scores))
    return tuple(result)
