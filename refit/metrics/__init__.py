"""Defines every metric once: its name, its tasks, its direction and its range.

Formulas are in `refit.metrics.formulas`, which needs numpy; reading params needs only the names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["DEFAULTS", "METRICS", "METRIC_WORDS", "Metric", "Span", "Task", "limits", "of_task"]

Task = Literal["binary", "multiclass", "regression"]
Span = tuple[float, float]

SHARE: Span = (0.0, 1.0)
LOSS: Span = (0.0, math.inf)
CORRELATION: Span = (-1.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """The properties of a metric, apart from its formulas."""

    name: str
    words: str
    higher_is_better: bool
    spans: Mapping[Task, Span] = field(
        default_factory=dict
    )  # range for each task; empty if it is not a metric of predictions
    own: frozenset[Task] = frozenset()  # tasks where it depends on a model's own threshold or bins: no comparison by it
    in_label_units: bool = False  # then no default margin fits every project

    @property
    def sign(self) -> float:
        """1 where higher is better, else -1."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def perfect(self) -> float:
        return 1.0 if self.higher_is_better else 0.0


_BINARY: frozenset[Task] = frozenset({"binary"})
_CLASSES: frozenset[Task] = frozenset({"binary", "multiclass"})
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", "ROC AUC", True, {"binary": SHARE}),
        Metric("average_precision", "average precision", True, {"binary": SHARE}),
        Metric("log_loss", "log loss", False, {"binary": LOSS, "multiclass": LOSS}),
        Metric("brier", "Brier score", False, {"binary": SHARE, "multiclass": (0.0, 2.0)}),
        Metric("accuracy", "accuracy", True, {"binary": SHARE, "multiclass": SHARE}, _BINARY),
        Metric("balanced_accuracy", "balanced accuracy", True, {"binary": SHARE, "multiclass": SHARE}, _BINARY),
        Metric("f1", "F1", True, {"binary": SHARE}, _BINARY),
        Metric("f1_macro", "macro F1", True, {"multiclass": SHARE}),
        Metric("mcc", "Matthews correlation", True, {"binary": CORRELATION, "multiclass": CORRELATION}, _BINARY),
        Metric("roc_auc_ovr", "mean ROC AUC of each class", True, {"multiclass": SHARE}),
        Metric("calibration_error", "calibration error", False, {"binary": SHARE, "multiclass": SHARE}, _CLASSES),
        Metric("mae", "mean absolute error", False, {"regression": LOSS}, in_label_units=True),
        Metric("rmse", "root mean squared error", False, {"regression": LOSS}, in_label_units=True),
        Metric("mape", "mean absolute error as a share of the label", False, {"regression": LOSS}),
        Metric("smape", "symmetric error share", False, {"regression": (0.0, 2.0)}),
        Metric("pinball", "pinball loss of the median", False, {"regression": LOSS}, in_label_units=True),
        Metric("r2", "R²", True, {"regression": (-math.inf, 1.0)}),
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
        comparable: only the metrics by which models are chosen and compared.

    >>> of_task("regression")
    ('mae', 'rmse', 'mape', 'smape', 'pinball', 'r2')
    >>> of_task("binary", comparable=True)
    ('roc_auc', 'average_precision', 'log_loss', 'brier')
    """
    names = (name for name, metric in METRICS.items() if task in metric.spans)
    return tuple(name for name in names if not (comparable and task in METRICS[name].own))


def limits(task: Task, *, higher_is_better: bool) -> tuple[str, ...]:
    """Metrics that may have a floor (higher is better) or a ceiling, including those of no task, such as latency."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.higher_is_better == higher_is_better and (task in metric.spans or not metric.spans)
    )
