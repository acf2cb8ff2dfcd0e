"""Report on forecasts, in addition to that on numbers: error by horizon, compared with the season before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.config.forecasting import HORIZON, series_of
from refit.evaluation.holdout import Holdout, tidy, with_interval
from refit.evaluation.scored import Scored
from refit.metrics.clusters import jackknife, leave_out_mean
from refit.metrics.formulas import symmetric_error
from refit.problems.regression import SEASONAL_NAIVE
from refit.reports.drawing import COLOURS, FULL, bounds, chart, dots, intervals, legend, new_figure, write_csv
from refit.reports.model_card.by_task import Report, regression

Floats = NDArray[np.float64]


def measured(test: Holdout, scored: Scored, confidence: float) -> Report:
    return {**regression.measured(test, scored, confidence), "forecast": by_horizon(test, scored, confidence)}


def by_horizon(test: Holdout, scored: Scored, confidence: float) -> Report:
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

    def tell(rows: NDArray[np.int64]) -> Report:
        comparable = rows[np.isfinite(naive[rows])]
        scalable = rows[np.isfinite(scaled[rows])]
        return {
            "rows": len(rows),
            "mae": mean(error, rows),
            "naive_mae": mean(naive, comparable),
            "saved": tidy(1 - error[comparable].sum() / naive[comparable].sum()) if naive[comparable].any() else None,
            "mase": tidy(scaled[scalable].mean()) if len(scalable) else None,
            "smape": tidy(symmetric[rows].mean()),
        }

    def mean(values: Floats, rows: NDArray[np.int64]) -> dict[str, float | None]:
        if not len(rows):
            return dict.fromkeys(("value", "lower", "upper"))
        return with_interval(jackknife(leave_out_mean(values[rows], test.sample.only(rows).clusters)), confidence)

    each = [{"horizon": int(h), **tell(np.flatnonzero(horizons == h))} for h in np.unique(horizons)]
    return {
        "step": forecast.step if forecast else None,
        "season": forecast.season if forecast else None,
        "all": tell(np.arange(test.rows)),
        "horizons": each,
    }


def _scales(test: Holdout) -> Floats:
    """Training error of the seasonal naive forecast of each row's series, shape (rows,); NaN if unknown."""
    if test.forecast is None:
        return np.full(test.rows, math.nan)
    names = series_of(test.table, test.forecast.series)
    return np.array([test.forecast.scales.get(name) or math.nan for name in names], dtype=np.float64)


def tables(folder: Path, evaluation: Report) -> None:
    regression.VIEW.tables(folder, evaluation)
    rows = (
        (each["horizon"], each["mae"]["value"], each["naive_mae"]["value"], each["mase"], each["smape"], each["rows"])
        for each in evaluation["forecast"]["horizons"]
    )
    write_csv(folder / "horizons.csv", ("horizon", "mae", "seasonal_naive_mae", "mase", "smape", "rows"), rows)


@chart("horizons", "The error of each horizon, with intervals.")
def error_by_horizon(evaluation: Report) -> Any:
    figure, axes = new_figure("The error by how far ahead", (FULL, 3.4))
    horizons = evaluation["forecast"]["horizons"]
    for name, what, label in (("baseline", "naive_mae", "the season before"), ("candidate", "mae", "candidate")):
        known = [(each["horizon"], each[what]) for each in horizons if each[what]["value"] is not None]
        x, measured = [horizon for horizon, _ in known], [each for _, each in known]
        values = [each["value"] for each in measured]
        intervals(axes, x, bounds(measured), COLOURS[name])
        axes.plot(x, values, color=COLOURS[name], label=label)
        dots(axes, zip(x, values, strict=True), COLOURS[name], 5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=f"steps ahead (of {evaluation['forecast']['step']})", ylabel="mean absolute error")
    axes.set_ylim(bottom=0)
    legend(axes)
    return figure


def summary(evaluation: Report) -> Iterator[str]:
    overall, first = evaluation["forecast"]["all"], True
    for sentence in regression.VIEW.summary(evaluation):
        if "one guess for everyone" not in sentence:
            yield sentence
        if first and overall["saved"] is not None:
            first = False
            change = overall["saved"]
            scaled = "" if overall["mase"] is None else f", a MASE of {overall['mase']:.3f}"
            yield (
                f"That is {abs(change):.1%} {'less' if change > 0 else 'more'} than the season before was off by"
                f"{scaled}; from {_span(evaluation, min)} less to {_span(evaluation, max)} less by horizon."
            )


def _span(evaluation: Report, pick: Any) -> str:
    return f"{pick(each['saved'] or 0.0 for each in evaluation['forecast']['horizons']):.1%}"


VIEW = replace(
    regression.VIEW,
    measured=measured,
    tables=tables,
    charts=(error_by_horizon, *regression.VIEW.charts),
    summary=summary,
)
