"""Every metric said once: its name and words, the tasks that it judges, which way is better, and its formula.

Nearly all are functions of sums over rows, so that a metric without a cluster is the same function of the sums less
the cluster's own. What is ranked is in `registry.metrics.ranks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from registry.metrics import ranks
from registry.metrics.clusters import Clusters, Floats, LeftOut, sums_without

__all__ = ["DEFAULTS", "METRICS", "METRIC_WORDS", "Metric", "Task", "calibration_bins", "limits", "of_task"]

Task = Literal["binary", "multiclass", "regression"]
Labels = NDArray[Any]  # 0 and 1, codes of classes (-1: none of them), or numbers
Columns = Sequence[NDArray[Any]]  # one value for each row

TINY = 1e-15  # a certain and wrong prediction costs 35 nats, not infinity
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class OfSums:
    """A function of the sums of columns over rows.

    Predictions are probabilities of 1, (rows, classes) probabilities, or numbers; from `threshold` on a row is 1.
    """

    columns: Callable[[Labels, Floats, float], Columns]
    combine: Callable[[Floats], Any]  # (columns, ...) sums to (...) values
    span: tuple[float, float] = (0.0, math.inf)
    by_threshold: bool = False

    def value(self, labels: Labels, predicted: Floats, threshold: float) -> float:
        """The metric on all rows; nan or infinite where they cannot give it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = np.array([np.sum(column) for column in self.columns(labels, predicted, threshold)], dtype=np.float64)
            return float(self.combine(sums))

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        """The metric on all rows, and without each cluster."""
        with np.errstate(divide="ignore", invalid="ignore"):
            whole, without = sums_without(self.columns(labels, predicted, threshold), clusters)
            return LeftOut(float(self.combine(whole)), self.combine(without), clusters.effective)


@dataclass(frozen=True)
class OfRanks:
    """A function of the order of predictions, with its own way to leave clusters out."""

    plain: Callable[[Labels, Floats], float]
    without: Callable[[Labels, Floats, Clusters], LeftOut]
    span: tuple[float, float] = (0.0, 1.0)
    by_threshold: bool = False

    def value(self, labels: Labels, predicted: Floats, threshold: float) -> float:
        return self.plain(labels, predicted)

    def left_out(self, labels: Labels, predicted: Floats, threshold: float, clusters: Clusters) -> LeftOut:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.without(labels, predicted, clusters)


Form = OfSums | OfRanks


@dataclass(frozen=True)
class Metric:
    """What is known of a metric besides its formulas."""

    name: str
    words: str
    higher_is_better: bool
    forms: Mapping[Task, Form] = field(default_factory=dict)  # none: not of predictions and labels
    in_label_units: bool = False  # so that no margin fits every project

    @property
    def sign(self) -> float:
        """1 where higher is better, else -1."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def perfect(self) -> float:
        return 1.0 if self.higher_is_better else 0.0

    def form(self, task: Task) -> Form:
        """Its formula for a task.

        Raises:
            ValueError: it does not judge that task.
        """
        if task not in self.forms:
            known = ", ".join(of_task(task))
            raise ValueError(f"metric {self.name!r} is not for task {task!r}; its metrics are {known}")
        return self.forms[task]


def calibration_bins(p: Floats) -> NDArray[np.int64]:
    """Bins of about equal count, equal predictions together, so that the order of rows changes nothing."""
    inner = np.quantile(p, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1])
    bins: NDArray[np.int64] = np.searchsorted(inner, p, side="left")
    return bins


def _mean(of: Callable[[Labels, Floats, float], NDArray[Any]], *span: float, by_threshold: bool = False) -> OfSums:
    """The mean over rows of one column."""

    def columns(labels: Labels, predicted: Floats, threshold: float) -> Columns:
        return of(labels, predicted, threshold), np.ones(len(labels))

    return OfSums(columns, lambda sums: sums[0] / sums[1], (span[0], span[1]), by_threshold)


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
    """The probability given to what came true; 0 for a class that the model does not know."""
    return np.where(labels >= 0, p[np.arange(len(labels)), np.maximum(labels, 0)], 0.0)


def _calibration(labels: Labels, p: Floats, _: float) -> Columns:
    bins, gap = calibration_bins(p), p - labels
    return *(np.where(bins == each, gap, 0.0) for each in range(CALIBRATION_BINS)), np.ones(len(labels))


def _called(labels: Labels, p: Floats, threshold: float) -> tuple[NDArray[Any], int]:
    """The class that each row is called, and how many classes there are."""
    return (p.argmax(axis=1), p.shape[1]) if p.ndim == 2 else ((p >= threshold).astype(np.int64), 2)


def _confusion(labels: Labels, p: Floats, threshold: float) -> Columns:
    """Of each class the hits, then the rows that are of it, then those that are called it."""
    called, classes = _called(labels, p, threshold)
    each = range(classes)
    return (
        *((labels == k) & (called == k) for k in each),
        *(labels == k for k in each),
        *(called == k for k in each),
        np.ones(len(labels)),
    )


def _counted(sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Hits, rows of each class, calls of each class, and all rows: the sums of `_confusion`."""
    classes = (len(sums) - 1) // 3
    return sums[:classes], sums[classes : 2 * classes], sums[2 * classes : -1], sums[-1]


