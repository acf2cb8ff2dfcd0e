"""Forecasts: what regression measures, and the error by horizon, compared with the season before."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refit.config.forecasting import HORIZON, series_of
from refit.evaluation.details import Measures, regression
from refit.evaluation.details.regression import RegressionDetails
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.metrics.formulas import symmetric_error
from refit.problems.regression import SEASONAL_NAIVE
from refit.schemas.artifact import Part
from refit.schemas.measured import Measured

Floats = NDArray[np.float64]


class ForecastErrors(Part):
    """Errors of candidate and seasonal naive forecast on some rows."""

    rows: int
    mae: Measured
    naive_mae: Measured
    saved: float | None  # share of the naive forecast's error that the candidate avoids
    mase: float | None
    smape: float | None


class HorizonErrors(ForecastErrors):
    """Errors some steps ahead."""

    horizon: int


class ForecastReport(Part):
    """Errors of all rows and of each horizon."""

    step: str | None
    season: int | None
    all: ForecastErrors
    horizons: tuple[HorizonErrors, ...]


class ForecastDetails(RegressionDetails):
    """What is measured of forecasts."""

    forecast: ForecastReport


def details(test: Holdout, scored: Scored, confidence: float) -> ForecastDetails:
    numbers = regression.details(test, scored, confidence)
    return ForecastDetails(**dict(numbers), forecast=by_horizon(test, scored, confidence))


def by_horizon(test: Holdout, scored: Scored, confidence: float) -> ForecastReport:
    """Errors of candidate and seasonal naive forecast, of all rows and of each horizon.

    Savings are of the rows with a seasonal naive forecast: there is none if the value one season ago is missing or not
    known yet.
    MASE is the error in units of the training error of the seasonal naive forecast of the same series (Hyndman and
    Koehler 2006, "Another look at measures of forecast accuracy", equation 9 with a season). It is undefined for a
    series that was not in training or never changed there.
    """
    forecast = test.forecast
    horizons = test.table.column(HORIZON).to_numpy()
    error = np.abs(test.labels - scored.p["candidate"])
    season = test.table.column(SEASONAL_NAIVE).to_numpy(zero_copy_only=False).astype(np.float64)
    naive, scaled = np.abs(test.labels - season), error / _scales(test)
    symmetric = symmetric_error(test.labels, scored.p["candidate"])

    def errors(rows: NDArray[np.int64]) -> ForecastErrors:
        comparable = rows[np.isfinite(naive[rows])]
        scalable = rows[np.isfinite(scaled[rows])]
        saved = 1 - error[comparable].sum() / naive[comparable].sum() if naive[comparable].any() else math.nan
        return ForecastErrors(
            rows=len(rows),
            mae=mean(error, rows),
            naive_mae=mean(naive, comparable),
            saved=tidy(saved),
            mase=tidy(scaled[scalable].mean()) if len(scalable) else None,
            smape=tidy(symmetric[rows].mean()),
        )

    def mean(values: Floats, rows: NDArray[np.int64]) -> Measured:
        if not len(rows):
            return Measured(value=None, lower=None, upper=None)
        return with_interval(jackknife(leave_out_mean(values[rows], test.sample.only(rows).clusters)), confidence)

    by_step = {int(horizon): errors(np.flatnonzero(horizons == horizon)) for horizon in np.unique(horizons)}
    return ForecastReport(
        step=forecast.step if forecast else None,
        season=forecast.season if forecast else None,
        all=errors(np.arange(test.rows)),
        horizons=tuple(HorizonErrors(horizon=horizon, **dict(each)) for horizon, each in by_step.items()),
    )


def _scales(test: Holdout) -> Floats:
    """Training error of the seasonal naive forecast of each row's series, shape (rows,); NaN if unknown."""
    if test.forecast is None:
        return np.full(test.rows, math.nan)
    names = series_of(test.table, test.forecast.series)
    return np.array([test.forecast.scales.get(name) or math.nan for name in names], dtype=np.float64)


MEASURES = Measures(details, regression.facts)
