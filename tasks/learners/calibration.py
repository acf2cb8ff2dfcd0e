"""Makes probabilities come true: a curve from what a learner predicts to how often that came to be, on unseen rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Calibration", "Isotonic", "Sigmoid", "calibration_from", "fit_calibration", "fit_sigmoid", "log_odds"]

Floats = NDArray[np.float64]
Kind = Literal["sigmoid", "isotonic"]

_FURTHEST = 1e-6  # a prediction nearer to 0 or 1 says no more than this
_STEPS, _ENOUGH = 50, 1e-10


class Calibration(Protocol):
    """A never falling curve from predictions to probabilities."""

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows,) calibrated probabilities of 1."""

    def described(self) -> dict[str, Any]:
        """All of it, as JSON keeps it."""


@dataclass(frozen=True)
class Sigmoid:
    """The line through log-odds that turns a prediction into the rate at which it comes true."""

    slope: float
    intercept: float

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows,) calibrated probabilities of 1.

        >>> Sigmoid(1.0, 0.0).probabilities(np.array([0.25])).round(6).tolist()
        [0.25]
        """
        return _sigmoid(self.slope * log_odds(predictions) + self.intercept)

    def described(self) -> dict[str, Any]:
        return {"kind": "sigmoid", "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Isotonic:
    """Steps that never fall, joined by straight lines; beyond the first and the last it stays where they are."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows,) calibrated probabilities of 1.

        >>> Isotonic((0.0, 1.0), (0.2, 0.6)).probabilities(np.array([0.5])).round(6).tolist()
        [0.4]
        """
        p: Floats = np.interp(predictions, self.x, self.y)
        return p

    def described(self) -> dict[str, Any]:
        return {"kind": "isotonic", "x": list(self.x), "y": list(self.y)}


def fit_calibration(kind: Kind, predictions: Floats, labels: Floats) -> Calibration:
    """Learn how often predictions came true.

    Args:
        predictions: (rows,) of fits that had not seen these rows.
        labels: (rows,) 0 and 1, both among them.
    """
    if kind == "sigmoid":
        return fit_sigmoid(predictions, labels)
    from sklearn.isotonic import IsotonicRegression

    found = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(predictions, labels)
    return Isotonic(tuple(map(float, found.X_thresholds_)), tuple(map(float, found.y_thresholds_)))


def calibration_from(described: Mapping[str, Any]) -> Calibration:
    """What `described` gave; raises KeyError where it is anything else."""
    if described["kind"] == "sigmoid":
        return Sigmoid(float(described["slope"]), float(described["intercept"]))
    if described["kind"] != "isotonic":
        raise KeyError(f"calibration {described['kind']!r}")
    return Isotonic(tuple(map(float, described["x"])), tuple(map(float, described["y"])))


def fit_sigmoid(predictions: Floats, labels: Floats) -> Sigmoid:
    """Fit slope and intercept on rows that the model did not see, both classes among them.

    Newton's method on the log loss, each step halved until it gains, with Platt's softened targets so that separable
    rows still have a finite slope (Platt 1999, "Probabilistic Outputs for Support Vector Machines"; Lin,
    Lin and Weng 2007 for the steps).
    """
    positive = float(labels.sum())
    negative = len(labels) - positive
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = np.column_stack([log_odds(predictions), np.ones(len(labels))])
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
    return Sigmoid(float(line[0]), float(line[1]))


def log_odds(predictions: Floats) -> Floats:
    """Log-odds of probabilities; those nearer to 0 or 1 than a millionth count as that near."""
    p = np.clip(predictions, _FURTHEST, 1 - _FURTHEST)
    odds: Floats = np.log(p) - np.log1p(-p)
    return odds


def _sigmoid(x: Floats) -> Floats:
    p: Floats = 1 / (1 + np.exp(-x))
    return p


def _loss(x: Floats, target: Floats) -> float:
    """Sum of log losses of the log-odds `x`, without overflow."""
    return float((np.logaddexp(0, x) - target * x).sum())
