"""Draws contributions and effects of features: PNG for MLflow and people, CSV for `dvc plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refit.reports.drawing import COLOURS, GRID, INK, QUIET, write_csv
from refit.reports.model_card.explanation_lines import lines_of, span_of, unit_of
from refit.reports.svg_charts import roomy

Report = dict[str, Any]
COLUMNS = 3
MOST_BARS = 20
ORDER = ("candidate", "champion", "anchor", "baseline")  # the colours of the classes
PREDICTED = {
    "binary": "mean probability",
    "multiclass": "mean probability",
    "regression": "mean prediction",
    "forecast": "mean forecast",
}


def tables(folder: Path, evaluation: Report) -> None:
    """Write `shap.csv`, the mean size of each feature's contributions, and `partial_dependence.csv`.

    The latter has a row for each value of a feature and each class.
    """
    explained = evaluation["explained"]
    sizes = ((each["name"], each["value"]) for each in explained["shap"]["features"]) if explained["shap"] else ()
    write_csv(folder / "shap.csv", ("feature", "mean_size"), sizes)
    rows = (
        (feature["name"], value, name, mean)
        for feature in explained["partial_dependence"]
        for index, value in enumerate(feature["values"])
        for name, mean in _means(explained, feature["mean"][index])
    )
    write_csv(folder / "partial_dependence.csv", ("feature", "value", "class", "mean"), rows)


def _means(explained: Report, mean: Any) -> list[tuple[str, float]]:
    return list(zip(explained["classes"], mean, strict=True)) if explained["classes"] else [("", mean)]


def shap(evaluation: Report) -> Any:
    """Mean contributions of features, and the contributions of the largest ones to each row."""
    if not (values := evaluation["explained"]["shap"]):
        return None
    import matplotlib.pyplot as plt

    shown, points = values["features"][:MOST_BARS][::-1], values["points"]
    size = (9.6 if points else 5.6, 1.4 + 0.24 * max(len(shown), 10))
    figure, axes = plt.subplots(1, 2 if points else 1, figsize=size, squeeze=False)
    bars = axes[0][0]
    bars.barh(range(len(shown)), [each["value"] for each in shown], color=COLOURS["candidate"], height=0.7, alpha=0.85)
    bars.set_yticks(range(len(shown)), [short_name(each["name"], 30) for each in shown], color=INK, fontsize=8)
    bars.set_xlabel(f"mean size, in {unit_of(values)}")
    bars.locator_params(axis="x", nbins=5)
    bars.grid(visible=False, axis="y")
    bars.set_ylim(-0.6, len(shown) - 0.4)
    if points:
        _swarm(axes[0][1], values)
    title = f"What features add to predictions (SHAP values of {values['rows']:,} rows)"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def _swarm(axes: Any, values: Report) -> None:
    """A dot for each row, blue if the value of the feature is low and orange if it is high."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("level", [COLOURS["candidate"], GRID, COLOURS["champion"]])
    low, high = swarm_span(values)
    for index, each in enumerate(values["points"]):
        heights = index + 0.8 * np.array(stacked(each["values"], low, high))
        with_level = [n for n, level in enumerate(each["levels"]) if level is not None]
        gaps = [n for n, level in enumerate(each["levels"]) if level is None]
        x = np.array(each["values"])
        axes.scatter(x[gaps], heights[gaps], s=7, color=COLOURS["baseline"], linewidth=0)
        levels = [each["levels"][n] for n in with_level]
        axes.scatter(x[with_level], heights[with_level], s=7, c=levels, cmap=colours, vmin=0, vmax=1, linewidth=0)
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_yticks(range(len(values["points"])), [short_name(p["name"], 30) for p in values["points"]], fontsize=8)
    axes.set(ylim=(len(values["points"]) - 0.4, -0.6), xlabel=f"added, in {unit_of(values)}; orange: a high value")
    axes.grid(visible=False, axis="y")


def swarm_span(explained: Report) -> tuple[float, float]:
    """The axis of all swarms."""
    return roomy([0.0, *(value for each in explained["points"] for value in each["values"])])


def stacked(values: Sequence[float], low: float, high: float, bins: int = 90) -> list[float]:
    """Offsets of dots from the middle line, from -0.5 to 0.5, so that equal values do not cover each other.

    >>> stacked([0.5, 0.5, 0.5, 0.9], 0.0, 1.0)
    [0.0, 0.5, -0.5, 0.0]
    """
    seen: dict[int, int] = {}
    steps = []
    for value in values:
        index = int((value - low) / (high - low) * bins)
        count = seen[index] = seen.get(index, -1) + 1
        steps.append((count + 1) // 2 * (1 if count % 2 else -1))
    most = max((abs(step) for step in steps), default=0) or 1
    return [step / most / 2 if step else 0.0 for step in steps]


def partial(evaluation: Report) -> Any:
    """A figure for each feature, on a shared axis."""
    explained = evaluation["explained"]
    features = explained["partial_dependence"]
    if not features:
        return None
    import matplotlib.pyplot as plt

    rows = math.ceil(len(features) / COLUMNS)
    size = (3.1 * min(COLUMNS, len(features)), 0.5 + 2.6 * rows)
    figure, axes = plt.subplots(rows, min(COLUMNS, len(features)), figsize=size, squeeze=False)
    low, high = span_of(explained)
    for ax, feature in zip(axes.flat, features, strict=False):
        positions = range(len(feature["values"]))
        for kind, (name, line) in zip(ORDER, lines_of(explained, feature), strict=False):
            if feature["kind"] == "number":
                ax.plot(feature["values"], line, "o-", color=COLOURS[kind], ms=3, lw=1.6, label=name)
                ax.set_ylim(low, high)
            else:
                ax.plot(line, positions, "o", color=COLOURS[kind], ms=5, label=name)
                ax.set(xlim=(low, high), ylim=(len(positions) - 0.5, -0.5))
                ax.set_yticks(positions, [short_name(value) for value in feature["values"]], color=INK, fontsize=8)
        ax.set_title(feature["name"], fontsize=9.5)
    for ax in list(axes.flat)[len(features) :]:
        ax.axis("off")
    if explained["classes"]:
        axes.flat[0].legend(loc="best", fontsize=8)
    what = PREDICTED.get(evaluation["task"], "mean prediction").capitalize()
    title = f"{what} of {explained['rows']:,} rows, were all to have one value of a feature"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def short_name(value: str, most: int = 18) -> str:
    """Shorten the name of a category to fit a figure.

    >>> short_name("a"), short_name("the longest of all the names")
    ('a', 'the longest of al…')
    """
    return value if len(value) <= most else f"{value[: most - 1]}…"