def _f1(sums: Floats) -> Any:
    """Harmonic mean of precision and recall of 1; 0 where nothing positive is there or is found."""
    hits, true, called, _ = _counted(sums)
    total = true[1] + called[1]
    return np.where(total > 0, 2 * hits[1] / total, 0.0)


def _f1_macro(sums: Floats) -> Any:
    """The mean F1 of the classes that are there or are called."""
    hits, true, called, _ = _counted(sums)
    total = true + called
    return np.where(total > 0, 2 * hits / total, 0.0).sum(axis=0) / (total > 0).sum(axis=0)


def _balanced_accuracy(sums: Floats) -> Any:
    """The mean share of hits among the rows of each class that is there."""
    hits, true, _, _ = _counted(sums)
    return np.where(true > 0, hits / true, 0.0).sum(axis=0) / (true > 0).sum(axis=0)


def _mcc(sums: Floats) -> Any:
    """Matthews correlation coefficient, in Gorodkin's form for any number of classes; 0 where all calls are alike."""
    hits, true, called, rows = _counted(sums)
    covariance = hits.sum(axis=0) * rows - (true * called).sum(axis=0)
    spread = (rows**2 - (called**2).sum(axis=0)) * (rows**2 - (true**2).sum(axis=0))
    return np.where(spread > 0, covariance / np.sqrt(spread), 0.0)


def _right(labels: Labels, p: Floats, threshold: float) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = _called(labels, p, threshold)[0] == labels
    return right


def _squares(labels: Labels, p: Floats, _: float) -> Columns:
    """Squared errors, and the moments of the labels about a number near their mean, where few digits are lost."""
    centred = labels - np.mean(labels)
    return (p - labels) ** 2, centred, centred**2, np.ones(len(labels))


def _r2(sums: Floats) -> Any:
    errors, first, second, rows = sums
    return 1 - errors / (second - first**2 / rows)


