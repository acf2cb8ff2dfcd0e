"""Evaluates predictions on held-out rows, with a clustered interval for every number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from refit.config import nearest
from refit.config.windows import local_days
from refit.errors import RefitError, UserError
from refit.gate.comparison import Sample, gain, leave_out
from refit.metrics.clusters import Clusters, Estimate, jackknife
from refit.plain_text import LAST_BITS
from refit.problems.binary import Binary
from refit.problems.contract import Problem
from refit.schemas.measured import Measured

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.schemas.feature_table import ForecastRows

Floats = NDArray[np.float64]
Labels = NDArray[Any]


@dataclass(frozen=True)
class Holdout:
    """The rows of the test window: features, labels and clusters."""

    table: pa.Table
    labels: Labels
    days: NDArray[np.datetime64]  # local day of each row
    sample: Sample
    problem: Problem = field(default_factory=Binary)
    forecast: ForecastRows | None = None

    @property
    def rows(self) -> int:
        return len(self.labels)


def holdout(table: pa.Table, zone: ZoneInfo, cluster: str, target: Problem) -> Holdout:
    """Build the holdout from the test rows of a feature table.

    Args:
        cluster: `day` (in `zone`), `row`, or a column of the table whose equal values form a cluster.

    Raises:
        RefitError: there is no row, or a label is invalid for the task.
        UserError: the cluster column does not exist.
    """
    if not table.num_rows:
        raise RefitError("the test window holds no labelled row; move --as-of, or check featurize.label")
    labels = target.labels(table.column("label"))
    if invalid := target.invalid_labels(labels):
        raise RefitError(f"the test window: {invalid}")
    days = local_days(table.column("event_time"), zone)
    if cluster == "day":
        clusters = Clusters.by_day(days)
    elif cluster == "row":
        clusters = Clusters.rows(table.num_rows)
    elif cluster in table.column_names:
        clusters = Clusters.of(np.asarray(table.column(cluster).to_pylist(), dtype=object))
    else:
        hint = nearest(cluster, table.column_names)
        raise UserError(f"params.yaml: evaluate.gate.cluster: no column {cluster!r}{hint}; `day` and `row` always work")
    return Holdout(table, labels, days, Sample(labels, clusters, target), target)


def measure(test: Holdout, p: Floats, threshold: float, confidence: float) -> dict[str, Measured]:
    """Each metric's value with a two-sided clustered interval; None if it is undefined."""
    return {
        metric.name: with_interval(
            jackknife(leave_out(metric.name, test.sample, p, threshold)), confidence, *metric.span
        )
        for metric in test.problem.metrics
    }


def gains(test: Holdout, ours: Floats, theirs: Floats, confidence: float) -> dict[str, Measured]:
    """The gain of `ours` over `theirs` in each comparable metric (positive is better), with two-sided intervals."""
    return {
        name: with_interval(gain(name, test.sample, ours, theirs), confidence, -math.inf)
        for name in test.problem.metric_names(comparable=True)
    }


def with_interval(estimate: Estimate, confidence: float, lowest: float = 0.0, highest: float = math.inf) -> Measured:
    """An estimate with its interval for a report: within the metric's range, None if not finite."""
    low, high = estimate.interval(confidence)
    lower, upper = (max(low, lowest), min(high, highest)) if estimate.finite else (low, high)
    return Measured(value=tidy(estimate.value), lower=tidy(lower), upper=tidy(upper))


def tidy(value: float) -> float | None:
    """A float for JSON: None if it is not finite, and without the last bits, which differ by machine.

    These are all but 12 significant digits, and what is left where numbers near 1 cancel.

    >>> tidy(0.1 + 0.2), tidy(0.1 + 0.2 - 0.3), tidy(2.5e-13), tidy(float("nan"))
    (0.3, 0.0, 2.5e-13, None)
    """
    if not math.isfinite(value):
        return None
    return float(f"{value:.12g}") if abs(value) > LAST_BITS else 0.0
