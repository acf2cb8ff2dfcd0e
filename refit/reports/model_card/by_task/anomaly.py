"""Report on an anomaly detector: its mass-volume curve, and what a budget finds where labels are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refit.evaluation.details.anomaly import AnomalyDetails, AnomalyFacts
from refit.reports.drawing import COLOURS, HALF, chart, dots, legend, new_figure, write_csv
from refit.reports.model_card.by_task import View
from refit.schemas.evaluation import Evaluation, Facts


def _details(evaluation: Evaluation) -> AnomalyDetails:
    return evaluation.details.of_kind(AnomalyDetails)


def tables(folder: Path, evaluation: Evaluation) -> None:
    details = _details(evaluation)
    rows = (
        (model, mass, volume)
        for model, volumes in details.log_volumes.items()
        for mass, volume in zip(details.masses, volumes, strict=True)
    )
    write_csv(folder / "mass_volume.csv", ("model", "mass", "log_volume"), rows)
    budgets = ((m, p.budget, p.precision, p.recall) for m, points in details.budgets.items() for p in points)
    write_csv(folder / "budgets.csv", ("model", "budget", "precision", "recall"), budgets)


@chart("numbers", "Mass-volume curve: the log of the volume that holds a share of the rows; lower is better.")
def mass_volume(evaluation: Evaluation) -> Any:
    details = _details(evaluation)
    figure, axes = new_figure("How little room the usual rows take", (HALF, 3.3))
    for model, volumes in details.log_volumes.items():
        points = [(mass, each) for mass, each in zip(details.masses, volumes, strict=True) if each is not None]
        axes.plot(*zip(*points, strict=True), color=COLOURS[model], label=model)
    axes.set(xlabel="share of the rows", ylabel="log volume")
    legend(axes)
    return figure


@chart("numbers", "The share of all labelled anomalies among the most unusual rows.")
def budgets(evaluation: Evaluation) -> Any:
    if not (by_model := _details(evaluation).budgets):
        return None
    figure, axes = new_figure("What a budget finds", (HALF, 3.3))
    for model, points in by_model.items():
        drawn = [(each.budget, each.recall) for each in points]
        axes.plot(*zip(*drawn, strict=True), color=COLOURS[model], label=model)
        dots(axes, drawn, COLOURS[model], 4)
    axes.set(xlabel="share of the rows looked at", ylabel="share of the anomalies found", ylim=(0, 1))
    legend(axes)
    return figure


def summary(evaluation: Evaluation) -> Iterator[str]:
    flagged = evaluation.metrics["candidate"]["flagged"].value
    if flagged is not None:
        yield f"It calls {flagged:.1%} of the test rows anomalies."
    for metric, words in (("roc_auc", "ROC AUC"), ("average_precision", "average precision")):
        ours, naive = (evaluation.metrics[model][metric] for model in ("candidate", "baseline"))
        if ours.value is not None and naive.value is not None:
            yield (
                f"Judged by labels that no fit has seen, its {words} is {ours.value:.3f}"
                f"{ours.between('{:.3f}'.format)}; the distance to the mean has {naive.value:.3f}."
            )


def slice_cells(facts: Facts) -> tuple[str, str]:
    of_anomalies = facts.of_kind(AnomalyFacts)
    return f"{of_anomalies.flagged:.1%}", f"{of_anomalies.positive:,}"


VIEW = View(
    tables=tables,
    charts=(mass_volume, budgets),
    tiles=("log_volume", "roc_auc", "average_precision"),
    summary=summary,
    slice_heads=("called anomalies", "labelled anomalies"),
    slice_cells=slice_cells,
    label_head="anomalies",
    label_cell=lambda labels: f"{labels.get('positive', '–')}",
)
