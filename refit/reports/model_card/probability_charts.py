"""Drawings that tasks with probabilities share: reliability, and a matrix of counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from refit.evaluation.calibration_bins import Reliability
from refit.reports.drawing import COLOURS, HALF, INK, PAPER, QUIET, dots, intervals, new_figure


def reliability(report: Reliability, title: str, x_label: str, y_label: str) -> Any:
    """What came of rows in tenths by their predicted probability, with intervals and the diagonal."""
    predicted, observed = [each.predicted for each in report.bins], [each.observed for each in report.bins]
    values = [each.value for each in observed]
    top = min(1.0, 1.08 * max(each or 0.0 for each in (*predicted, *(each.upper or each.value for each in observed))))
    figure, axes = new_figure(title, (HALF, 4.1))
    axes.plot([0, top], [0, top], color=QUIET, linestyle=":", linewidth=1)
    intervals(axes, predicted, observed, COLOURS["candidate"])
    axes.plot(predicted, values, color=COLOURS["candidate"])
    dots(axes, zip(predicted, values, strict=True), COLOURS["candidate"], 5)
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.01 * top, 1.01 * top), ylim=(-0.01 * top, 1.02 * top))
    return figure


def shaded_cells(
    axes: Any, counts: Sequence[Sequence[int]], totals: Sequence[int], text: Callable[[int, float], str], **font: Any
) -> None:
    """A matrix of counts, each cell shaded by its share of its row's total; cells without a count are empty."""
    from matplotlib.patches import Rectangle

    for row, (cells, total) in enumerate(zip(counts, totals, strict=True)):
        for column, count in enumerate(cells):
            if count:
                share = count / total
                corner, colour = (column - 0.5, row - 0.5), COLOURS["candidate"]
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=round(share, 2), linewidth=0))
                ink = PAPER if share > 0.65 else INK
                axes.text(column, row, text(count, share), ha="center", va="center", color=ink, **font)
    axes.set(xlim=(-0.5, len(counts[0]) - 0.5), ylim=(len(counts) - 0.5, -0.5))
    axes.grid(visible=False)
