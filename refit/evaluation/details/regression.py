"""Regression: predicted against actual, residuals, error by size of the prediction, and prediction intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from refit.evaluation import interval_coverage
from refit.evaluation.calibration_bins import Reliability, reliability
from refit.evaluation.details import Measures
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.schemas.artifact import Part
from refit.schemas.evaluation import Details, Facts
from refit.schemas.interval_report import IntervalReport

Floats = NDArray[np.float64]

MOST_POINTS = 400  # drawn rows, evenly spread over the window
HISTOGRAM_BINS = 40
MIDDLE = 0.98  # share of the residuals in the range of the histogram; the rest is in its outermost bins


class RegressionFacts(Facts):
    """Mean and standard deviation of the labels, and the mean prediction."""

    model_config = ConfigDict(extra="forbid")

    mean: float | None
    std: float | None
    predicted: float | None


class Residuals(Part):
    """Histogram of actual minus predicted values, in equal bins."""

    edges: tuple[float | None, ...]
    rows: tuple[int, ...]
    mean: float | None
    quantiles: Mapping[str, float | None]


class RegressionDetails(Details):
    """What is measured of predicted numbers."""

    model_config = ConfigDict(extra="forbid")

    points: tuple[tuple[float | None, float | None], ...]  # predicted and actual
    residuals: Residuals
    by_size: Reliability
    intervals: IntervalReport | None


def facts(labels: NDArray[Any], predicted: Floats) -> RegressionFacts:
    return RegressionFacts(mean=tidy(labels.mean()), std=tidy(labels.std()), predicted=tidy(predicted.mean()))


def details(test: Holdout, scored: Scored, confidence: float) -> RegressionDetails:
    candidate = scored.p["candidate"]
    rows = np.unique(np.linspace(0, test.rows - 1, min(MOST_POINTS, test.rows)).astype(np.int64))
    return RegressionDetails(
        points=tuple((tidy(candidate[row]), tidy(test.labels[row])) for row in rows),
        residuals=residuals(test.labels - candidate),
        by_size=by_size(test, candidate, confidence),
        intervals=interval_coverage.interval_report(test, scored, confidence),
    )


def residuals(left: Floats) -> Residuals:
    """Histogram of actual minus predicted values, in equal bins."""
    low, high = np.quantile(left, [(1 - MIDDLE) / 2, (1 + MIDDLE) / 2])
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    return Residuals(
        edges=tuple(tidy(edge) for edge in edges),
        rows=tuple(np.histogram(np.clip(left, low, high), edges)[0].tolist()),
        mean=tidy(left.mean()),
        quantiles={str(q): tidy(np.quantile(left, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
    )


def by_size(test: Holdout, predicted: Floats, confidence: float) -> Reliability:
    """Mean prediction, mean label and mean absolute error, in bins of about equal count."""
    whole = reliability(test.sample, predicted, test.labels, confidence, (-np.inf, np.inf))
    error = np.abs(test.labels - predicted)
    ends, bins = np.cumsum([each.rows for each in whole.bins]), []
    for each, rows in zip(whole.bins, np.split(np.argsort(predicted, kind="stable"), ends[:-1]), strict=True):
        mean = jackknife(leave_out_mean(error[rows], test.sample.only(rows).clusters))
        bins.append(each.model_copy(update={"error": with_interval(mean, confidence)}))
    return whole.model_copy(update={"bins": tuple(bins)})


MEASURES = Measures(details, facts)
