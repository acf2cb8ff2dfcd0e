"""Writes the report of a replay: scores over time by policy, costs, and the reasons for each training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any

from refit.files import artifacts
from refit.plain_text import number
from refit.problems import metric_named
from refit.reports import templates
from refit.reports.drawing import (
    BAD,
    COLOURS,
    FULL,
    GOOD,
    INK,
    PAPER,
    drawn,
    name_columns,
    new_figure,
    short_name,
    styled,
    tip,
)
from refit.reports.replay_words import recommendation, verdict
from refit.schemas.replay_result import PolicyResult, ReplayResult, WindowResult

REPORT = "report.html"
RESULT = "replay.json"
SCORES = (
    "A filled dot: a new model was promoted at the beginning of that window; a hollow one: one was trained and "
    "refused by the gate."
)
LINES = (*(COLOURS[role] for role in ("baseline", "champion", "anchor", "candidate")), GOOD, BAD)
LONGEST = 30  # characters of names that fit next to each other
WIDTHS = (8, 6.5, 5, 3.5, 2, 1.4)  # later lines do not hide earlier ones where they are equal


def write(folder: Path, result: ReplayResult, zone: tzinfo = UTC) -> Path:
    """Write the page, with times in a zone, and the numbers to a folder. Returns the path of the page."""
    result.write(folder / RESULT)
    with artifacts.atomic(folder / REPORT) as scratch:
        scratch.write_text(render(result, zone), encoding="utf-8")
    return folder / REPORT


def render(result: ReplayResult, zone: tzinfo = UTC) -> str:
    """Render the page, without scripts or external links, with every value escaped."""
    metric = metric_named(result.metric).words
    with styled():
        figure = chart(result.policies, metric)
        charts = [drawn(figure, "scores", SCORES)] if figure else []
    return templates.render(
        "replay_report.html.j2",
        zone=zone,
        result=result,
        metric=metric,
        verdict=verdict(result),
        recommended=recommendation(result) if result.knee else None,
        meaning=_meaning(result),
        charts=charts,
    )


def _meaning(result: ReplayResult) -> str:
    """The policies with fewer retrainings that are not shown to be worse."""
    if result.best is None:
        return "Give a larger --budget, or more time."
    best = result.policies[result.best]
    not_worse = [
        f"{name} ({each.retrainings})"
        for name, each in result.policies.items()
        if each.retrainings < best.retrainings and each.behind_best.lower is not None and each.behind_best.lower <= 0
    ]
    if not best.retrainings:
        return ""
    if not not_worse:
        return "Every policy with fewer retrainings was worse by more than chance explains, or there is none."
    return f"With fewer retrainings, and not shown to be worse: {', '.join(not_worse)}."


def chart(policies: Mapping[str, PolicyResult], metric: str) -> Any:
    """A line for each policy with a point for each window; None without a score."""
    windows = next(iter(policies.values())).by_window
    if not any(window.score is not None for each in policies.values() for window in each.by_window):
        return None
    figure, axes = new_figure(f"{metric} of each window by policy", (FULL, 3.8 + 0.05 * len(policies)))
    for index, (name, each) in enumerate(policies.items()):
        style = index % len(LINES)
        scores = [math.nan if window.score is None else window.score for window in each.by_window]
        label = short_name(name, 4 * LONGEST)
        axes.plot(range(len(scores)), scores, color=LINES[style], linewidth=WIDTHS[style], label=label)
        _mark_trainings(axes, name, each.by_window, LINES[style])
    name_columns(axes, [str(window.day) for window in windows])
    axes.set(xlabel="window from", ylabel=metric)
    columns = 3 if max(map(len, policies)) <= LONGEST else 1
    figure.legend(loc="outside lower left", ncols=columns)
    return figure


def _mark_trainings(axes: Any, name: str, windows: Sequence[WindowResult], colour: str) -> None:
    for x, window in enumerate(windows):
        if not window.trained or window.score is None:
            continue
        inside, edge = (colour, colour) if window.promoted else (PAPER, INK)
        (dot,) = axes.plot(x, window.score, "o", markersize=6, color=inside, markeredgecolor=edge)
        outcome = "was promoted" if window.promoted else "refused"
        tip(dot, f"{name}, {window.day}: {number(window.score)}, {outcome}")
