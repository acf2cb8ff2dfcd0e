"""What a metric would be, told from calibrated predictions alone while labels are still to come.

Confidence-based performance estimation (CBPE): where predictions are true probabilities, each row says itself how
likely it is to count for or against the model (Kivimäki, Białek, Kuberski and Nurminen 2025, "Performance Estimation
in Binary Classification Using Calibrated Confidence", arXiv:2505.05295). It follows a change of the rows, and is blind
to a change of what they mean: a concept change leaves it unmoved, so an estimate alone never asks for a retraining.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.comparison import Metric

__all__ = ["Calibration", "calibrate", "expected_metric"]

Floats = NDArray[np.float64]

_FURTHEST = 1e-6  # a prediction nearer to 0 or 1 says no more than this
_STEPS, _ENOUGH = 50, 1e-10
_TINY = 1e-15  # as in registry.comparison: a certain and wrong prediction costs 35, not infinity


@dataclass(frozen=True)
class Calibration:
    """The line through log-odds that turns a prediction into the rate at which it comes true."""

    slope: float
    intercept: float

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows,) calibrated probabilities of 1.

        >>> Calibration(1.0, 0.0).probabilities(np.array([0.25])).round(6).tolist()
        [0.25]
        """
        return _sigmoid(self.slope * _log_odds(predictions) + self.intercept)


def calibrate(predictions: Floats, labels: Floats) -> Calibration:
    """Fit slope and intercept on rows that the model did not see, both classes among them.

    Newton's method on the log loss, each step halved until it gains, with Platt's softened targets so that separable
    rows still have a finite slope (Platt 1999, "Probabilistic Outputs for Support Vector Machines"; Lin,
    Lin and Weng 2007 for the steps).
    """
    positive = float(labels.sum())
    negative = len(labels) - positive
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = np.column_stack([_log_odds(predictions), np.ones(len(labels))])
    line = np.array([0.0, math.log((positive + 1) / (negative + 1))])
    loss = _loss(x @ line, target)
    for _ in range(_STEPS):
        p = _sigmoid(x @ line)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)  # equal predictions still have a solution
        step = np.linalg.solve(hessian, x.T @ (p - target))
        while (lower := _loss(x @ (line - step), target)) > loss and np.abs(step).max() > _ENOUGH:
            step = step / 2
        if np.abs(step).max() <= _ENOUGH or loss - lower <= _ENOUGH * loss:
            break
        line, loss = line - step, lower
    return Calibration(float(line[0]), float(line[1]))


def expected_metric(metric: Metric, predictions: Floats, probabilities: Floats) -> float:
    """The metric that `predictions` would reach if each label were drawn with its probability.

    Exact for log loss and Brier score. For ROC AUC and average precision it is the expected numerator over the expected
    denominator, off by a share of about 1 / rows. One sort, n log n.

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
    if metric == "log_loss":
        s = np.clip(predictions, _TINY, 1 - _TINY)
        return float(-np.mean(probabilities * np.log(s) + (1 - probabilities) * np.log1p(-s)))
    tie = np.unique(-predictions, return_inverse=True)[1]  # 0 is the highest prediction
    rows = np.bincount(tie)
    ones = np.bincount(tie, probabilities)
    uncertain = np.bincount(tie, probabilities * (1 - probabilities))  # variance of the number of ones in a tie
    if metric == "average_precision":
        # A tie of h ones among its rows adds h * (ones so far) / (rows so far); E[h * h] has the variance besides.
        return float(((ones * np.cumsum(ones) + uncertain) / np.cumsum(rows)).sum() / ones.sum())
    zeros = rows - ones
    below = zeros.sum() - np.cumsum(zeros)
    pairs = ones.sum() * zeros.sum() - uncertain.sum()  # no row makes a pair with itself
    in_order = (ones * below + (ones * zeros - uncertain) / 2).sum()
    return float(in_order / pairs) if pairs > 0 else math.nan


def _log_odds(predictions: Floats) -> Floats:
    p = np.clip(predictions, _FURTHEST, 1 - _FURTHEST)
    odds: Floats = np.log(p) - np.log1p(-p)
    return odds


def _sigmoid(x: Floats) -> Floats:
    p: Floats = 1 / (1 + np.exp(-x))
    return p


def _loss(x: Floats, target: Floats) -> float:
    """Sum of log losses of the log-odds `x`, without overflow."""
    return float((np.logaddexp(0, x) - target * x).sum())
