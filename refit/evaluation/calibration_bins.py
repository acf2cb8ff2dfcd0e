"""Calibration: mean predictions and observed means, in bins of about equal count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.evaluation.holdout import tidy, with_interval
from refit.gate.comparison import Sample
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.metrics.formulas import calibration_bins
from refit.schemas.artifact import Part, omitted
from refit.schemas.measured import Measured

Floats = NDArray[np.float64]


class ReliabilityBin(Part):
    """Rows with about the same prediction."""

    predicted: float | None
    observed: Measured
    rows: int
    error: Measured | None = omitted(None)  # the mean absolute error, of predicted numbers


class Reliability(Part):
    """Mean prediction and observed mean, overall and in bins."""

    bins: tuple[ReliabilityBin, ...]
    predicted: float | None
    observed: float | None

    @property
    def off_diagonal(self) -> str:
        """How many bins were predicted outside the interval of what was observed, as `2 of 10` or `none of 10`."""
        ends = [(each.predicted, each.observed.lower, each.observed.upper) for each in self.bins]
        measured = [(p, low, high) for p, low, high in ends if p is not None and low is not None and high is not None]
        return f"{sum(not low <= p <= high for p, low, high in measured) or 'none'} of {len(measured)}"


def reliability(
    sample: Sample,
    predicted: Floats,
    observed_values: NDArray[Any],
    confidence: float,
    span: tuple[float, float] = (0.0, 1.0),
) -> Reliability:
    """Mean prediction and observed mean, overall and in bins, with clustered intervals.

    Args:
        observed_values: (rows,) 0 or 1, or numbers.
        span: the smallest and the largest possible mean.
    """
    bins = []
    codes = calibration_bins(predicted)
    for each in np.unique(codes):
        rows = codes == each
        observed = jackknife(leave_out_mean(observed_values[rows].astype(np.float64), sample.only(rows).clusters))
        interval = with_interval(observed, confidence, *span)
        mean = tidy(predicted[rows].mean())
        bins.append(ReliabilityBin(predicted=mean, observed=interval, rows=int(rows.sum())))
    return Reliability(bins=tuple(bins), predicted=tidy(predicted.mean()), observed=tidy(observed_values.mean()))
