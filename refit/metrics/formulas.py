"""The formula of every metric, for each of its tasks.

Nearly all are functions of sums over rows, so a metric without a cluster is the same function of the sums minus the
cluster's sums. Ranking metrics are in `refit.metrics.ranks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refit.errors import RefitError
from refit.metrics import ranks
from refit.metrics.clusters import Clusters, Floats, LeftOut, sums_without
from refit.metrics.mass_volume import ExcessMass, MassVolume

__all__ = [
    "BINARY",
    "MULTICLASS",
    "REGRESSION",
    "RETURNS",
    "TINY",
    "Formula",
    "calibration_bins",
    "pinball",
    "symmetric_error",
]

Labels = NDArray[Any]  # 0 and 1, class codes (-1 for an unknown class), or numbers
Columns = Sequence[NDArray[Any]]  # one value for each row

TINY = 1e-15  # a certain and wrong prediction costs 35 nats, not infinity
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class OfSums:
    """A function of the sums of columns over rows.

    Predictions are probabilities of 1, (rows, classes) probabilities, or numbers; from `threshold` on they mean 1.
    """

    columns: Callable[[Labels, Floats, float], Columns]
    combine: Callable[[Floats], Any]  # (columns, ...) sums to (...) values

    def value(self, labels: Labels, predicted: Floats, threshold: float, weights: Floats | None = None) -> float:
        """The metric on all rows, each counted as often as its weight; nan or infinite if it is undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = self.columns(labels, predicted, threshold)
            weighted = columns if weights is None else [column * weights for column in columns]
            return float(self.combine(np.array([np.sum(column) for column in weighted], dtype=np.float64)))

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        """The metric on all rows, and without each cluster."""
        with np.errstate(divide="ignore", invalid="ignore"):
            whole, without = sums_without(self.columns(labels, predicted, threshold), clusters)
            return LeftOut(float(self.combine(whole)), self.combine(without), clusters.effective)


@dataclass(frozen=True)
class OfRanks:
    """A function of the order of predictions, with its own leave-out algorithm."""

    plain: Callable[[Labels, Floats], float]
    without: Callable[[Labels, Floats, Clusters], LeftOut]

    def value(self, labels: Labels, predicted: Floats, threshold: float) -> float:
        return self.plain(labels, predicted)

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.without(labels, predicted, clusters)


@dataclass(frozen=True)
class OfPart:
    """A formula of one of the numbers of each prediction."""

    inner: Formula
    column: int

    def value(self, labels: Labels, predicted: Floats, threshold: float) -> float:
        return self.inner.value(labels, predicted[:, self.column], threshold)

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        return self.inner.left_out(labels, predicted[:, self.column], threshold, clusters)


@dataclass(frozen=True)
class OfKnown:
    """A formula of the rows that have a label, where others have nan; nan without such a row."""

    inner: Formula

    def value(self, labels: Labels, predicted: Floats, threshold: float) -> float:
        rows = ~np.isnan(labels)
        return self.inner.value(labels[rows], predicted[rows], threshold) if rows.any() else np.nan

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        rows = ~np.isnan(labels)
        if rows.all():
            return self.inner.left_out(labels, predicted, threshold, clusters)
        if not rows.any():
            return LeftOut(np.nan, np.full(clusters.count, np.nan), 0.0)
        present, codes = np.unique(clusters.codes[rows], return_inverse=True)
        own = Clusters(codes.astype(np.int64), len(present))
        return self.inner.left_out(labels[rows], predicted[rows], threshold, own)


Formula = OfSums | OfRanks | OfPart | OfKnown | MassVolume | ExcessMass


def checked(label: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], Floats]:
    """Labels and predictions as arrays.

    Raises:
        RefitError: no rows, unequal lengths, or a prediction that is not finite.
    """
    y: NDArray[Any] = np.asarray(label)
    p: Floats = np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or len(y) != len(p) or not len(y):
        raise RefitError(f"scores need as many predictions as labels, and one at least; found {p.shape}, {y.shape}")
    if bad := int((~np.isfinite(p.reshape(len(p), -1))).any(axis=1).sum()):
        raise RefitError(f"{bad} of {len(p)} predictions are not finite numbers")
    return y, p


