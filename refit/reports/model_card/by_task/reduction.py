"""Report on a dimension reduction: the map of the test rows, and how much of the variance it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refit.evaluation.details.reduction import ReductionDetails, ReductionFacts
from refit.reports.drawing import FULL, GROUPS, INK, QUIET, chart, dots, new_figure, write_csv
from refit.reports.model_card.by_task import View
from refit.schemas.evaluation import Evaluation, Facts


def _details(evaluation: Evaluation) -> ReductionDetails:
    return evaluation.details.of_kind(ReductionDetails)


def tables(folder: Path, evaluation: Evaluation) -> None:
    rows = ((each.x, each.y, each.group) for each in _details(evaluation).points)
    write_csv(folder / "map.csv", ("component_1", "component_2", "group"), rows)


@chart("numbers", "Test rows on the first two coordinates, each group with its name at its middle.")
def map_of_rows(evaluation: Evaluation) -> Any:
    details = _details(evaluation)
    by = f", by {details.coloured_by}" if details.coloured_by else ""
    figure, axes = new_figure(f"The map{by}", (FULL, 6.2))
    for number, group in enumerate(sorted({each.group for each in details.points})):
        points = [(each.x, each.y) for each in details.points if each.group == group]
        dots(axes, points, GROUPS[number % len(GROUPS)], 3, alpha=0.6)
        if group:
            x, y = (sorted(values)[len(points) // 2] for values in zip(*points, strict=True))
            axes.annotate(group, (x, y), ha="center", va="center", color=INK, fontsize=11, fontweight="bold")
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    axes.grid(visible=True, axis="both")
    axes.tick_params(colors=QUIET)
    return figure


def summary(evaluation: Evaluation) -> Iterator[str]:
    restored, trust = _details(evaluation).restored, evaluation.metrics["candidate"]["trustworthiness"]
    if restored.value is not None:
        yield f"It restores {restored.value:.1%} of the variance{restored.between('{:.1%}'.format)}."
    if trust.value is not None:
        yield (
            f"Neighbours on the map can be trusted by {trust.value:.3f}{trust.between('{:.3f}'.format)}: 1 if they are "
            "neighbours in the features too, about a half by chance."
        )


def slice_cells(facts: Facts) -> tuple[str, str]:
    means = facts.of_kind(ReductionFacts)
    return f"{means.x:.3g}", f"{means.y:.3g}"


VIEW = View(
    tables=tables,
    charts=(map_of_rows,),
    tiles=("reconstruction_error", "trustworthiness"),
    summary=summary,
    slice_heads=("mean of the first", "of the second coordinate"),
    slice_cells=slice_cells,
    label_head="map",
)
