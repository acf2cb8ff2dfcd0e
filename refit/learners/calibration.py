"""Calibrates probabilities: a curve from predictions to observed frequencies, fitted on unseen rows."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refit.schemas.postprocessing import ClassCurves, IsotonicCurve, SigmoidCurve, StoredCalibration, TemperatureScale

__all__ = [
    "Calibration",
    "EachClass",
    "Isotonic",
    "Sigmoid",
    "Temperature",
    "calibration_from",
    "fit_calibration",
    "fit_sigmoid",
    "fit_temperature",
    "log_odds",
]

Floats = NDArray[np.float64]
Kind = Literal["sigmoid", "isotonic"]

_FURTHEST = 1e-6  # predictions nearer to 0 or 1 are clipped to this distance
_STEPS, _ENOUGH = 50, 1e-10
_POWERS = (0.01, 100.0)  # bounds of the search for a temperature


class Sigmoid(SigmoidCurve):
    """Platt scaling: a linear function of the log-odds."""

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows,) calibrated probabilities of 1.

        >>> Sigmoid(slope=1.0, intercept=0.0).probabilities(np.array([0.25])).round(6).tolist()
        [0.25]
        """
        return _sigmoid(self.slope * log_odds(predictions) + self.intercept)


class Isotonic(IsotonicCurve):
    """A non-decreasing piecewise linear curve, constant beyond its first and last point."""

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows,) calibrated probabilities of 1.

        >>> Isotonic(x=(0.0, 1.0), y=(0.2, 0.6)).probabilities(np.array([0.5])).round(6).tolist()
        [0.4]
        """
        p: Floats = np.interp(predictions, self.x, self.y)
        return p


class Temperature(TemperatureScale):
    """Temperature scaling: one power for the probabilities of all classes. The predicted class never changes."""

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows, classes) calibrated probabilities.

        >>> Temperature(power=0.5).probabilities(np.array([[0.8, 0.2]])).round(3).tolist()
        [[0.667, 0.333]]
        """
        scores = self.power * _logs(predictions)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        return _normalised(p)


class EachClass(ClassCurves):
    """One curve for each class against all others; rows are normalised to sum 1."""

    def probabilities(self, predictions: Floats) -> Floats:
        """(rows, classes) calibrated probabilities."""
        curves = enumerate(zip(self.x, self.y, strict=True))
        return _normalised(np.column_stack([np.interp(predictions[:, index], x, y) for index, (x, y) in curves]))


Calibration = Sigmoid | Isotonic | Temperature | EachClass


def fit_calibration(kind: Kind, predictions: Floats, labels: Floats) -> Calibration:
    """Fit a calibration to out-of-fold predictions.

    Args:
        predictions: (rows,) or (rows, classes), by fits that did not see these rows.
        labels: (rows,) 0 and 1, with both present; or class codes.
    """
    if predictions.ndim == 1:
        return fit_sigmoid(predictions, labels) if kind == "sigmoid" else _fit_isotonic(predictions, labels, 0.0)
    if kind == "sigmoid":
        return fit_temperature(predictions, labels.astype(np.int64))
    rarest = 1 / (len(labels) + 2)  # so that no class gets probability 0 from the rows of one calibration
    classes = range(predictions.shape[1])
    curves = [_fit_isotonic(predictions[:, each], (labels == each).astype(np.float64), rarest) for each in classes]
    return EachClass(x=tuple(curve.x for curve in curves), y=tuple(curve.y for curve in curves))


def _fit_isotonic(predictions: Floats, labels: Floats, least: float) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=least, y_max=1.0, out_of_bounds="clip").fit(predictions, labels)
    return Isotonic(x=tuple(map(float, fitted.X_thresholds_)), y=tuple(map(float, fitted.y_thresholds_)))


def calibration_from(stored: StoredCalibration) -> Calibration:
    """The calibration with these parameters."""
    kinds: dict[str, type[Calibration]]
    kinds = {"sigmoid": Sigmoid, "isotonic": Isotonic, "temperature": Temperature, "isotonic by class": EachClass}
    return kinds[stored.kind](**dict(stored))


def fit_sigmoid(predictions: Floats, labels: Floats) -> Sigmoid:
    """Fit slope and intercept on rows that the model did not see, with both classes present.

    Newton's method on the log loss, with each step halved until the loss falls, and with Platt's softened targets, so
    that separable rows still give a finite slope (Platt 1999, "Probabilistic Outputs for Support Vector Machines"; Lin,
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
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)  # solvable for equal predictions too
        step = np.linalg.solve(hessian, x.T @ (p - target))
        while (lower := _loss(x @ (line - step), target)) > loss and np.abs(step).max() > _ENOUGH:
            step = step / 2
        if np.abs(step).max() <= _ENOUGH or loss - lower <= _ENOUGH * loss:
            break
        line, loss = line - step, lower
    return Sigmoid(slope=float(line[0]), intercept=float(line[1]))


def fit_temperature(predictions: Floats, labels: NDArray[np.int64]) -> Temperature:
    """Fit the power that minimises the log loss on unseen rows.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. The loss is convex in the power, so
    bisection on its slope finds the minimum; separable rows give the largest power.
    """
    scores = _logs(predictions)
    of_truth = scores[np.arange(len(labels)), labels].sum()
    low, high = _POWERS
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        expected = (Temperature(power=middle).probabilities(predictions) * scores).sum()
        low, high = (middle, high) if expected < of_truth else (low, middle)
    return Temperature(power=math.sqrt(low * high))


def log_odds(predictions: Floats) -> Floats:
    """Log-odds of probabilities, clipped to a millionth from 0 and 1."""
    p = np.clip(predictions, _FURTHEST, 1 - _FURTHEST)
    odds: Floats = np.log(p) - np.log1p(-p)
    return odds


def _logs(p: Floats) -> Floats:
    logs: Floats = np.log(np.clip(p, _FURTHEST, 1.0))
    return logs


def _normalised(p: Floats) -> Floats:
    shares: Floats = p / p.sum(axis=1, keepdims=True)
    return shares


def _sigmoid(x: Floats) -> Floats:
    p: Floats = 1 / (1 + np.exp(-x))
    return p


def _loss(x: Floats, target: Floats) -> float:
    """Sum of log losses of the log-odds `x`, without overflow."""
    return float((np.logaddexp(0, x) - target * x).sum())
