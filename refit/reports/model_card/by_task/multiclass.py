"""Report on several classes: confusion matrix, each class by itself, and calibration of the predicted class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.reports.drawing import COLOURS, FULL, HALF, INK, chart, list_down, new_figure, short_name, write_csv
from refit.reports.model_card.by_task import Report, View
from refit.reports.model_card.probability_charts import reliability, shaded_cells

Floats = NDArray[np.float64]

MOST_SHOWN = 25  # classes in a figure or a table, the largest ones


def tables(folder: Path, evaluation: Report) -> None:
    names, counts = evaluation["confusion"]["names"], evaluation["confusion"]["rows"]
    rows: Iterable[Sequence[Any]] = (
        (actual, predicted, counts[i][j]) for i, actual in enumerate(names) for j, predicted in enumerate(names)
    )
    write_csv(folder / "confusion.csv", ("actual", "predicted", "rows"), rows)
    rows = (
        (each["name"], *(each[part] and each[part]["value"] for part in ("precision", "recall")), each["f1"])
        for each in evaluation["classes"]
    )
    write_csv(folder / "classes.csv", ("class", "precision", "recall", "f1"), rows)
    rows = ((b["predicted"], b["observed"]["value"], b["rows"]) for b in evaluation["calibration"]["bins"])
    write_csv(folder / "calibration.csv", ("predicted", "observed", "rows"), rows)


def largest(evaluation: Report) -> list[int]:
    """Indices of the classes that are shown, in their original order."""
    rows = [each["rows"] for each in evaluation["classes"]]
    return sorted(sorted(range(len(rows)), key=lambda index: -rows[index])[:MOST_SHOWN])


@chart("numbers", "The test rows of each class, by the class that they are called.")
def confusion(evaluation: Report) -> Any:
    shown, names = largest(evaluation), evaluation["confusion"]["names"]
    rows = evaluation["confusion"]["rows"]
    counts = [[rows[row][column] for column in shown] for row in shown]
    labels = [short_name(names[index]) for index in shown]
    few = len(shown) <= 6
    figure, axes = new_figure("Who is taken for whom", (HALF, 4.1) if few else (FULL, 1.8 + 0.3 * len(shown)))
    shaded_cells(axes, counts, [sum(rows[row]) for row in shown], lambda count, _: f"{count:,}", fontsize=8)
    axes.set_xticks(range(len(shown)), labels, rotation=0 if few else 45, ha="center" if few else "right", color=INK)
    axes.set_yticks(range(len(shown)), labels, color=INK)
    axes.set(xlabel="called", ylabel="was")
    return figure


@chart("numbers", "F1 of each class: the harmonic mean of precision and recall.")
def classes(evaluation: Report) -> Any:
    shown = [evaluation["classes"][index] for index in largest(evaluation)]
    figure, axes = new_figure("F1 of each class", (HALF, max(1.0 + 0.26 * len(shown), 2)))
    scores = [each["f1"] or 0.0 for each in shown]
    axes.barh(range(len(shown)), scores, color=COLOURS["candidate"], height=0.66, alpha=0.8)
    list_down(axes, [short_name(each["name"]) for each in shown])
    axes.set(xlim=(0, 1), xlabel="F1")
    return figure


@chart(
    "calibration",
    "Rows in tenths by the probability of the called class, with intervals; dotted: a perfect forecaster.",
)
def calibration(evaluation: Report) -> Any:
    title = "How sure a call was, and how often it was right"
    return reliability(evaluation, title, "probability of the called class", "share of right calls")


def summary(evaluation: Report) -> Iterator[str]:
    ours, naive = evaluation["metrics"]["candidate"], evaluation["metrics"]["baseline"]
    right, always = ours["accuracy"], naive["accuracy"]["value"]
    if right["value"] is not None:
        span = "" if right["lower"] is None else f" (between {right['lower']:.1%} and {right['upper']:.1%})"
        yield f"It calls {right['value']:.1%} of the rows rightly{span}; always the most frequent class, {always:.1%}."
    scored = [each for each in evaluation["classes"] if each["f1"] is not None]
    if scored:
        worst = min(scored, key=lambda each: each["f1"])
        yield f"It does worst on {worst['name']!r}: F1 {worst['f1']:.2f} of {worst['rows']:,} rows."


def words(evaluation: Report) -> str:
    report = evaluation["calibration"]
    bins = [each for each in report["bins"] if each["observed"]["lower"] is not None]
    off = [each for each in bins if not each["observed"]["lower"] <= each["predicted"] <= each["observed"]["upper"]]
    return (
        f"It gave what it called a probability of {report['predicted']:.1%} on the whole, and was right "
        f"{report['observed']:.1%} of the time; {len(off) or 'none'} of {len(bins)} bins lie off the diagonal by more "
        "than their interval."
    )


def format_classes(window: Report) -> str:
    """The number of classes in a window, and the largest one."""
    classes = window["classes"]
    if not isinstance(classes, dict):
        return f"{classes}"
    top = max(classes, key=lambda name: classes[name], default=None)
    return f"{len(classes)}" + (f", most {top} ({classes[top]:,})" if top is not None else "")


VIEW = View(
    tables=tables,
    charts=(confusion, classes, calibration),
    tiles=("log_loss", "accuracy", "f1_macro"),
    summary=summary,
    words=words,
    slice_heads=("called rightly", "sure by"),
    slice_cells=lambda part: (f"{part['right']:.1%}", f"{part['predicted']:.1%}"),
    label_head="classes",
    label_cell=format_classes,
    largest=largest,
)
