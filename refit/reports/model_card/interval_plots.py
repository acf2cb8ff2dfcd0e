"""Draws what an evaluation found of intervals: PNG for MLflow and people, CSV for `dvc plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refit.evaluation.interval_coverage import percent
from refit.reports.drawing import COLOURS, QUIET, new_axes, write_csv

Report = dict[str, Any]


def tables(folder: Path, evaluation: Report) -> None:
    """CSV for `dvc plots`."""
    if not (found := evaluation.get("intervals")):
        return
    parts = [{"value": "all", "rows": found["rows"], **found}, *found["groups"]]
    rows = ((p["value"], p["rows"], *(p[name]["value"] for name in ("coverage", "width", "winkler"))) for p in parts)
    write_csv(folder / "intervals.csv", ("group", "rows", "coverage", "width", "winkler"), rows)


def by_group_figure(evaluation: Report) -> Any:
    """Coverage and width of each group."""
    found = evaluation.get("intervals")
    if not found or not found["groups"]:
        return None
    import matplotlib.pyplot as plt

    groups: Sequence[Report] = found["groups"]
    figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 5.2), sharex=True)
    above.set_title(f"Intervals by {found['within']}")
    places = range(len(groups))
    for axes, name in ((above, "coverage"), (below, "width")):
        known = [(place, each[name]) for place, each in enumerate(groups) if each[name]["lower"] is not None]
        ends = [[each[end] for _, each in known] for end in ("lower", "upper")]
        axes.vlines([place for place, _ in known], *ends, color=COLOURS["candidate"], linewidth=1.4, alpha=0.55)
        axes.plot(places, [each[name]["value"] for each in groups], "o", color=COLOURS["candidate"], markersize=4.5)
    above.axhline(found["level"], color=QUIET, linestyle=":", linewidth=1)
    above.set(ylabel="share of labels within")
    below.set(ylabel="mean width", xlabel=found["within"])
    below.set_ylim(bottom=0)
    few = list(places)[:: max(1, len(groups) // 14)]
    below.set_xticks(few, [groups[place]["value"] for place in few])
    return figure


def stretch_figure(evaluation: Report) -> Any:
    """The newest test rows: interval, prediction, and what came."""
    found = evaluation.get("intervals")
    if not found:
        return None
    rows: Sequence[Report] = found["stretch"]
    figure, axes = new_axes(f"{percent(found['level'])} intervals of the newest test rows", size=(9.0, 4.0))
    places = np.arange(len(rows))
    low, high, label, predicted = (
        np.array([row[name] for row in rows], dtype=np.float64) for name in ("low", "high", "label", "predicted")
    )
    axes.vlines(places, low, high, color=COLOURS["candidate"], linewidth=2.4, alpha=0.3)
    axes.plot(places, predicted, "_", color=COLOURS["candidate"], markersize=5, label="predicted")
    within = (low <= label) & (label <= high)
    axes.plot(places[within], label[within], "o", color=QUIET, markersize=3, label="came, within")
    axes.plot(places[~within], label[~within], "o", color=COLOURS["champion"], markersize=4, label="came, outside")
    ticks = np.unique(np.linspace(0, len(rows) - 1, 6).astype(np.int64))
    axes.set_xticks(ticks, [rows[place]["time"].replace("T", "\n") for place in ticks])
    axes.set(ylabel="label")
    axes.margins(y=0.15)  # room for the legend
    axes.legend(loc="upper left", ncols=3)
    return figure