_ROC_AUC = OfRanks(ranks.roc_auc, ranks.roc_auc_without)
_AVERAGE_PRECISION = OfRanks(ranks.average_precision, ranks.average_precision_without)
_UNBOUNDED = (0.0, math.inf)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", "ROC AUC", True, {"binary": _ROC_AUC}),
        Metric("average_precision", "average precision", True, {"binary": _AVERAGE_PRECISION}),
        Metric(
            "log_loss",
            "log loss",
            False,
            {"binary": _mean(_binary_log_loss, *_UNBOUNDED), "multiclass": _mean(_class_log_loss, *_UNBOUNDED)},
        ),
        Metric(
            "brier",
            "Brier score",
            False,
            {"binary": _mean(lambda y, p, _: (p - y) ** 2, 0.0, 1.0), "multiclass": _mean(_class_brier, 0.0, 2.0)},
        ),
        Metric(
            "accuracy",
            "accuracy",
            True,
            {"binary": _mean(_right, 0.0, 1.0, by_threshold=True), "multiclass": _mean(_right, 0.0, 1.0)},
        ),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            True,
            {
                "binary": OfSums(_confusion, _balanced_accuracy, (0.0, 1.0), by_threshold=True),
                "multiclass": OfSums(_confusion, _balanced_accuracy, (0.0, 1.0)),
            },
        ),
        Metric("f1", "F1", True, {"binary": OfSums(_confusion, _f1, (0.0, 1.0), by_threshold=True)}),
        Metric("f1_macro", "macro F1", True, {"multiclass": OfSums(_confusion, _f1_macro, (0.0, 1.0))}),
        Metric(
            "mcc",
            "Matthews correlation",
            True,
            {
                "binary": OfSums(_confusion, _mcc, (-1.0, 1.0), by_threshold=True),
                "multiclass": OfSums(_confusion, _mcc, (-1.0, 1.0)),
            },
        ),
        Metric(
            "roc_auc_ovr",
            "mean ROC AUC of each class",
            True,
            {"multiclass": OfRanks(ranks.roc_auc_ovr, ranks.roc_auc_ovr_without)},
        ),
        Metric(
            "calibration_error",
            "calibration error",
            False,
            {"binary": OfSums(_calibration, lambda sums: np.abs(sums[:-1]).sum(axis=0) / sums[-1], (0.0, 1.0))},
        ),
        Metric(
            "mae",
            "mean absolute error",
            False,
            {"regression": _mean(lambda y, p, _: np.abs(p - y), *_UNBOUNDED)},
            in_label_units=True,
        ),
        Metric(
            "rmse",
            "root mean squared error",
            False,
            {"regression": OfSums(_squares, lambda sums: np.sqrt(sums[0] / sums[-1]))},
            in_label_units=True,
        ),
        Metric(
            "mape",
            "mean absolute error as a share of the label",
            False,
            {"regression": _mean(lambda y, p, _: np.abs(p - y) / np.abs(y), *_UNBOUNDED)},
        ),
        Metric("r2", "R²", True, {"regression": OfSums(_squares, _r2, (-math.inf, 1.0))}),
        Metric("latency_ms", "latency in ms", False),
        Metric("model_mb", "model size in MB", False),
        Metric("cost_per_1000", "cost of 1,000 predictions", False),
        Metric("error_reduction", "error reduction", True),
    )
}
METRIC_WORDS = {name: metric.words for name, metric in METRICS.items()}
DEFAULTS: dict[Task, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}


def of_task(task: Task, *, comparable: bool = False) -> tuple[str, ...]:
    """Names of the metrics of a task.

    Args:
        comparable: only those that models are chosen and compared by. They need no threshold, which each model sets
            for itself, and no bins, which follow each model's own predictions.

    >>> of_task("regression")
    ('mae', 'rmse', 'mape', 'r2')
    >>> of_task("binary", comparable=True)
    ('roc_auc', 'average_precision', 'log_loss', 'brier')
    """
    names = [name for name, metric in METRICS.items() if task in metric.forms]
    if comparable:
        names = [name for name in names if not METRICS[name].forms[task].by_threshold and name != "calibration_error"]
    return tuple(names)


def limits(task: Task, *, higher_is_better: bool) -> tuple[str, ...]:
    """Names that a floor (higher is better) or a ceiling may be set on, those of no task, such as latency, included."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.higher_is_better == higher_is_better and (task in metric.forms or not metric.forms)
    )
