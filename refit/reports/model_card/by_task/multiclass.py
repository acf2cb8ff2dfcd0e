"""Report on several classes: confusion matrix, each class by itself, and calibration of the predicted class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from refit.evaluation.details.multiclass import MulticlassDetails, MulticlassFacts
from refit.reports.drawing import COLOURS, FULL, HALF, INK, chart, list_down, new_figure, short_name, write_csv
from refit.reports.model_card.by_task import View
from refit.reports.model_card.probability_charts import reliability, shaded_cells
from refit.schemas.evaluation import Evaluation, Facts

MOST_SHOWN = 25  # classes in a figure or a table, the largest ones


def _details(evaluation: Evaluation) -> MulticlassDetails:
    return evaluation.details.of_kind(MulticlassDetails)


def tables(folder: Path, evaluation: Evaluation) -> None:
    details = _details(evaluation)
    names, counts = details.confusion.names, details.confusion.rows
    rows: Iterable[Sequence[Any]] = (
        (actual, predicted, counts[i][j]) for i, actual in enumerate(names) for j, predicted in enumerate(names)
    )
    write_csv(folder / "confusion.csv", ("actual", "predicted", "rows"), rows)
    rows = (
        (each.name, each.precision and each.precision.value, each.recall and each.recall.value, each.f1)
        for each in details.classes
    )
    write_csv(folder / "classes.csv", ("class", "precision", "recall", "f1"), rows)
    rows = ((each.predicted, each.observed.value, each.rows) for each in details.calibration.bins)
    write_csv(folder / "calibration.csv", ("predicted", "observed", "rows"), rows)


def largest(evaluation: Evaluation) -> list[int]:
    """Indices of the classes that are shown, in their original order."""
    rows = [each.rows for each in _details(evaluation).classes]
    return sorted(sorted(range(len(rows)), key=lambda index: -rows[index])[:MOST_SHOWN])


@chart("numbers", "The test rows of each class, by the class that they are called.")
def confusion(evaluation: Evaluation) -> Any:
    shown, report = largest(evaluation), _details(evaluation).confusion
    names, rows = report.names, report.rows
    counts = [[rows[row][column] for column in shown] for row in shown]
    labels = [short_name(names[index]) for index in shown]
    few = len(shown) <= 6
    figure, axes = new_figure("Confusion of classes", (HALF, 4.1) if few else (FULL, 1.8 + 0.3 * len(shown)))
    shaded_cells(axes, counts, [sum(rows[row]) for row in shown], lambda count, _: f"{count:,}", fontsize=8)
    axes.set_xticks(range(len(shown)), labels, rotation=0 if few else 45, ha="center" if few else "right", color=INK)
    axes.set_yticks(range(len(shown)), labels, color=INK)
    axes.set(xlabel="called", ylabel="was")
    return figure


@chart("numbers", "F1 of each class: the harmonic mean of precision and recall.")
def classes(evaluation: Evaluation) -> Any:
    shown = [_details(evaluation).classes[index] for index in largest(evaluation)]
    figure, axes = new_figure("F1 of each class", (HALF, max(1.0 + 0.26 * len(shown), 2)))
    scores = [each.f1 or 0.0 for each in shown]
    axes.barh(range(len(shown)), scores, color=COLOURS["candidate"], height=0.66, alpha=0.8)
    list_down(axes, [short_name(each.name) for each in shown])
    axes.set(xlim=(0, 1), xlabel="F1")
    return figure


@chart(
    "calibration",
    "Rows in tenths by the probability of the called class, with intervals; dotted: a perfect forecaster.",
)
def calibration(evaluation: Evaluation) -> Any:
    title = "How sure a call was, and how often it was right"
    return reliability(
        _details(evaluation).calibration, title, "probability of the called class", "share of right calls"
    )


def summary(evaluation: Evaluation) -> Iterator[str]:
    right, always = (evaluation.metrics[model]["accuracy"] for model in ("candidate", "baseline"))
    if right.value is not None:
        share = f"{right.value:.1%} of the rows rightly{right.between('{:.1%}'.format)}"
        yield f"It calls {share}; always the most frequent class, {always.value:.1%}."
    scored = [(each.f1, each) for each in _details(evaluation).classes if each.f1 is not None]
    if scored:
        f1, worst = min(scored, key=lambda pair: pair[0])
        yield f"It does worst on {worst.name!r}: F1 {f1:.2f} of {worst.rows:,} rows."


def words(evaluation: Evaluation) -> str:
    report = _details(evaluation).calibration
    return (
        f"It gave what it called a probability of {report.predicted:.1%} on the whole, and was right "
        f"{report.observed:.1%} of the time; {report.off_diagonal} bins lie off the diagonal by more than their "
        "interval."
    )


def slice_cells(facts: Facts) -> tuple[str, str]:
    calls = facts.of_kind(MulticlassFacts)
    return f"{calls.right:.1%}", f"{calls.predicted:.1%}"


def format_classes(labels: Mapping[str, JsonValue]) -> str:
    """The number of classes, and the largest one where their rows were counted."""
    classes = labels["classes"]
    if not isinstance(classes, dict):
        return f"{classes}"
    counts = [(count, name) for name, count in classes.items() if isinstance(count, int)]
    most, top = max(counts, key=lambda pair: pair[0], default=(0, None))
    return f"{len(classes)}" + (f", most {top} ({most:,})" if top is not None else "")


VIEW = View(
    tables=tables,
    charts=(confusion, classes, calibration),
    tiles=("log_loss", "accuracy", "f1_macro"),
    summary=summary,
    words=words,
    slice_heads=("called rightly", "sure by"),
    slice_cells=slice_cells,
    label_head="classes",
    label_cell=format_classes,
    largest=largest,
)
