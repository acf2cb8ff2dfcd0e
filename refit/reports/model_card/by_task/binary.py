"""Report on binary probabilities: ROC, precision and recall, calibration, and classes at the threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from refit.evaluation.curves import CurvePoints
from refit.evaluation.details.binary import BinaryDetails, BinaryFacts
from refit.reports.drawing import COLOURS, HALF, QUIET, chart, legend, new_figure, write_csv
from refit.reports.model_card.by_task import View
from refit.reports.model_card.probability_charts import reliability, shaded_cells
from refit.reports.templates import percent
from refit.schemas.evaluation import Evaluation, Facts
from refit.schemas.measured import Measured

CLASSES = ("negative", "positive")


def _details(evaluation: Evaluation) -> BinaryDetails:
    return evaluation.details.of_kind(BinaryDetails)


def tables(folder: Path, evaluation: Evaluation) -> None:
    details = _details(evaluation)
    curves = details.curves
    write_csv(folder / "roc.csv", ("model", "false_positive_rate", "true_positive_rate"), _lines(curves.roc))
    write_csv(folder / "precision_recall.csv", ("model", "recall", "precision"), _lines(curves.precision_recall))
    rows: Iterable[Sequence[Any]] = ((b.predicted, b.observed.value, b.rows) for b in details.calibration.bins)
    write_csv(folder / "calibration.csv", ("predicted", "observed", "rows"), rows)
    counts = zip(CLASSES, details.confusion.cells, strict=True)
    rows = ((label, name, count) for label, row in counts for name, count in zip(CLASSES, row, strict=True))
    write_csv(folder / "confusion.csv", ("actual", "predicted", "rows"), rows)


def _lines(by_model: Mapping[str, CurvePoints]) -> Iterable[Sequence[Any]]:
    return ((model, x, y) for model, points in by_model.items() for x, y in points)


@chart("numbers", "Positives found against false alarms; dotted: chance.")
def roc(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("Positives found against false alarms (ROC)", (HALF, 4.1))
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1)
    _models(axes, evaluation, _details(evaluation).curves.roc, "roc_auc")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    return figure


@chart("numbers", "Precision at each recall; dotted: the rate of all rows, which is chance.")
def precision_recall(evaluation: Evaluation) -> Any:
    figure, axes = new_figure("Precision at each recall", (HALF, 4.1))
    details = _details(evaluation)
    axes.axhline(details.calibration.observed, color=QUIET, linestyle=":", linewidth=1)
    _models(axes, evaluation, details.curves.precision_recall, "average_precision")
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    return figure


def _models(axes: Any, evaluation: Evaluation, curves: Mapping[str, CurvePoints], metric: str) -> None:
    for name, points in reversed([*curves.items()]):  # the candidate last, on top
        value = evaluation.metrics[name][metric].value
        label = name if value is None else f"{name} {value:.3f}"
        axes.plot(*zip(*points, strict=True), color=COLOURS[name], label=label)
    legend(axes)


@chart("numbers", "The test rows of each class, by what they are called.")
def confusion(evaluation: Evaluation) -> Any:
    matrix = _details(evaluation).confusion
    cells = matrix.cells
    figure, axes = new_figure(f"Calls at threshold {matrix.threshold:.3f}", (HALF, 2.9))
    shaded_cells(axes, cells, [*map(sum, cells)], lambda rows, share: f"{rows:,}\n{share:.0%} of the row", fontsize=10)
    axes.set_xticks([0, 1], ["called negative", "called positive"])
    axes.set_yticks([0, 1], ["negative", "positive"])
    axes.set_xlabel(f"{sum(map(sum, cells)):,} test rows")
    return figure


@chart("calibration", "Rows in tenths by prediction, with intervals; dotted: a perfect forecaster.")
def calibration(evaluation: Evaluation) -> Any:
    return reliability(
        _details(evaluation).calibration, "What was predicted, and what came true", "mean prediction", "observed rate"
    )


@chart("calibration", "The probabilities that rows of each class were given; dotted: the threshold.")
def scores(evaluation: Evaluation) -> Any:
    details = _details(evaluation)
    report, threshold, edges = details.curves.scores, details.confusion.threshold, details.curves.scores.edges
    rows = list(zip(report.negative, report.positive, strict=True))
    filled = [index for index, both in enumerate(rows) if any(both)]
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    figure, axes = new_figure("Which probabilities each class was given", (HALF, 4.1))
    for name, counts, role in (("negative", report.negative, "baseline"), ("positive", report.positive, "candidate")):
        colour, total = COLOURS[role], max(sum(counts), 1)
        shares = [count / total for count in counts[filled[0] : filled[-1] + 1]]
        steps = edges[filled[0] : filled[-1] + 2]
        axes.stairs(shares, steps, color=colour, fill=True, alpha=0.35)
        axes.stairs(shares, steps, color=colour, linewidth=1.4, label=f"{name}, {total:,} rows")
    if low <= threshold <= high:
        axes.axvline(threshold, color=QUIET, linestyle=":", linewidth=1)
    axes.set(xlabel="predicted probability", ylabel="share of the class")
    legend(axes)
    return figure


def summary(evaluation: Evaluation) -> Iterator[str]:
    ours, naive = (evaluation.metrics[model] for model in ("candidate", "baseline"))
    if ours["roc_auc"].value is not None:
        yield (
            f"Given one row that came true and one that did not, it ranks them rightly {_times(ours['roc_auc'])}; "
            "a coin does so 50 times."
        )
    if (loss := ours["log_loss"].value) and (guess := naive["log_loss"].value):
        change = 1 - loss / guess
        side = "less" if change > 0 else "more"
        yield f"Its probabilities cost {abs(change):.1%} {side} log loss than the base rate alone."


def _times(auc: Measured) -> str:
    def hundredfold(value: float) -> str:
        return f"{100 * value:.1f}"

    return f"{hundredfold(auc.value or 0.0)} times in 100{auc.between(hundredfold)}"


def words(evaluation: Evaluation) -> str:
    """Whether predicted and observed rates agree, overall and bin by bin."""
    report = _details(evaluation).calibration
    predicted, observed = report.predicted or 0.0, report.observed or 0.0
    error = evaluation.metrics["candidate"]["calibration_error"].value
    gap = predicted - observed
    if abs(gap) < 0.005:
        overall = f"On the whole it predicted {predicted:.1%}, and {observed:.1%} came true"
    else:
        side = "more" if gap > 0 else "less"
        overall = f"On the whole it predicted {predicted:.1%}, which is {side} than the {observed:.1%} that came true"
    where = f"{report.off_diagonal} bins lie off the diagonal by more than their interval"
    return f"{overall}; the mean distance is {error:.1%}, and {where}."


def slice_cells(facts: Facts) -> tuple[str, str]:
    rates = facts.of_kind(BinaryFacts)
    return percent(rates.rate), percent(rates.predicted)


def values(evaluation: Evaluation) -> Mapping[str, Any]:
    """The place of the candidate's own threshold among those that the card's slider goes through."""
    details = _details(evaluation)
    thresholds = [threshold for threshold, *_ in details.thresholds]
    return {"own_threshold": thresholds.index(details.confusion.threshold) if thresholds else 0}


VIEW = View(
    tables=tables,
    charts=(roc, precision_recall, confusion, calibration, scores),
    tiles=("roc_auc", "log_loss", "calibration_error"),
    summary=summary,
    words=words,
    slice_heads=("came true", "predicted"),
    slice_cells=slice_cells,
    label_head="positive",
    label_cell=lambda labels: f"{labels['positive']:,.0f}",
    values=values,
)
