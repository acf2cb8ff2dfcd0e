"""Scores of a binary prediction, shared by train, evaluate and the gate so that one name always means one formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.errors import RefitError

Floats = NDArray[np.float64]

CLIP = 1e-15  # log loss of a certain and wrong prediction stays finite


def roc_auc(label: ArrayLike, p: ArrayLike) -> float:
    """Chance that a positive row is ranked above a negative one, ties counting half; NaN where a class is missing.

    Equals the Mann-Whitney U statistic over the number of pairs (Hanley and McNeil 1982).

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, score = _checked(label, p)
    positive = int(y.sum())
    negative = len(y) - positive
    if not positive or not negative:
        return float("nan")
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2  # ranks from 1, tied rows share the mean of theirs
    rank_sum = float(mean_rank[group][y == 1].sum())
    return (rank_sum - positive * (positive + 1) / 2) / (positive * negative)


def average_precision(label: ArrayLike, p: ArrayLike) -> float:
    """Mean precision over the recalls, a step for each distinct score; NaN without a positive row.

    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    y, score = _checked(label, p)
    positive = y.sum()
    if not positive:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(y[order])[last_of_tie]
    taken = np.arange(1, len(y) + 1)[last_of_tie]
    return float(np.sum(np.diff(found, prepend=0.0) / positive * (found / taken)))


def log_loss(label: ArrayLike, p: ArrayLike) -> float:
    """Mean negative log likelihood, in nats.

    >>> round(log_loss([0, 1], [0.5, 0.5]), 4)
    0.6931
    """
    y, q = _checked(label, p)
    q = np.clip(q, CLIP, 1 - CLIP)
    return float(-np.mean(np.where(y == 1, np.log(q), np.log1p(-q))))


def brier(label: ArrayLike, p: ArrayLike) -> float:
    """Mean squared difference of probability and outcome (Brier 1950, one class).

    >>> brier([0, 1], [0.5, 0.5])
    0.25
    """
    y, q = _checked(label, p)
    return float(np.mean((q - y) ** 2))


def accuracy(label: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> float:
    """Share of rows on the right side of the threshold (at the threshold counts as 1)."""
    y, q = _checked(label, p)
    return float(np.mean((q >= threshold) == (y == 1)))


def f1(label: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall at the threshold; 0 where nothing positive is there or is found."""
    y, q = _checked(label, p)
    called = q >= threshold
    hit = float(np.sum(called & (y == 1)))
    total = float(called.sum() + y.sum())
    return 2 * hit / total if total else 0.0


def calibration_error(label: ArrayLike, p: ArrayLike, bins: int = 10) -> float:
    """Mean distance of predicted and observed rate over bins of about equal count, weighted by rows.

    Equal predictions always share a bin, so the result does not depend on the order of rows.

    >>> calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
    0.0
    """
    y, q = _checked(label, p)
    inner = np.quantile(q, np.linspace(0, 1, bins + 1)[1:-1])
    bin_of = np.searchsorted(inner, q, side="left")
    gap = np.bincount(bin_of, weights=q - y, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def best_f1_threshold(label: ArrayLike, p: ArrayLike) -> float:
    """The score at and above which calling a row 1 gives the best F1; of equal ones the highest.

    Give it predictions for rows that the model did not see.

    >>> best_f1_threshold([0, 1, 0, 1], [0.1, 0.6, 0.2, 0.7])
    0.6
    """
    y, q = _checked(label, p)
    if not y.any():
        return 0.5
    order = np.argsort(-q, kind="stable")
    last_of_tie = np.append(np.diff(q[order]) != 0, True)
    hit = np.cumsum(y[order])[last_of_tie]
    called = np.arange(1, len(y) + 1)[last_of_tie]
    return float(q[order][last_of_tie][np.argmax(2 * hit / (called + y.sum()))])


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error", "latency_ms", "model_mb", "cost_per_1000"})


def gain(metric: str, new: float, old: float) -> float:
    """How much better `new` is than `old`, in units of the metric and positive where it is better.

    >>> gain("roc_auc", 0.75, 0.5), gain("log_loss", 0.5, 0.25)
    (0.25, -0.25)
    """
    return old - new if metric in LOWER_IS_BETTER else new - old


def scores(task: str, label: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> dict[str, float]:
    """Every score of the task; a score that the rows cannot give (one class only) is NaN.

    Args:
        label: (rows,) of 0 and 1.
        p: (rows,) probabilities of 1.

    Raises:
        RefitError: no rows, unequal lengths, a prediction that is not finite, or another task than "binary".
    """
    if task != "binary":
        raise RefitError(f"there are no scores for task {task!r}; 'binary' is the one known")
    return {
        "roc_auc": roc_auc(label, p),
        "average_precision": average_precision(label, p),
        "log_loss": log_loss(label, p),
        "brier": brier(label, p),
        "accuracy": accuracy(label, p, threshold),
        "f1": f1(label, p, threshold),
        "calibration_error": calibration_error(label, p),
    }


def _checked(label: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats]:
    y: NDArray[Any] = np.asarray(label, dtype=np.float64)
    score: NDArray[Any] = np.asarray(p, dtype=np.float64)
    if y.ndim != 1 or y.shape != score.shape or not len(y):
        raise RefitError(f"scores need as many predictions as labels, and one at least; found {score.shape}, {y.shape}")
    if not np.isfinite(score).all():
        raise RefitError(f"{int((~np.isfinite(score)).sum())} of {len(score)} predictions are not finite numbers")
    return y, score
