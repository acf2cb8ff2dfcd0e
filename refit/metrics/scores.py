"""Scores predictions with the same formulas that the gate uses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refit.errors import RefitError
from refit.metrics import METRICS, Task, of_task
from refit.metrics.formulas import formula
from refit.metrics.ranks import at_or_above

Floats = NDArray[np.float64]


def score(task: Task, metric: str, label: ArrayLike, predicted: ArrayLike, threshold: float = 0.5) -> float:
    """Compute one metric; NaN or infinite if it is undefined, such as the ROC AUC of one class only.

    Args:
        label: (rows,) of 0 and 1, class codes, or numbers.
        predicted: (rows,) probabilities of 1, (rows, classes) probabilities, or (rows,) numbers.
        threshold: probability from which a row is predicted as 1, in a binary task; for `pinball` the quantile's level.

    Raises:
        RefitError: no rows, unequal lengths, or a prediction that is not finite.

    >>> score("binary", "roc_auc", [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    >>> round(score("multiclass", "log_loss", [0, 1], [[0.5, 0.5], [0.5, 0.5]]), 4)
    0.6931
    >>> score("regression", "mae", [1, 2], [2, 4])
    1.5
    """
    y, p = _checked(label, predicted)
    return formula(metric, task).value(y, p, threshold)


def scores(task: Task, label: ArrayLike, predicted: ArrayLike, threshold: float = 0.5) -> dict[str, float]:
    """Compute every metric of the task.

    Raises:
        RefitError: no rows, unequal lengths, or a prediction that is not finite.
    """
    y, p = _checked(label, predicted)
    return {name: formula(name, task).value(y, p, threshold) for name in of_task(task)}


def best_f1_threshold(label: ArrayLike, p: ArrayLike) -> float:
    """The highest threshold with the best F1.

    Use predictions for rows that the model did not see.

    >>> best_f1_threshold([0, 1, 0, 1], [0.1, 0.6, 0.2, 0.7])
    0.6
    """
    y, q = _checked(label, p)
    if not y.any():
        return 0.5
    levels, hits, rows = at_or_above(y, q)
    return float(levels[np.argmax(2 * hits / (rows + y.sum()))])


def gain(metric: str, new: float, old: float) -> float:
    """How much better `new` is than `old`, in units of the metric; positive is better.

    >>> gain("roc_auc", 0.75, 0.5), gain("log_loss", 0.5, 0.25)
    (0.25, -0.25)
    """
    return METRICS[metric].sign * (new - old)


def _checked(label: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], Floats]:
    y: NDArray[Any] = np.asarray(label)
    p: Floats = np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or len(y) != len(p) or not len(y):
        raise RefitError(f"scores need as many predictions as labels, and one at least; found {p.shape}, {y.shape}")
    if not np.isfinite(p).all():
        raise RefitError(f"{int((~np.isfinite(p)).sum())} of {len(p)} predictions are not finite numbers")
    return y, p
