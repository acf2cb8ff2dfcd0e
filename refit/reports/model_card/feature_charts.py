"""Charts of the model card on features: what a model leans on, and how its predictions follow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refit.explanations import format_unit
from refit.problems import metric_named
from refit.reports.drawing import (
    COLOURS,
    FULL,
    INK,
    QUIET,
    chart,
    dots,
    list_down,
    new_figure,
    new_grid,
    roomy,
    short_name,
    spans,
    write_csv,
)
from refit.schemas.evaluation import Evaluation, Explained, FeatureLoss, PartialDependence, Shap

COLUMNS = 3
MOST_BARS = 20
MOST_CLASSES = len(COLOURS)  # the most likely ones
ANY_PREDICTED = "mean prediction"  # of a kind of problem that is not known here
PREDICTED = {
    "binary": "mean probability",
    "multiclass": "mean probability",
    "regression": "mean prediction",
    "forecast": "mean forecast",
}
LEVELS = {  # of the value of a feature, from its lowest to its highest
    "category or gap": QUIET,
    "middle value": COLOURS["baseline"],
    "low value": COLOURS["candidate"],
    "high value": COLOURS["champion"],
}


@chart("features", "The loss when the values of all features of a view are shuffled between rows, with intervals.")
def importance_by_view(evaluation: Evaluation) -> Any:
    groups = evaluation.importance.groups
    return _bars(groups, "What the model leans on, by view", evaluation) if len(groups) > 1 else None


@chart("features", "The loss when the values of a feature are shuffled between rows, with intervals.")
def importance(evaluation: Evaluation) -> Any:
    features = evaluation.importance.features
    return _bars(features, "What the model leans on", evaluation) if features else None


def _bars(entries: Sequence[FeatureLoss], title: str, evaluation: Evaluation) -> Any:
    shown = [entry for entry in entries if entry.value is not None][:MOST_BARS]
    figure, axes = new_figure(title, (FULL, 1.0 + 0.23 * max(len(shown), 2)))
    rows = range(len(shown))
    axes.barh(rows, [entry.value for entry in shown], color=COLOURS["candidate"], height=0.66, alpha=0.8)
    spans(axes, rows, shown, INK)
    axes.axvline(0, color=QUIET, linewidth=0.8)
    list_down(axes, [short_name(entry.name, 44) for entry in shown])
    metric, rows_used = metric_named(evaluation.metric).words, evaluation.importance.rows
    axes.set_xlabel(f"loss in {metric} when shuffled, {rows_used:,} rows")
    return figure


@chart("contributions", "What each feature adds to a prediction: its mean size, and a dot for each row.")
def shap(evaluation: Evaluation) -> Any:
    if not (values := evaluation.explained.shap):
        return None
    points, shown = values.points, values.features[:MOST_BARS]
    title = f"What features add to predictions (SHAP values of {values.rows:,} rows)"
    size = (FULL, 1.3 + 0.23 * max(len(shown), 4, 1.6 * len(points)))
    figure, axes = new_grid(title, size, columns=2 if points else 1)
    bars = axes[0][0]
    bars.barh(range(len(shown)), [each.value for each in shown], color=COLOURS["candidate"], height=0.66, alpha=0.8)
    list_down(bars, [short_name(each.name, 26) for each in shown])
    bars.set_xlabel(f"mean size, in {unit_of(values)}")
    bars.locator_params(axis="x", nbins=5)
    if points:
        _swarm(axes[0][1], values)
        figure.legend(*axes[0][1].get_legend_handles_labels(), loc="outside lower right", ncols=len(LEVELS))
    return figure


def _swarm(axes: Any, values: Shap) -> None:
    """A dot for each row, coloured by the value of the feature there."""
    low, high = roomy([0.0, *(value for each in values.points for value in each.values)])
    by_level: dict[str, list[tuple[float, float]]] = {level: [] for level in LEVELS}
    for row, each in enumerate(values.points):
        heights = stacked(each.values, low, high)
        for value, level, height in zip(each.values, each.levels, heights, strict=True):
            by_level[level_name(level)].append((value, row + 0.8 * height))
    for name, points in by_level.items():
        if points:
            dots(axes, points, LEVELS[name], 2.6, alpha=0.75)
            axes.plot([], [], "o", color=LEVELS[name], markersize=4, label=name)
    axes.axvline(0, color=QUIET, linewidth=0.8)
    list_down(axes, [short_name(each.name, 26) for each in values.points])
    axes.set(xlim=(low, high), xlabel=f"added, in {unit_of(values)}")
    axes.locator_params(axis="x", nbins=6)


def level_name(level: float | None) -> str:
    """The name of the colour of a feature's value, which lies from 0, its lowest, to 1, its highest."""
    none, middle, low, high = LEVELS
    return none if level is None else low if level < 1 / 3 else high if level > 2 / 3 else middle


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


