"""Estimates a metric from calibrated predictions alone, before labels are known.

Confidence-based performance estimation (CBPE): if predictions are calibrated probabilities, each one is the chance that
its row counts for or against the model (Kivimäki, Białek, Kuberski and Nurminen 2025, "Performance Estimation in Binary
Classification Using Calibrated Confidence", arXiv:2505.05295). The estimate reacts to covariate shift but not to
concept drift, so an estimate alone never asks for a retraining.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refit.metrics.formulas import TINY
from refit.problems.contract import HALF

__all__ = ["expected_metric"]

Floats = NDArray[np.float64]


def expected_metric(metric: str, predictions: Floats, probabilities: Floats) -> float:
    """The metric that `predictions` would reach if each label were drawn with its probability.

    Exact for log loss, Brier score and accuracy at .5. For ROC AUC and average precision it is the expected numerator
    over the expected denominator, off by a share of about 1 / rows. One sort, n log n.

    Args:
        predictions: (rows,) the model's own, which rank the rows.
        probabilities: (rows,) of 1, calibrated; equal for equal predictions.

    >>> p = np.array([0.2, 0.8])
    >>> round(expected_metric("brier", p, p), 6), round(expected_metric("roc_auc", p, p), 6)
    (0.16, 0.941176)
    """
    if not len(predictions):
        return math.nan
    if metric == "brier":
        return float(np.mean((predictions - probabilities) ** 2 + probabilities * (1 - probabilities)))
    if metric == "accuracy_at_half":
        return float(np.mean(np.where(predictions >= HALF, probabilities, 1 - probabilities)))
    if metric == "log_loss":
        s = np.clip(predictions, TINY, 1 - TINY)
        return float(-np.mean(probabilities * np.log(s) + (1 - probabilities) * np.log1p(-s)))
    tie = np.unique(-predictions, return_inverse=True)[1]  # 0 is the highest prediction
    rows = np.bincount(tie)
    ones = np.bincount(tie, probabilities)
    uncertain = np.bincount(tie, probabilities * (1 - probabilities))  # variance of the number of ones in a tie
    if metric == "average_precision":
        # A tie with h ones adds h * (ones so far) / (rows so far); E[h * h] is the squared mean plus the variance.
        return float(((ones * np.cumsum(ones) + uncertain) / np.cumsum(rows)).sum() / ones.sum())
    zeros = rows - ones
    below = zeros.sum() - np.cumsum(zeros)
    pairs = ones.sum() * zeros.sum() - uncertain.sum()  # a row does not form a pair with itself
    in_order = (ones * below + (ones * zeros - uncertain) / 2).sum()
    return float(in_order / pairs) if pairs > 0 else math.nan
