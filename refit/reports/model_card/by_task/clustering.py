"""Report on a clustering: how many segments, how stable, what sets each apart, and a map of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refit.errors import counted
from refit.evaluation.details.clustering import ClusteringDetails, ClusteringFacts
from refit.reports.drawing import (
    COLOURS,
    FULL,
    GROUPS,
    HALF,
    INK,
    QUIET,
    chart,
    dots,
    legend,
    list_down,
    new_figure,
    new_grid,
    spans,
    write_csv,
)
from refit.reports.model_card.by_task import View
from refit.schemas.evaluation import Evaluation, Facts
from refit.schemas.segment_study import SegmentStudy

STABLE = 0.8  # mean adjusted Rand index from which segments are called stable


def study_of(evaluation: Evaluation) -> SegmentStudy | None:
    """The study of the candidate's segments; None if the candidate is no clusterer."""
    return next((each.segments for each in evaluation.learners if each.segments), None)


def tables(folder: Path, evaluation: Evaluation) -> None:
    shares = evaluation.details.of_kind(ClusteringDetails).segments
    rows = ((each.name, each.rows, each.share.value, each.champion) for each in shares)
    write_csv(folder / "segments.csv", ("segment", "rows", "share", "champion"), rows)
    if study := study_of(evaluation):
        header = ("asked", "segments", "silhouette", "bic", "gap", "stability")
        write_csv(
            folder / "numbers_of_segments.csv",
            header,
            ((d.requested, d.segments, d.silhouette, d.bic, d.gap, d.stability) for d in study.divisions),
        )


@chart(
    "segments",
    "Numbers of segments compared on the training rows: silhouette and gap statistic (higher is better), BIC (lower is "
    "better), and stability, the mean adjusted Rand index of fits to bootstrap samples; the ring is the candidate's.",
)
def numbers_of_segments(evaluation: Evaluation) -> Any:
    if not (study := study_of(evaluation)) or len(study.divisions) < 2:
        return None
    figure, grid = new_grid("How many segments", (FULL, 2.7), columns=4)
    for axes, name in zip(grid[0], ("silhouette", "stability", "gap", "bic"), strict=True):
        points = [(each.requested, getattr(each, name)) for each in study.divisions if getattr(each, name) is not None]
        if not points:
            axes.set_axis_off()
            continue
        axes.plot(*zip(*points, strict=True), color=COLOURS["candidate"])
        dots(axes, points, COLOURS["candidate"], 4)
        for number, value in points:
            if number == study.chosen:
                axes.plot(number, value, "o", markersize=9, markerfacecolor="none", color=INK)
        if name == "stability":
            axes.axhline(STABLE, color=QUIET, linewidth=0.8, linestyle="--")
            axes.set_ylim(0, 1.05)
        axes.set(title={"bic": "BIC"}.get(name, name), xlabel="segments")
        axes.locator_params(axis="x", integer=True, nbins=6)
        axes.locator_params(axis="y", nbins=5)
    return figure


@chart("segments", "Training rows on the first two principal components of what is clustered.")
def segment_map(evaluation: Evaluation) -> Any:
    if not (study := study_of(evaluation)) or not study.points:
        return None
    figure, axes = new_figure("A map of the segments", (HALF, 4.1))
    for number, segment in enumerate(study.segments):
        points = [(each.x, each.y) for each in study.points if each.segment == segment.name]
        dots(axes, points, GROUPS[number % len(GROUPS)], 3.5, alpha=0.7)
        axes.plot([], [], "o", color=GROUPS[number % len(GROUPS)], markersize=4, label=segment.name)
    first, second = study.explained
    axes.set(
        xlabel=f"first component, {first:.0%} of the variance", ylabel=f"second component, {second:.0%} of the variance"
    )
    legend(axes, ncols=4)
    return figure


@chart("segments", "The share of each segment among the test rows, with intervals; the line marks the champion's.")
def shares(evaluation: Evaluation) -> Any:
    listed = evaluation.details.of_kind(ClusteringDetails).segments
    figure, axes = new_figure("Shares of the segments", (HALF, 1.2 + 0.3 * max(len(listed), 2)))
    rows = range(len(listed))
    axes.barh(rows, [each.share.value or 0.0 for each in listed], color=COLOURS["candidate"], height=0.6, alpha=0.8)
    spans(axes, rows, [each.share for each in listed], INK)
    for row, each in enumerate(listed):
        if each.champion is not None:
            axes.vlines(each.champion, row - 0.4, row + 0.4, color=COLOURS["champion"], linewidth=2.2)
    list_down(axes, [each.name for each in listed])
    axes.set(xlabel="share of the test rows", xlim=(0, None))
    return figure


def summary(evaluation: Evaluation) -> Iterator[str]:
    if not (study := study_of(evaluation)):
        return
    chosen = next((each for each in study.divisions if each.requested == study.chosen), None)
    count = len(study.segments)
    stable = chosen.stability if chosen else None
    steady = ""
    if stable is not None:
        word = "stable" if stable >= STABLE else "not stable"
        steady = f", {word}: fits to bootstrap samples agree with them by {stable:.2f} (mean adjusted Rand index)"
    yield f"It divides the rows into {counted(count, 'segment')}{steady}."
    for each in study.segments[:5]:
        yield f"{each.name.capitalize()} ({each.share:.0%}): {each.words}."


def slice_cells(facts: Facts) -> tuple[str, str]:
    of_segments = facts.of_kind(ClusteringFacts)
    return f"{of_segments.segments}", f"{of_segments.largest} ({of_segments.largest_share:.0%})"


VIEW = View(
    tables=tables,
    charts=(numbers_of_segments, segment_map, shares),
    tiles=("negative_log_likelihood", "silhouette"),
    summary=summary,
    slice_heads=("segments", "most"),
    slice_cells=slice_cells,
    label_head="segments",
    label_cell=lambda labels: f"{labels.get('segments', '–')}",
)
