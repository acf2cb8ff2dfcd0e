"""Report on numbers: predicted against actual, residuals, and error by size of the prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.evaluation import interval_coverage
from refit.reports.drawing import (
    COLOURS,
    HALF,
    INK,
    QUIET,
    bounds,
    chart,
    dots,
    intervals,
    legend,
    new_figure,
    roomy,
    write_csv,
)
from refit.reports.model_card.by_task import Report, View

Floats = NDArray[np.float64]


def tables(folder: Path, evaluation: Report) -> None:
    write_csv(folder / "predicted_actual.csv", ("predicted", "actual"), evaluation["points"])
    left = evaluation["residuals"]
    rows: Iterable[Sequence[Any]] = zip(left["edges"][:-1], left["edges"][1:], left["rows"], strict=True)
    write_csv(folder / "residuals.csv", ("from", "to", "rows"), rows)
    rows = (
        (b["predicted"], b["observed"]["value"], b["error"]["value"], b["rows"]) for b in evaluation["by_size"]["bins"]
    )
    write_csv(folder / "error_by_size.csv", ("predicted", "actual", "mean_absolute_error", "rows"), rows)


@chart("numbers", "Some of the test rows, and the means of tenths of all rows; dotted: perfect.")
def predicted_actual(evaluation: Report) -> Any:
    figure, axes = new_figure("What was predicted, and what came", (HALF, 4.1))
    points, bins = evaluation["points"], evaluation["by_size"]["bins"]
    ends = roomy(value for point in points for value in point)
    axes.plot(ends, ends, color=QUIET, linestyle=":", linewidth=1)
    dots(axes, points, COLOURS["candidate"], 3, alpha=0.45)
    axes.plot([], [], "o", color=COLOURS["candidate"], markersize=3, label=f"{len(points)} test rows")
    means = [(each["predicted"], each["observed"]["value"]) for each in bins]
    axes.plot(*zip(*means, strict=True), "o-", color=INK, markersize=3.5, linewidth=1.2, label="mean of a tenth")
    axes.set(xlabel="predicted", ylabel="actual")
    legend(axes)
    return figure


@chart("numbers", "What was left over; right of 0 it predicted too little.")
def residuals(evaluation: Report) -> Any:
    figure, axes = new_figure("What is left over", (HALF, 4.1))
    left = evaluation["residuals"]
    axes.stairs(left["rows"], left["edges"], color=COLOURS["candidate"], fill=True, alpha=0.5)
    if left["edges"][0] <= 0 <= left["edges"][-1]:
        axes.axvline(0, color=QUIET, linestyle=":", linewidth=1)
    axes.set(xlabel="actual less predicted", ylabel="test rows")
    return figure


@chart("errors", "The mean label of rows in tenths by prediction, with intervals; dotted: a perfect forecaster.")
def label_by_size(evaluation: Report) -> Any:
    figure, axes = new_figure("What came, by the size of the prediction", (HALF, 4.1))
    bins = evaluation["by_size"]["bins"]
    ends = roomy([each["predicted"] for each in bins])
    axes.plot(ends, ends, color=QUIET, linestyle=":", linewidth=1)
    _tenths(axes, bins, "observed")
    axes.set(xlabel="mean prediction of a tenth of the rows", ylabel="mean label")
    return figure


@chart("errors", "The mean absolute error of each tenth of the rows, with intervals.")
def error_by_size(evaluation: Report) -> Any:
    figure, axes = new_figure("The error by the size of the prediction", (HALF, 4.1))
    _tenths(axes, evaluation["by_size"]["bins"], "error")
    axes.set(xlabel="mean prediction of a tenth of the rows", ylabel="mean absolute error")
    axes.set_ylim(bottom=0)
    return figure


def _tenths(axes: Any, bins: Sequence[Mapping[str, Any]], what: str) -> None:
    predicted, measured = [each["predicted"] for each in bins], [each[what] for each in bins]
    values = [each["value"] for each in measured]
    intervals(axes, predicted, bounds(measured), COLOURS["candidate"])
    axes.plot(predicted, values, color=COLOURS["candidate"])
    dots(axes, zip(predicted, values, strict=True), COLOURS["candidate"], 5)


def summary(evaluation: Report) -> Iterator[str]:
    ours, naive = evaluation["metrics"]["candidate"], evaluation["metrics"]["baseline"]
    mae = ours["mae"]
    if mae["value"] is not None:
        span = "" if mae["lower"] is None else f" (between {mae['lower']:.4g} and {mae['upper']:.4g})"
        yield f"On average it is off by {mae['value']:.4g}{span}; the mean label is {evaluation['test']['mean']:.4g}."
    if mae["value"] is not None and naive["mae"]["value"]:
        change = 1 - mae["value"] / naive["mae"]["value"]
        yield f"That is {abs(change):.1%} {'less' if change > 0 else 'more'} than one guess for everyone is off by."
    if ours["mape"]["value"] is None:
        yield "Errors as a share of the label are not told, as some labels are 0."
    yield from interval_coverage.sentences(evaluation)


def words(evaluation: Report) -> str:
    sizes, left = evaluation["by_size"], evaluation["residuals"]
    bins = [each for each in sizes["bins"] if each["observed"]["lower"] is not None]
    off = [each for each in bins if not each["observed"]["lower"] <= each["predicted"] <= each["observed"]["upper"]]
    spread = left["quantiles"]
    return (
        f"On the whole it predicted {sizes['predicted']:.4g}, and {sizes['observed']:.4g} came; "
        f"{len(off) or 'none'} of {len(bins)} tenths lie off the diagonal by more than their interval. 90 % of rows "
        f"came between {spread['0.05']:+.4g} and {spread['0.95']:+.4g} of what was predicted."
    )


VIEW = View(
    tables=tables,
    charts=(predicted_actual, residuals, label_by_size, error_by_size),
    tiles=("mae", "rmse", "r2"),
    summary=summary,
    words=words,
    slice_heads=("mean label", "mean prediction"),
    slice_cells=lambda part: (f"{part['mean']:.4g}", f"{part['predicted']:.4g}"),
    label_head="mean label",
    label_cell=lambda window: "–" if window["mean"] is None else f"{window['mean']:.4g} ± {window['std']:.4g}",
)
