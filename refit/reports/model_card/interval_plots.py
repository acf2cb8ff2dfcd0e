"""Draws the intervals of an evaluation: PNG for MLflow and people, CSV for `dvc plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refit.evaluation.interval_coverage import percent
from refit.reports.drawing import COLOURS, QUIET, new_axes, write_csv

Report = dict[str, Any]


def tables(folder: Path, evaluation: Report) -> None:
    """Write CSV for `dvc plots`."""
    if not (intervals := evaluation.get("intervals")):
        return
    parts = [{"value": "all", "rows": intervals["rows"], **intervals}, *intervals["groups"]]
    rows = ((p["value"], p["rows"], *(p[name]["value"] for name in ("coverage", "width", "winkler"))) for p in parts)
    write_csv(folder / "intervals.csv", ("group", "rows", "coverage", "width", "winkler"), rows)


def by_group_figure(evaluation: Report) -> Any:
    """Coverage and width of each group."""
    intervals = evaluation.get("intervals")
    if not intervals or not intervals["groups"]:
        return None
    import matplotlib.pyplot as plt

    groups: Sequence[Report] = intervals["groups"]
    figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 5.2), sharex=True)
    above.set_title(f"Intervals by {intervals['within']}")
    positions = range(len(groups))
    for axes, name in ((above, "coverage"), (below, "width")):
        ranged = [(index, each[name]) for index, each in enumerate(groups) if each[name]["lower"] is not None]
        ends = [[each[end] for _, each in ranged] for end in ("lower", "upper")]
        axes.vlines([index for index, _ in ranged], *ends, color=COLOURS["candidate"], linewidth=1.4, alpha=0.55)
        axes.plot(positions, [each[name]["value"] for each in groups], "o", color=COLOURS["candidate"], markersize=4.5)
    above.axhline(intervals["level"], color=QUIET, linestyle=":", linewidth=1)
    above.set(ylabel="share of labels within")
    below.set(ylabel="mean width", xlabel=intervals["within"])
    below.set_ylim(bottom=0)
    few = list(positions)[:: max(1, len(groups) // 14)]
    below.set_xticks(few, [groups[index]["value"] for index in few])
    return figure


def stretch_figure(evaluation: Report) -> Any:
    """The newest test rows: interval, prediction and actual value."""
    intervals = evaluation.get("intervals")
    if not intervals:
        return None
    rows: Sequence[Report] = intervals["stretch"]
    figure, axes = new_axes(f"{percent(intervals['level'])} intervals of the newest test rows", size=(9.0, 4.0))
    positions = np.arange(len(rows))
    low, high, label, predicted = (
        np.array([row[name] for row in rows], dtype=np.float64) for name in ("low", "high", "label", "predicted")
    )
    axes.vlines(positions, low, high, color=COLOURS["candidate"], linewidth=2.4, alpha=0.3)
    axes.plot(positions, predicted, "_", color=COLOURS["candidate"], markersize=5, label="predicted")
    within = (low <= label) & (label <= high)
    axes.plot(positions[within], label[within], "o", color=QUIET, markersize=3, label="came, within")
    axes.plot(positions[~within], label[~within], "o", color=COLOURS["champion"], markersize=4, label="came, outside")
    ticks = np.unique(np.linspace(0, len(rows) - 1, 6).astype(np.int64))
    axes.set_xticks(ticks, [rows[index]["time"].replace("T", "\n") for index in ticks])
    axes.set(ylabel="label")
    axes.margins(y=0.15)  # room for the legend
    axes.legend(loc="upper left", ncols=3)
    return figure
