"""Drawings that tasks with probabilities share: reliability, and a matrix of counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from refit.reports.drawing import COLOURS, HALF, INK, PAPER, QUIET, Report, bounds, dots, intervals, new_figure


def reliability(evaluation: Report, title: str, x_label: str, y_label: str) -> Any:
    """What came of rows in tenths by their predicted probability, with intervals and the diagonal."""
    bins = evaluation["calibration"]["bins"]
    predicted, observed = [each["predicted"] for each in bins], [each["observed"] for each in bins]
    top = min(1.0, 1.08 * max(*predicted, *(each["upper"] or each["value"] for each in observed)))
    figure, axes = new_figure(title, (HALF, 4.1))
    axes.plot([0, top], [0, top], color=QUIET, linestyle=":", linewidth=1)
    intervals(axes, predicted, bounds(observed), COLOURS["candidate"])
    values = [each["value"] for each in observed]
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
                shade: dict[str, Any] = {"facecolor": COLOURS["candidate"], "alpha": round(share, 2), "linewidth": 0}
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **shade))
                ink = PAPER if share > 0.65 else INK
                axes.text(column, row, text(count, share), ha="center", va="center", color=ink, **font)
    axes.set(xlim=(-0.5, len(counts[0]) - 0.5), ylim=(len(counts) - 0.5, -0.5))
    axes.grid(visible=False)
