"""Charts of the model card on the whole: the gate, each day of the test window, and slices."""

from __future__ import annotations

import math
from typing import Any

from refit.errors import counted
from refit.plain_text import signed
from refit.problems import metric_named
from refit.reports.drawing import (
    BAD,
    COLOURS,
    FULL,
    GOOD,
    GRID,
    INK,
    QUIET,
    chart,
    dots,
    legend,
    list_down,
    name_columns,
    new_figure,
    new_grid,
    roomy,
    short_name,
    signed_ticks,
    spans,
    tip,
)
from refit.schemas.evaluation import Evaluation
from refit.schemas.gate_decision import GainComparison

MOST_SLICES = 40


@chart("gate", "Each gain with its bounds. The lower end has to lie right of the margin, the dashed line.")
def gate(evaluation: Evaluation) -> Any:
    decision = evaluation.decision
    naive = [decision.naive] if decision.naive else []
    compared = [each for each in (*decision.compared, *naive) if each.estimate is not None]
    if not compared:
        return None
    slices = sorted((each for each in decision.slices if each.estimate is not None), key=_nearest_first)
    heights = [0.85] * len(compared) + ([0.5 + 0.24 * len(slices[:MOST_SLICES])] if slices else [])
    title = f"The gate: {'promote' if decision.promote else 'refuse'}"
    figure, rows = new_grid(title, (FULL, 0.9 + sum(heights)), rows=len(heights), height_ratios=heights)
    if slices:
        _gated(rows[-1, 0], slices)
    for axes, each in zip(rows[: len(compared), 0], compared, strict=True):
        _gain(axes, each)
    metric, sure = metric_named(decision.metric).words, f"{100 * decision.confidence:.5g}%"
    rows[-1, 0].set_xlabel(f"gain in {metric}, with {sure} one-sided bounds")
    return figure


def _nearest_first(gain: GainComparison) -> tuple[bool, float]:
    """Failing ones and those nearest to their margin first."""
    return gain.passed, (0.0 if gain.lower is None else gain.lower) - gain.must_exceed


def _gain(axes: Any, each: GainComparison) -> None:
    """One comparison on a number line."""
    colour, margin = GOOD if each.passed else BAD, each.must_exceed
    low, high = roomy([0.0, margin, *(end for end in (each.lower, each.upper) if end is not None)], 0.12)
    axes.axvspan(low, margin, color=BAD, alpha=0.07, linewidth=0)
    axes.axvline(0, color=GRID, linewidth=1.5, zorder=0)
    axes.axvline(margin, color=INK, linestyle="--", linewidth=1.2)
    right = margin < (low + high) / 2
    axes.annotate(
        f"has to exceed {signed(margin)}",
        (margin, 0.95),
        xytext=(4 if right else -4, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top",
        color=QUIET,
    )
    axes.hlines(0, each.lower, each.upper, color=colour, linewidth=6, alpha=0.35)
    axes.vlines(each.lower, -0.5, 0.5, color=colour, linewidth=2.2)
    _tipped_dot(axes, each, 0, colour, 8)
    axes.set(ylim=(-1, 1), yticks=[], xlim=(low, high))
    signed_ticks(axes)
    version = f" (version {each.version})" if each.version else ""
    verdict = "above the margin" if each.passed else "not shown to be above the margin"
    axes.set_title(f"against the {each.against}{version}: {verdict}", color=colour)
    axes.grid(visible=False)


def _tipped_dot(axes: Any, each: GainComparison, row: float, colour: str, size: float) -> None:
    (dot,) = axes.plot(each.estimate, row, "o", color=colour, markersize=size, markeredgewidth=0)
    bounds = "" if each.lower is None or each.upper is None else f" ({signed(each.lower)} to {signed(each.upper)})"
    tip(dot, f"{each.against}: gain {signed(each.estimate)}{bounds}, has to exceed {signed(each.must_exceed)}")


def _gated(axes: Any, slices: list[GainComparison]) -> None:
    """The slices one below another."""
    shown = slices[:MOST_SLICES]
    for row, each in enumerate(shown):
        colour = GOOD if each.passed else BAD
        axes.hlines(row, each.lower, each.upper, color=colour, linewidth=4, alpha=0.35)
        axes.vlines(each.lower, row - 0.3, row + 0.3, color=colour, linewidth=2)
        _tipped_dot(axes, each, row, colour, 5)
        axes.vlines(each.must_exceed, row - 0.42, row + 0.42, color=INK, linestyle="--", linewidth=1)
    axes.axvline(0, color=GRID, linewidth=1.5, zorder=0)
    list_down(axes, [short_name(each.against, 40) for each in shown])
    signed_ticks(axes)
    passed, more = sum(each.passed for each in slices), len(slices) - len(shown)
    title = f"against the champion on slices: {passed} of {len(slices)} judged are above their margins"
    colour = GOOD if passed == len(slices) else BAD
    axes.set_title(title + (f" ({more} not drawn)" if more else ""), color=colour)
    axes.grid(visible=False)


@chart("numbers", "Each model on each day of the test window.")
def daily(evaluation: Evaluation) -> Any:
    days = evaluation.daily
    metric = metric_named(evaluation.metric).words
    drawn = [name for name in reversed(COLOURS) if any(day.scores.get(name) is not None for day in days)]
    if not drawn or len(days) < 2:  # a table without times has one day: a chart of one dot
        return None
    figure, axes = new_figure(f"{metric} day by day", (FULL, 3.3))
    for name in drawn:
        scores = [day.scores[name] for day in days]
        values = [math.nan if each is None else each for each in scores]
        axes.plot(range(len(days)), values, color=COLOURS[name], label=name)
        dots(axes, [(index, each) for index, each in enumerate(scores) if each is not None], COLOURS[name], 4)
    name_columns(axes, [each.day[5:] for each in days])
    axes.set(xlabel="day of the test window", ylabel=metric)
    legend(axes)
    return figure


@chart("slices", "Parts of the test rows with their intervals; the line marks all rows together.")
def slices(evaluation: Evaluation) -> Any:
    parts = [(part, part.score) for part in evaluation.slices if part.score and part.score.value is not None]
    if not parts:
        return None
    shown, word = parts[:MOST_SLICES], metric_named(evaluation.metric).words
    more = f" ({len(parts) - len(shown)} more not drawn)" if len(parts) > len(shown) else ""
    figure, axes = new_figure(f"{word} on parts of the test rows{more}", (FULL, 1.1 + 0.21 * len(shown)))
    if (whole := evaluation.metrics["candidate"][evaluation.metric].value) is not None:
        axes.axvline(whole, color=QUIET, linewidth=1)
    spans(axes, range(len(shown)), [score for _, score in shown], COLOURS["candidate"], linewidth=2, alpha=0.5)
    for row, (part, score) in enumerate(shown):
        (dot,) = axes.plot(score.value, row, "o", color=COLOURS["candidate"], markersize=5)
        tip(dot, f"{part.by} {part.value}: {score.value:.4g} of {counted(part.rows, 'row')}")
    list_down(axes, [short_name(f"{part.by} {part.value}", 40) for part, _ in shown])
    axes.set_xlabel(word)
    return figure


CHARTS = (gate, daily, slices)
