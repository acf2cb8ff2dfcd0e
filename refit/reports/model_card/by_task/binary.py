"""Report on binary probabilities: ROC, precision and recall, calibration, and classes at the threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.reports.drawing import COLOURS, HALF, QUIET, chart, legend, new_figure, write_csv
from refit.reports.model_card.by_task import Report, View
from refit.reports.model_card.probability_charts import reliability, shaded_cells
from refit.reports.templates import count, percent

Floats = NDArray[np.float64]


def tables(folder: Path, evaluation: Report) -> None:
    points = evaluation["curves"]
    write_csv(folder / "roc.csv", ("model", "false_positive_rate", "true_positive_rate"), _lines(points["roc"]))
    write_csv(folder / "precision_recall.csv", ("model", "recall", "precision"), _lines(points["precision_recall"]))
    bins = evaluation["calibration"]["bins"]
    rows: Iterable[Sequence[Any]] = ((b["predicted"], b["observed"]["value"], b["rows"]) for b in bins)
    write_csv(folder / "calibration.csv", ("predicted", "observed", "rows"), rows)
    matrix = evaluation["confusion"]
    calls = [(a, c) for a in ("negative", "positive") for c in ("negative", "positive")]
    rows = ((a, c, matrix[f"{'true' if a == c else 'false'}_{c}"]) for a, c in calls)
    write_csv(folder / "confusion.csv", ("actual", "predicted", "rows"), rows)


def _lines(by_model: dict[str, list[tuple[float, float]]]) -> Iterable[Sequence[Any]]:
    return ((model, x, y) for model, points in by_model.items() for x, y in points)


@chart("numbers", "Positives found against false alarms; dotted: chance.")
def roc(evaluation: Report) -> Any:
    figure, axes = new_figure("Positives found against false alarms (ROC)", (HALF, 4.1))
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1)
    _models(axes, evaluation, "roc", "roc_auc")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    return figure


@chart("numbers", "Precision at each recall; dotted: the rate of all rows, which is chance.")
def precision_recall(evaluation: Report) -> Any:
    figure, axes = new_figure("Precision at each recall", (HALF, 4.1))
    axes.axhline(evaluation["calibration"]["observed"], color=QUIET, linestyle=":", linewidth=1)
    _models(axes, evaluation, "precision_recall", "average_precision")
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    return figure


def _models(axes: Any, evaluation: Report, curve: str, metric: str) -> None:
    for name, points in reversed(evaluation["curves"][curve].items()):  # the candidate last, on top
        value = evaluation["metrics"][name][metric]["value"]
        label = name if value is None else f"{name} {value:.3f}"
        axes.plot(*zip(*points, strict=True), color=COLOURS[name], label=label)
    legend(axes)


@chart("numbers", "The test rows of each class, by what they are called.")
def confusion(evaluation: Report) -> Any:
    matrix = evaluation["confusion"]
    cells = [
        [matrix["true_negative"], matrix["false_positive"]],
        [matrix["false_negative"], matrix["true_positive"]],
    ]
    figure, axes = new_figure(f"Calls at threshold {matrix['threshold']:.3f}", (HALF, 2.9))
    shaded_cells(axes, cells, [*map(sum, cells)], lambda rows, share: f"{rows:,}\n{share:.0%} of the row", fontsize=10)
    axes.set_xticks([0, 1], ["called negative", "called positive"])
    axes.set_yticks([0, 1], ["negative", "positive"])
    axes.set_xlabel(f"{sum(map(sum, cells)):,} test rows")
    return figure


@chart("calibration", "Rows in tenths by prediction, with intervals; dotted: a perfect forecaster.")
def calibration(evaluation: Report) -> Any:
    return reliability(evaluation, "What was predicted, and what came true", "mean prediction", "observed rate")


@chart("calibration", "The probabilities that rows of each class were given; dotted: the threshold.")
def scores(evaluation: Report) -> Any:
    report, threshold = evaluation["curves"]["scores"], evaluation["confusion"]["threshold"]
    edges, rows = report["edges"], list(zip(report["negative"], report["positive"], strict=True))
    filled = [index for index, both in enumerate(rows) if any(both)]
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    figure, axes = new_figure("Which probabilities each class was given", (HALF, 4.1))
    for name, colour in (("negative", COLOURS["baseline"]), ("positive", COLOURS["candidate"])):
        total = max(sum(report[name]), 1)
        shares = [count / total for count in report[name][filled[0] : filled[-1] + 1]]
        steps = edges[filled[0] : filled[-1] + 2]
        axes.stairs(shares, steps, color=colour, fill=True, alpha=0.35)
        axes.stairs(shares, steps, color=colour, linewidth=1.4, label=f"{name}, {total:,} rows")
    if low <= threshold <= high:
        axes.axvline(threshold, color=QUIET, linestyle=":", linewidth=1)
    axes.set(xlabel="predicted probability", ylabel="share of the class")
    legend(axes)
    return figure


def summary(evaluation: Report) -> Iterator[str]:
    ours = evaluation["metrics"]["candidate"]
    if (auc := ours["roc_auc"])["value"] is not None:
        yield (
            f"Given one row that came true and one that did not, it ranks them rightly {_times(auc)}; "
            "a coin does so 50 times."
        )
    if (loss := ours["log_loss"]["value"]) and (naive := evaluation["metrics"]["baseline"]["log_loss"]["value"]):
        change = 1 - loss / naive
        side = "less" if change > 0 else "more"
        yield f"Its probabilities cost {abs(change):.1%} {side} log loss than the base rate alone."


def _times(auc: Report) -> str:
    times = f"{100 * auc['value']:.1f} times in 100"
    return times if auc["lower"] is None else f"{times} (between {100 * auc['lower']:.1f} and {100 * auc['upper']:.1f})"


def words(evaluation: Report) -> str:
    """Whether predicted and observed rates agree, overall and bin by bin."""
    report = evaluation["calibration"]
    predicted, observed = report["predicted"], report["observed"]
    bins = [each for each in report["bins"] if each["observed"]["lower"] is not None]
    off = [each for each in bins if not each["observed"]["lower"] <= each["predicted"] <= each["observed"]["upper"]]
    error = evaluation["metrics"]["candidate"]["calibration_error"]["value"]
    gap = predicted - observed
    if abs(gap) < 0.005:
        overall = f"On the whole it predicted {predicted:.1%}, and {observed:.1%} came true"
    else:
        side = "more" if gap > 0 else "less"
        overall = f"On the whole it predicted {predicted:.1%}, which is {side} than the {observed:.1%} that came true"
    where = f"{len(off) or 'none'} of {len(bins)} bins lie off the diagonal by more than their interval"
    return f"{overall}; the mean distance is {error:.1%}, and {where}."


VIEW = View(
    tables=tables,
    charts=(roc, precision_recall, confusion, calibration, scores),
    tiles=("roc_auc", "log_loss", "calibration_error"),
    summary=summary,
    words=words,
    slice_heads=("came true", "predicted"),
    slice_cells=lambda part: (percent(part["rate"]), percent(part["predicted"])),
    label_head="positive",
    label_cell=lambda window: count(window["positive"]),
)
