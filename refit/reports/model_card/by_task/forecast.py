"""Report on forecasts, in addition to that on numbers: error by horizon, compared with the season before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.reports.drawing import COLOURS, FULL, bounds, chart, dots, intervals, legend, new_figure, write_csv
from refit.reports.model_card.by_task import Report, regression

Floats = NDArray[np.float64]


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
        points = [(each["horizon"], each[what]) for each in horizons if each[what]["value"] is not None]
        x, measured = [horizon for horizon, _ in points], [each for _, each in points]
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
    tables=tables,
    charts=(error_by_horizon, *regression.VIEW.charts),
    summary=summary,
)