@chart("dependence", "The mean prediction if all rows had one value of a feature, on a shared axis.")
def partial_dependence(evaluation: Evaluation) -> Any:
    explained = evaluation.explained
    if not (features := explained.partial_dependence):
        return None
    rows, columns = math.ceil(len(features) / COLUMNS), min(COLUMNS, len(features))
    predicted = PREDICTED.get(evaluation.task, ANY_PREDICTED).capitalize()
    title = f"{predicted}, were all rows to have one value of a feature"
    size = (FULL * columns / COLUMNS, 0.7 + 2.1 * rows)
    figure, axes = new_grid(title, size, rows=rows, columns=columns)
    low, high = roomy(value for each in features for _, line in lines_of(explained, each) for value in line)
    for ax, feature in zip(axes.flat, features, strict=False):
        for colour, (name, line) in zip(COLOURS.values(), lines_of(explained, feature), strict=False):
            if feature.kind == "number":
                ax.plot(feature.values, line, color=colour, label=name or None)
                dots(ax, zip(feature.values, line, strict=True), colour, 4)
                ax.set_ylim(low, high)
            else:
                dots(ax, zip(line, range(len(line)), strict=True), colour, 6)
                ax.plot([], [], "o", color=colour, label=name or None)
                list_down(ax, [short_name(str(value)) for value in feature.values])
                ax.set_xlim(low, high)
        ax.locator_params(axis="x", nbins=4)
        ax.set_title(short_name(feature.name, 30))
    for ax in list(axes.flat)[len(features) :]:
        ax.axis("off")
    handles, names = axes.flat[0].get_legend_handles_labels()
    if names:
        figure.legend(handles, [short_name(name, 24) for name in names], loc="outside lower left", ncols=MOST_CLASSES)
    return figure


def drawn_classes(explained: Explained) -> list[int]:
    """Indices of the classes in figures, which are the most likely ones; empty unless the task is multiclass."""
    if not explained.classes or not explained.partial_dependence:
        return []
    likely = np.mean([np.mean(each.mean, axis=0) for each in explained.partial_dependence], axis=0)
    return [int(index) for index in np.argsort(-likely, kind="stable")[:MOST_CLASSES]]


def lines_of(explained: Explained, feature: PartialDependence) -> list[tuple[str, list[float]]]:
    """The lines in the figure of a feature: one without a name, or one for each shown class."""
    means = np.asarray(feature.mean)
    shown = drawn_classes(explained)
    if not shown:
        return [("", means.tolist())]
    return [(explained.classes[index], means[:, index].tolist()) for index in shown]


def unit_of(shap: Shap) -> str:
    """The unit in which contributions are summed."""
    return format_unit(shap.unit, calibrated=shap.calibrated)


def tables(folder: Path, evaluation: Evaluation) -> None:
    """Write `importance.csv`, `shap.csv`, the mean size of each feature's contributions, and `partial_dependence.csv`.

    The last has a row for each value of a feature and each class.
    """
    rows = ((each.name, each.group, each.value) for each in evaluation.importance.features)
    write_csv(folder / "importance.csv", ("feature", "view", "loss"), rows)
    explained = evaluation.explained
    sizes = ((each.name, each.value) for each in explained.shap.features) if explained.shap else ()
    write_csv(folder / "shap.csv", ("feature", "mean_size"), sizes)
    means = (
        (feature.name, value, name, each)
        for feature in explained.partial_dependence
        for value, mean in zip(feature.values, feature.mean, strict=True)
        for name, each in zip(explained.classes or [""], mean if isinstance(mean, tuple) else [mean], strict=True)
    )
    write_csv(folder / "partial_dependence.csv", ("feature", "value", "class", "mean"), means)


CHARTS = (importance_by_view, importance, shap, partial_dependence)
