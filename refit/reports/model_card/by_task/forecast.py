"""Report on forecasts, in addition to that on numbers: error by horizon, compared with the season before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from refit.evaluation.details.forecast import ForecastDetails, ForecastReport
from refit.reports.drawing import COLOURS, FULL, chart, dots, intervals, legend, new_figure, write_csv
from refit.reports.model_card.by_task import regression
from refit.schemas.evaluation import Evaluation


def _forecast(evaluation: Evaluation) -> ForecastReport:
    return evaluation.details.of_kind(ForecastDetails).forecast


def tables(folder: Path, evaluation: Evaluation) -> None:
    regression.VIEW.tables(folder, evaluation)
    rows = (
        (each.horizon, each.mae.value, each.naive_mae.value, each.mase, each.smape, each.rows)
        for each in _forecast(evaluation).horizons
    )
    write_csv(folder / "horizons.csv", ("horizon", "mae", "seasonal_naive_mae", "mase", "smape", "rows"), rows)


@chart("horizons", "The error of each horizon, with intervals.")
def error_by_horizon(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("The error by how far ahead", (FULL, 3.4))
    report = _forecast(evaluation)
    naive = [(each.horizon, each.naive_mae) for each in report.horizons]
    ours = [(each.horizon, each.mae) for each in report.horizons]
    for name, errors, label in (("baseline", naive, "the season before"), ("candidate", ours, "candidate")):
        points = [(horizon, each) for horizon, each in errors if each.value is not None]
        x, measured = [horizon for horizon, _ in points], [each for _, each in points]
        values = [each.value for each in measured]
        intervals(axes, x, measured, COLOURS[name])
        axes.plot(x, values, color=COLOURS[name], label=label)
        dots(axes, zip(x, values, strict=True), COLOURS[name], 5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=f"steps ahead (of {report.step})", ylabel="mean absolute error")
    axes.set_ylim(bottom=0)
    legend(axes)
    return figure


def summary(evaluation: Evaluation) -> Iterator[str]:
    report, first = _forecast(evaluation), True
    saved = [each.saved or 0.0 for each in report.horizons]
    for sentence in regression.VIEW.summary(evaluation):
        if "one guess for everyone" not in sentence:
            yield sentence
        if first and (change := report.all.saved) is not None:
            first = False
            scaled = "" if report.all.mase is None else f", a MASE of {report.all.mase:.3f}"
            yield (
                f"That is {abs(change):.1%} {'less' if change > 0 else 'more'} than the season before was off by"
                f"{scaled}; from {min(saved):.1%} less to {max(saved):.1%} less by horizon."
            )


VIEW = replace(
    regression.VIEW,
    tables=tables,
    charts=(error_by_horizon, *regression.VIEW.charts),
    summary=summary,
)
