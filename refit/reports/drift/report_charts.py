"""Charts of the drift report: skill by window, columns by window, and distributions then and now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from refit.drift.inputs import WORDS
from refit.reports.drawing import (
    BAD,
    COLOURS,
    FULL,
    GRID,
    INK,
    PAPER,
    QUIET,
    THIRD,
    intervals,
    legend,
    list_down,
    new_figure,
    short_name,
    tip,
)
from refit.schemas.drift_decision import (
    BacktestWindow,
    CategoryDistribution,
    ColumnDrift,
    DayWindow,
    Distribution,
    JudgedWindow,
    NumberDistribution,
    PerformanceVerdict,
)

Skill = BacktestWindow | PerformanceVerdict
Point = tuple[int, DayWindow, Skill]  # x, and what is shown there

MOST_CELLS = 8  # in a row of the heat map, which keep their width where there are fewer
SCALE = {0.0: "0", 0.5: "half", 0.95: "just below", 1.0: "1× what is drift", 3.0: "3× and more"}


def performance(backtest: Sequence[BacktestWindow], windows: Sequence[JudgedWindow]) -> Any:
    """Skill of each window, first of the backtest and then of production; None if there is no skill.

    The usual range is a band, and the numbers of a dot are its tooltip.
    """
    measured = [window.performance for window in windows]
    shown: list[Skill] = [*backtest, *measured]
    if all(value is None for each in shown for value in (each.skill, each.estimated_skill)):
        return None
    gap = 1 if backtest and windows else 0
    past: list[Point] = [(x, window, window) for x, window in enumerate(backtest)]
    now: list[Point] = [(len(backtest) + gap + x, window, window.performance) for x, window in enumerate(windows)]
    figure, axes = new_figure("Skill of each window", (FULL, 3.7))
    _usual(axes, [(len(backtest) + gap + x, each) for x, each in enumerate(measured)])
    for points, colour, label in ((past, COLOURS["baseline"], "backtest"), (now, COLOURS["candidate"], "production")):
        if points:
            _skill(axes, points, colour, label)
    axes.plot([], [], color=COLOURS["champion"], linestyle="--", linewidth=1.4, label="estimated without labels")
    if any(each.breached for each in measured):
        axes.plot([], [], "o", color=BAD, markersize=6, label="lost")
    if past and now:
        axes.axvline(len(past), color=GRID, linewidth=1.5)
    positions = [*past, *now]
    marks = positions[:: max(1, math.ceil(len(positions) / 14))]
    axes.set_xticks([x for x, *_ in marks], [f"{window.first:%m-%d}" for _, window, _ in marks])
    axes.set(xlabel="first day of the window", ylabel="skill", xlim=(-0.6, len(positions) + gap - 0.4))
    legend(axes)
    return figure


def _usual(axes: Any, now: Sequence[tuple[int, PerformanceVerdict]]) -> None:
    """The mean of the backtest, and a band around it whose lower end is the threshold."""
    expected = next((each.expected for _, each in reversed(now) if each.expected is not None), None)
    if expected is not None:
        axes.axhline(expected, color=QUIET, linestyle=":", linewidth=1)
    for x, each in now:
        if each.usual:
            axes.fill_between([x - 0.5, x + 0.5], *each.usual, color=COLOURS["candidate"], alpha=0.11, linewidth=0)
            axes.hlines(each.usual[0], x - 0.5, x + 0.5, color=INK, linestyle="--", linewidth=1.2)


def _skill(axes: Any, points: Sequence[Point], colour: str, label: str) -> None:
    x = [index for index, *_ in points]
    intervals(axes, x, [each for *_, each in points], colour)
    estimated = [_or_nan(each.estimated_skill) for *_, each in points]
    axes.plot(x, estimated, color=COLOURS["champion"], linestyle="--", linewidth=1.4)
    axes.plot(x, [_or_nan(each.skill) for *_, each in points], color=colour, label=label)
    for index, window, each in points:
        if each.skill is None:
            continue
        lost = isinstance(each, PerformanceVerdict) and each.breached
        (dot,) = axes.plot(index, each.skill, "o", color=BAD if lost else colour, markersize=7 if lost else 5)
        band = "" if each.lower is None or each.upper is None else f" ({each.lower:.3f} to {each.upper:.3f})"
        threshold = each.threshold if isinstance(each, PerformanceVerdict) else None
        limit = "" if threshold is None else f", breached below {threshold:.3f}"
        tip(dot, f"{window}: skill {each.skill:.3f}{band}{limit}")


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def heat_map(columns: Sequence[str], windows: Sequence[JudgedWindow]) -> Any:
    """A row for each column and a cell for each window: its largest effect as a multiple of the threshold.

    None if there is nothing to show. The effects of each cell are its tooltip.
    """
    if not columns or not windows:
        return None
    from matplotlib.patches import Patch

    figure, axes = new_figure("Drift of each column in each window", (FULL, 1.2 + 0.21 * len(columns)))
    by_column = [{each.column: each for each in window.inputs.columns} for window in windows]
    for row, column in enumerate(columns):
        for index, window in enumerate(windows):
            _cell(axes, index, row, by_column[index].get(column), f"{column}, {window}")
    list_down(axes, [short_name(column, 30) for column in columns])
    axes.set_xticks(range(len(windows)), [f"{window.first:%m-%d}" for window in windows])
    axes.set(xlim=(-0.5, max(len(windows), MOST_CELLS) - 0.5))
    axes.set_xlabel("first day of the window", loc="left")
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    handles = [
        Patch(facecolor=colour, alpha=opacity, linewidth=0, label=label)
        for (colour, opacity), label in ((_colour(ratio), label) for ratio, label in SCALE.items())
    ]
    handles.append(Patch(fill=False, edgecolor=INK, linewidth=1.4, label="drifted"))
    legend(axes, handles=handles)
    return figure


def _cell(axes: Any, x: int, y: int, drift: ColumnDrift | None, name: str) -> None:
    from matplotlib.patches import Rectangle

    box = partial(Rectangle, (x - 0.48, y - 0.44), 0.96, 0.88)
    if drift is None or not drift.comparisons:
        empty = axes.add_patch(box(fill=False, edgecolor=GRID, linestyle="--"))
        return tip(empty, f"{name}: {'cannot be judged' if drift and drift.unjudged else 'not measured'}")
    ratio = drift.severity
    colour, opacity = _colour(ratio)
    cell = axes.add_patch(box(facecolor=colour, alpha=opacity, linewidth=0))
    if drift.breached:
        axes.add_patch(box(fill=False, edgecolor=INK, linewidth=1.4))
    numbers = "; ".join(
        [
            *(f"{WORDS[each.statistic]} {each.size:.3f} of {each.limit:.3f}" for each in drift.comparisons),
            *(f"{WORDS[each]} cannot be judged" for each in drift.unjudged),
        ]
    )
    tip(cell, f"{name}: {numbers}" + (" · drifted" if drift.breached else ""))
    if ratio >= 1:
        text = f"{ratio:.1f}×" if ratio < 100 else "99×+"
        axes.text(x, y, text, ha="center", va="center", color=PAPER, fontweight="bold")
    return None


def _colour(ratio: float) -> tuple[str, float]:
    """The colour and the opacity of a cell: the stronger the drift, the less of the paper shows through."""
    if ratio >= 1:
        return BAD, round(0.72 + 0.28 * min((ratio - 1) / 2, 1), 2)
    return COLOURS["candidate"], round(0.05 + 0.5 * ratio, 2)


def distribution(each: Distribution) -> Any:
    """One column then and now; None if there is nothing to draw."""
    return _categories(each) if isinstance(each, CategoryDistribution) else _numbers(each)


def _numbers(each: NumberDistribution) -> Any:
    if len(each.edges) < 2:
        return None
    figure, axes = new_figure("", (THIRD, 1.8))
    axes.stairs(each.then, each.edges, color=COLOURS["baseline"], fill=True, alpha=0.45)
    axes.stairs(each.then, each.edges, color=COLOURS["baseline"], linewidth=1.2, label="then")
    axes.stairs(each.now, each.edges, color=COLOURS["candidate"], fill=True, alpha=0.18)
    axes.stairs(each.now, each.edges, color=COLOURS["candidate"], linewidth=1.6, label="now")
    axes.set(ylabel="share", xlim=(each.edges[0], each.edges[-1]))
    axes.set_ylim(bottom=0)
    return figure


def _categories(each: CategoryDistribution) -> Any:
    rows = list(zip(each.names, each.then, each.now, strict=True))
    rows += [
        (f"({words})", *shares)
        for shares, words in ((each.other, "other names"), (each.unseen, "unseen before"))
        if any(shares)
    ]
    figure, axes = new_figure("", (THIRD, 0.3 + 0.27 * len(rows)))
    for row, (name, then, now) in enumerate(rows):
        bar = axes.barh(row - 0.2, then, color=COLOURS["baseline"], height=0.34)[0]
        axes.barh(row + 0.2, now, color=COLOURS["candidate"], height=0.34)
        tip(bar, f"{name}: {then:.1%} → {now:.1%}")
        at = (max(then, now), row)
        axes.annotate(f"{then:.1%} → {now:.1%}", at, (5, 0), textcoords="offset points", va="center", color=QUIET)
    list_down(axes, [short_name(name) for name, *_ in rows])
    axes.set(xticks=[], xlim=(0, 1.6 * (max(max(then, now) for _, then, now in rows) or 1.0)))
    axes.spines["bottom"].set_visible(False)
    return figure