def calibration_bins(p: Floats) -> NDArray[np.int64]:
    """Bins of about equal count; equal predictions share a bin, so that the order of rows does not matter."""
    inner = np.quantile(p, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1])
    bins: NDArray[np.int64] = np.searchsorted(inner, p, side="left")
    return bins


def _mean(of: Callable[[Labels, Floats, float], NDArray[Any]]) -> OfSums:
    """The mean over rows of one column."""

    def columns(labels: Labels, predicted: Floats, threshold: float) -> Columns:
        return of(labels, predicted, threshold), np.ones(len(labels))

    return OfSums(columns, lambda sums: sums[0] / sums[1])


def _binary_log_loss(labels: Labels, p: Floats, _: float) -> Floats:
    clipped = np.clip(p, TINY, 1 - TINY)
    return -np.where(labels == 1, np.log(clipped), np.log1p(-clipped))


def _class_log_loss(labels: Labels, p: Floats, _: float) -> Floats:
    loss: Floats = -np.log(np.clip(_of_truth(labels, p), TINY, 1.0))
    return loss


def _class_brier(labels: Labels, p: Floats, _: float) -> Floats:
    """The squared distance over all classes, from 0 to 2 (Brier 1950)."""
    distance: Floats = (p**2).sum(axis=1) - 2 * _of_truth(labels, p) + 1
    return distance


def _of_truth(labels: Labels, p: Floats) -> Floats:
    """The predicted probability of the true class; 0 for a class that the model does not know."""
    return np.where(labels >= 0, p[np.arange(len(labels)), np.maximum(labels, 0)], 0.0)


def _calibration(labels: Labels, p: Floats, _: float) -> Columns:
    bins, gap = calibration_bins(p), p - labels
    return *(np.where(bins == each, gap, 0.0) for each in range(CALIBRATION_BINS)), np.ones(len(labels))


def _binned(sums: Floats) -> Any:
    return np.abs(sums[:-1]).sum(axis=0) / sums[-1]


def _class_calibration(labels: Labels, p: Floats, _: float) -> Columns:
    """Confidence and accuracy in bins of about equal count.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    return _calibration((p.argmax(axis=1) == labels).astype(np.int64), p.max(axis=1), _)


def _predicted_classes(labels: Labels, p: Floats, threshold: float) -> tuple[NDArray[Any], int]:
    """The predicted class of each row, and the number of classes."""
    return (p.argmax(axis=1), p.shape[1]) if p.ndim == 2 else ((p >= threshold).astype(np.int64), 2)


def _confusion(labels: Labels, p: Floats, threshold: float) -> Columns:
    """For each class the hits, then the rows of the class, then the rows predicted as it; and a column of ones."""
    predicted_classes, classes = _predicted_classes(labels, p, threshold)
    each = range(classes)
    return (
        *((labels == k) & (predicted_classes == k) for k in each),
        *(labels == k for k in each),
        *(predicted_classes == k for k in each),
        np.ones(len(labels)),
    )


def _counted(sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Hits, rows and predictions of each class, and the number of rows: the sums of `_confusion`."""
    classes = (len(sums) - 1) // 3
    return sums[:classes], sums[classes : 2 * classes], sums[2 * classes : -1], sums[-1]


def _f1(sums: Floats) -> Any:
    """Harmonic mean of precision and recall of class 1; 0 without positive labels and predictions."""
    hits, true, predicted, _ = _counted(sums)
    total = true[1] + predicted[1]
    return np.where(total > 0, 2 * hits[1] / total, 0.0)


def _f1_macro(sums: Floats) -> Any:
    """The mean F1 of the classes that occur in labels or predictions."""
    hits, true, predicted, _ = _counted(sums)
    total = true + predicted
    return np.where(total > 0, 2 * hits / total, 0.0).sum(axis=0) / (total > 0).sum(axis=0)


def _balanced_accuracy(sums: Floats) -> Any:
    """The mean recall of the classes that occur in the labels."""
    hits, true, _, _ = _counted(sums)
    return np.where(true > 0, hits / true, 0.0).sum(axis=0) / (true > 0).sum(axis=0)


