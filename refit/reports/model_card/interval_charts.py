"""Charts of the model card on intervals of predictions: coverage, width, and the newest rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refit.evaluation.interval_coverage import percent
from refit.reports.drawing import (
    BAD,
    COLOURS,
    FULL,
    QUIET,
    chart,
    dots,
    legend,
    name_columns,
    new_figure,
    new_grid,
    write_csv,
)
from refit.reports.drawing import (
    intervals as interval_lines,
)
from refit.schemas.evaluation import Evaluation
from refit.schemas.interval_report import IntervalReport


def report_of(evaluation: Evaluation) -> IntervalReport | None:
    """The evaluation of the prediction intervals; None if there are none."""
    return evaluation.detail("intervals", IntervalReport)


@chart("intervals", "The newest test rows: the interval of each, what was predicted, and what came.")
def intervals(evaluation: Evaluation) -> Any:
    if not (report := report_of(evaluation)):
        return None
    rows = report.stretch
    figure, axes = new_figure(f"{percent(report.level)} intervals of the newest test rows", (FULL, 3.6))
    for index, row in enumerate(rows):
        axes.plot([index] * 2, [row.low, row.high], color=COLOURS["candidate"], linewidth=2.2, alpha=0.3)
    axes.plot([], [], color=COLOURS["candidate"], linewidth=2.2, alpha=0.3, label="interval")
    axes.plot(range(len(rows)), [row.predicted for row in rows], "_", color=COLOURS["candidate"], label="predicted")
    for held, colour, size, label in ((True, QUIET, 3.5, "came, within"), (False, BAD, 5, "came, outside")):
        came = [(index, row.label) for index, row in enumerate(rows) if row.within is held]
        dots(axes, came, colour, size)
        axes.plot([], [], "o", color=colour, markersize=4, label=label)
    name_columns(axes, [row.time[5:10] for row in rows], 8)
    axes.set(xlabel="test rows, newest last", ylabel="label")
    legend(axes)
    return figure


@chart("intervals", "The share of labels within (dotted: what was asked for) and the mean width, of each group.")
def intervals_by_group(evaluation: Evaluation) -> Any:
    report = report_of(evaluation)
    if not report or not report.groups:
        return None
    groups = report.groups
    figure, axes = new_grid(f"Intervals by {report.within}", (FULL, 3.2), columns=2)
    coverage, width = axes[0]
    for ax, measured in ((coverage, [each.coverage for each in groups]), (width, [each.width for each in groups])):
        interval_lines(ax, range(len(groups)), measured, COLOURS["candidate"])
        dots(ax, enumerate(each.value for each in measured), COLOURS["candidate"], 5)
        name_columns(ax, [each.value for each in groups], 8)
        ax.set(xlabel=report.within)
    coverage.axhline(report.level, color=QUIET, linestyle=":", linewidth=1)
    coverage.set(ylabel="share of labels within")
    width.set(ylabel="mean width")
    width.set_ylim(bottom=0)
    return figure


def tables(folder: Path, evaluation: Evaluation) -> None:
    """Write `intervals.csv`, if there are any."""
    if not (report := report_of(evaluation)):
        return
    parts = [("all", report.rows, report), *((each.value, each.rows, each) for each in report.groups)]
    rows = ((name, count, each.coverage.value, each.width.value, each.winkler.value) for name, count, each in parts)
    write_csv(folder / "intervals.csv", ("group", "rows", "coverage", "width", "winkler"), rows)


CHARTS = (intervals, intervals_by_group)
