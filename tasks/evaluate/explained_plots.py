"""Draws how predictions follow features: PNG for MLflow and people, CSV for `dvc plots`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tasks.evaluate.drawing import COLOURS, INK, write_csv
from tasks.evaluate.explained import lines_of, span_of

Report = dict[str, Any]
COLUMNS = 3
ORDER = ("candidate", "champion", "anchor", "baseline")  # whose colours the classes have
PREDICTED = {"binary": "mean probability", "multiclass": "mean probability", "regression": "mean prediction"}


def tables(folder: Path, evaluation: Report) -> None:
    """`partial_dependence.csv`: a row for each value of a feature, and each class."""
    explained = evaluation["explained"]
    rows = (
        (feature["name"], value, name, mean)
        for feature in explained["partial_dependence"]
        for place, value in enumerate(feature["values"])
        for name, mean in _means(explained, feature["mean"][place])
    )
    write_csv(folder / "partial_dependence.csv", ("feature", "value", "class", "mean"), rows)


def _means(explained: Report, mean: Any) -> list[tuple[str, float]]:
    return list(zip(explained["classes"], mean, strict=True)) if explained["classes"] else [("", mean)]


def partial(evaluation: Report) -> Any:
    """A picture for each feature, on one common axis."""
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
        places = range(len(feature["values"]))
        for kind, (name, line) in zip(ORDER, lines_of(explained, feature), strict=False):
            if feature["kind"] == "number":
                ax.plot(feature["values"], line, "o-", color=COLOURS[kind], ms=3, lw=1.6, label=name)
                ax.set_ylim(low, high)
            else:
                ax.plot(line, places, "o", color=COLOURS[kind], ms=5, label=name)
                ax.set(xlim=(low, high), ylim=(len(places) - 0.5, -0.5))
                ax.set_yticks(places, [short_name(value) for value in feature["values"]], color=INK, fontsize=8)
        ax.set_title(feature["name"], fontsize=9.5)
    for ax in list(axes.flat)[len(features) :]:
        ax.axis("off")
    if explained["classes"]:
        axes.flat[0].legend(loc="best", fontsize=8)
    what = PREDICTED[evaluation["task"]].capitalize()
    title = f"{what} of {explained['rows']:,} rows, were all to have one value of a feature"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def short_name(value: str, most: int = 18) -> str:
    """A category as a picture has room for.

    >>> short_name("a"), short_name("the longest of all the names")
    ('a', 'the longest of al…')
    """
    return value if len(value) <= most else f"{value[: most - 1]}…"
