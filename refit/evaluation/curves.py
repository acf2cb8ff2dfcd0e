"""The points that plots of predictions are drawn from, computed once for PNG, CSV and the report alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.holdout import Holdout, tidy
from refit.metrics import scores
from refit.metrics.ranks import at_or_above

Floats = NDArray[np.float64]

MOST_POINTS = 200
HISTOGRAM_BINS = 40


def roc(labels: NDArray[np.int64], p: Floats) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), at most about 200 points.

    >>> roc(np.array([0, 1]), np.array([0.2, 0.8]))
    [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    """
    _, hits, called = at_or_above(labels, p)
    misses = called - hits
    return _thinned(np.append(0, misses) / max(misses[-1], 1), np.append(0, hits) / max(hits[-1], 1))


def precision_recall(labels: NDArray[np.int64], p: Floats) -> list[tuple[float, float]]:
    """(recall, precision), a step for each distinct prediction, at most about 200 points."""
    _, hits, called = at_or_above(labels, p)
    some = hits > 0
    return _thinned(hits[some] / max(hits[-1], 1), hits[some] / called[some])


def _thinned(x: Floats, y: Floats) -> list[tuple[float, float]]:
    """Points about equally far apart along x, the first and the last always."""
    if len(x) > MOST_POINTS:
        wanted = np.searchsorted(x, np.linspace(0, 1, MOST_POINTS) * x[-1])
        kept = np.unique(np.concatenate([[0], np.minimum(wanted, len(x) - 1), [len(x) - 1]]))
        x, y = x[kept], y[kept]
    return [(round(float(a), 6), round(float(b), 6)) for a, b in zip(x, y, strict=True)]


def histogram(labels: NDArray[np.int64], p: Floats) -> dict[str, list[float]]:
    """How many rows of each class have which prediction, in equal bins from 0 to 1."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    within = np.clip(p, 0, 1)
    return {
        "edges": [round(float(edge), 6) for edge in edges],
        "positive": np.histogram(within[labels == 1], edges)[0].tolist(),
        "negative": np.histogram(within[labels == 0], edges)[0].tolist(),
    }


def daily(test: Holdout, scored: Mapping[str, Floats], metric: str) -> list[dict[str, Any]]:
    """The metric of each model for each day of the test window; None on a day whose labels are all alike."""
    result = []
    for day in np.unique(test.days):
        rows = test.days == day
        labels = test.labels[rows]
        entry: dict[str, Any] = {"day": str(day), "rows": int(rows.sum())}
        for name, p in scored.items():
            value = (
                math.nan
                if test.target.constant_labels(labels)
                else scores.score(test.target.task, metric, labels, p[rows])
            )
            entry[name] = tidy(value)
        result.append(entry)
    return result