def _mcc(sums: Floats) -> Any:
    """Matthews correlation coefficient in Gorodkin's form for any number of classes; 0 if predictions are constant."""
    hits, true, predicted, rows = _counted(sums)
    covariance = hits.sum(axis=0) * rows - (true * predicted).sum(axis=0)
    spread = (rows**2 - (predicted**2).sum(axis=0)) * (rows**2 - (true**2).sum(axis=0))
    return np.where(spread > 0, covariance / np.sqrt(spread), 0.0)


def _right(labels: Labels, p: Floats, threshold: float) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = _predicted_classes(labels, p, threshold)[0] == labels
    return right


def _squares(labels: Labels, p: Floats, _: float) -> Columns:
    """Squared errors, and the moments of the labels about their mean, to lose few digits."""
    centred = labels - np.mean(labels)
    return (p - labels) ** 2, centred, centred**2, np.ones(len(labels))


def symmetric_error(labels: Labels, p: Floats) -> Floats:
    """(rows,) error as a share of the mean of label and prediction: 0 to 2 (Makridakis 1993); 0 where both are 0.

    >>> symmetric_error(np.array([0.0, 1.0, 0.0]), np.array([0.0, 3.0, 5.0])).tolist()
    [0.0, 1.0, 2.0]
    """
    size = (np.abs(labels) + np.abs(p)) / 2
    return np.divide(np.abs(labels - p), size, out=np.zeros(len(labels)), where=size > 0)


def pinball(labels: Labels, p: Floats, level: float) -> Floats:
    """The pinball loss, minimised by the quantile of a level (Koenker and Bassett 1978); half the median's error."""
    return np.maximum(level * (labels - p), (level - 1) * (labels - p))


def _r2(sums: Floats) -> Any:
    errors, first, second, rows = sums
    return 1 - errors / (second - first**2 / rows)


BINARY: Mapping[str, Formula] = {
    "roc_auc": OfRanks(ranks.roc_auc, ranks.roc_auc_without),
    "average_precision": OfRanks(ranks.average_precision, ranks.average_precision_without),
    "log_loss": _mean(_binary_log_loss),
    "brier": _mean(lambda y, p, _: (p - y) ** 2),
    "accuracy": _mean(_right),
    "accuracy_at_half": _mean(lambda y, p, _: _right(y, p, 0.5)),
    "balanced_accuracy": OfSums(_confusion, _balanced_accuracy),
    "f1": OfSums(_confusion, _f1),
    "mcc": OfSums(_confusion, _mcc),
    "calibration_error": OfSums(_calibration, _binned),
}
MULTICLASS: Mapping[str, Formula] = {
    "log_loss": _mean(_class_log_loss),
    "brier": _mean(_class_brier),
    "accuracy": _mean(_right),
    "balanced_accuracy": OfSums(_confusion, _balanced_accuracy),
    "f1_macro": OfSums(_confusion, _f1_macro),
    "mcc": OfSums(_confusion, _mcc),
    "calibration_error": OfSums(_class_calibration, _binned),
    "roc_auc_ovr": OfRanks(ranks.roc_auc_ovr, ranks.roc_auc_ovr_without),
}
REGRESSION: Mapping[str, Formula] = {
    "mae": _mean(lambda y, p, _: np.abs(p - y)),
    "rmse": OfSums(_squares, lambda sums: np.sqrt(sums[0] / sums[-1])),
    "mape": _mean(lambda y, p, _: np.abs(p - y) / np.abs(y)),
    "smape": _mean(lambda y, p, _: symmetric_error(y, p)),
    "pinball": _mean(pinball),  # a regression has no threshold, so that argument is the quantile's level
    "r2": OfSums(_squares, _r2),
}


def _spread(sums: Floats) -> Any:
    """The standard deviation of numbers from their sum, the sum of their squares, and their count."""
    total, squares, count = sums
    return np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0))


RETURNS: Mapping[str, Formula] = {
    "mean_return": _mean(lambda _, p, __: p),
    "return_spread": OfSums(lambda _, p, __: (p, p**2, np.ones(len(p))), _spread),
}
