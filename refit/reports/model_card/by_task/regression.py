"""Report on numbers: predicted against actual, residuals, and error by size of the prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from refit.evaluation import interval_coverage
from refit.evaluation.calibration_bins import Reliability
from refit.evaluation.details.forecast import ForecastDetails
from refit.evaluation.details.regression import RegressionDetails, RegressionFacts
from refit.reports.drawing import (
    COLOURS,
    HALF,
    INK,
    QUIET,
    chart,
    dots,
    intervals,
    legend,
    new_figure,
    roomy,
    write_csv,
)
from refit.reports.model_card.by_task import View
from refit.schemas.evaluation import Evaluation, Facts
from refit.schemas.measured import Measured


def _details(evaluation: Evaluation) -> RegressionDetails:
    return evaluation.details.of_kind(ForecastDetails if evaluation.task == "forecast" else RegressionDetails)


def tables(folder: Path, evaluation: Evaluation) -> None:
    details = _details(evaluation)
    write_csv(folder / "predicted_actual.csv", ("predicted", "actual"), details.points)
    left = details.residuals
    rows: Iterable[Sequence[Any]] = zip(left.edges[:-1], left.edges[1:], left.rows, strict=True)
    write_csv(folder / "residuals.csv", ("from", "to", "rows"), rows)
    rows = ((b.predicted, b.observed.value, b.error and b.error.value, b.rows) for b in details.by_size.bins)
    write_csv(folder / "error_by_size.csv", ("predicted", "actual", "mean_absolute_error", "rows"), rows)


@chart("numbers", "Some of the test rows, and the means of tenths of all rows; dotted: perfect.")
def predicted_actual(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("What was predicted, and what came", (HALF, 4.1))
    details = _details(evaluation)
    points = details.points
    ends = roomy(value for point in points for value in point if value is not None)
    axes.plot(ends, ends, color=QUIET, linestyle=":", linewidth=1)
    dots(axes, points, COLOURS["candidate"], 3, alpha=0.45)
    axes.plot([], [], "o", color=COLOURS["candidate"], markersize=3, label=f"{len(points)} test rows")
    means = [(each.predicted, each.observed.value) for each in details.by_size.bins]
    axes.plot(*zip(*means, strict=True), "o-", color=INK, markersize=3.5, linewidth=1.2, label="mean of a tenth")
    axes.set(xlabel="predicted", ylabel="actual")
    legend(axes)
    return figure


@chart("numbers", "What was left over; right of 0 it predicted too little.")
def residuals(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("What is left over", (HALF, 4.1))
    left = _details(evaluation).residuals
    low, *_, high = left.edges
    axes.stairs(left.rows, left.edges, color=COLOURS["candidate"], fill=True, alpha=0.5)
    if low is not None and high is not None and low <= 0 <= high:
        axes.axvline(0, color=QUIET, linestyle=":", linewidth=1)
    axes.set(xlabel="actual less predicted", ylabel="test rows")
    return figure


@chart("errors", "The mean label of rows in tenths by prediction, with intervals; dotted: a perfect forecaster.")
def label_by_size(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("What came, by the size of the prediction", (HALF, 4.1))
    sizes = _details(evaluation).by_size
    ends = roomy(each.predicted for each in sizes.bins if each.predicted is not None)
    axes.plot(ends, ends, color=QUIET, linestyle=":", linewidth=1)
    _tenths(axes, sizes, [each.observed for each in sizes.bins])
    axes.set(xlabel="mean prediction of a tenth of the rows", ylabel="mean label")
    return figure


@chart("errors", "The mean absolute error of each tenth of the rows, with intervals.")
def error_by_size(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("The error by the size of the prediction", (HALF, 4.1))
    sizes = _details(evaluation).by_size
    _tenths(axes, sizes, [each.error for each in sizes.bins if each.error])
    axes.set(xlabel="mean prediction of a tenth of the rows", ylabel="mean absolute error")
    axes.set_ylim(bottom=0)
    return figure


def _tenths(axes: Any, sizes: Reliability, measured: Sequence[Measured]) -> None:
    predicted, values = [each.predicted for each in sizes.bins], [each.value for each in measured]
    intervals(axes, predicted, measured, COLOURS["candidate"])
    axes.plot(predicted, values, color=COLOURS["candidate"])
    dots(axes, zip(predicted, values, strict=True), COLOURS["candidate"], 5)


def summary(evaluation: Evaluation) -> Iterator[str]:
    ours, naive = evaluation.metrics["candidate"], evaluation.metrics["baseline"]["mae"].value
    mae, mean = ours["mae"], evaluation.test.facts.of_kind(RegressionFacts).mean
    if mae.value is not None:
        span = mae.between("{:.4g}".format)
        yield f"On average it is off by {mae.value:.4g}{span}; the mean label is {mean:.4g}."
    if mae.value is not None and naive:
        change = 1 - mae.value / naive
        yield f"That is {abs(change):.1%} {'less' if change > 0 else 'more'} than one guess for everyone is off by."
    if ours["mape"].value is None:
        yield "Errors as a share of the label are not reported, as some labels are 0."
    yield from interval_coverage.sentences(_details(evaluation).intervals)


def words(evaluation: Evaluation) -> str:
    details = _details(evaluation)
    sizes, spread = details.by_size, details.residuals.quantiles
    return (
        f"On the whole it predicted {sizes.predicted:.4g}, and {sizes.observed:.4g} came; "
        f"{sizes.off_diagonal} tenths lie off the diagonal by more than their interval. 90 % of rows "
        f"came between {spread['0.05']:+.4g} and {spread['0.95']:+.4g} of what was predicted."
    )


def slice_cells(facts: Facts) -> tuple[str, str]:
    numbers = facts.of_kind(RegressionFacts)
    return f"{numbers.mean:.4g}", f"{numbers.predicted:.4g}"


VIEW = View(
    tables=tables,
    charts=(predicted_actual, residuals, label_by_size, error_by_size),
    tiles=("mae", "rmse", "r2"),
    summary=summary,
    words=words,
    slice_heads=("mean label", "mean prediction"),
    slice_cells=slice_cells,
    label_head="mean label",
    label_cell=lambda labels: "–" if labels["mean"] is None else f"{labels['mean']:.4g} ± {labels['std']:.4g}",
)
