"""`refit replay`: months of production in minutes, to choose a policy of retraining on one's own history."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from rich.console import Group, RenderableType
from rich.table import Column, Table

from flows.progress_display import screen, shown_on
from refit.config import nearest
from refit.errors import UserError
from refit.metrics import METRIC_WORDS
from refit.problems.windows import Period
from refit.runtime import lock, run_file
from refit.runtime.context import Context
from refit.runtime.terminal import Terminal, line

MOST_WINDOWS = 16  # shown on the screen; the report has all


def replay(
    project: Path,
    *,
    start: str,
    end: str,
    every: str | None,
    policies: str,
    metric: str | None,
    budget: int | None,
    random: int,
    overrides: Mapping[str, Any],
    wait_seconds: float,
    quiet: bool = False,
) -> dict[str, Any]:
    """Live through the time from `start` to `end`; returns what `--json` prints.

    Raises:
        UserError: an argument or the params do not stand, or there is nothing to live through.
        RefitError: another replay of this project is under way.
    """
    params = run_file.check(project, run_file.RunFile(overrides=dict(overrides)))
    every, metric = every or params.ingest.period, metric or params.evaluate.gate.metric
    _require("--every", every, get_args(Period))
    from refit.operations import replay as replaying
    from refit.operations.replay import policies as known
    from refit.operations.replay.history import PLACE
    from refit.operations.replay.scoring import metrics_of
    from refit.reports import replay_report

    _require("--metric", metric, metrics_of(params.task))
    asked = replaying.Asked(
        start,
        end,
        cast(Period, every),
        tuple(known.parse(policies, params.drift)),
        metric,
        budget,
        random,
    )
    if str(project) not in sys.path:
        sys.path.append(str(project))  # learners may lie in the project
    with (
        shown_on(Terminal(stderr=True), stages=False),
        lock.project_lock(project / PLACE, trigger="refit replay", wait_seconds=wait_seconds),
    ):
        told = replaying.run(Context(project=project, params=params, progress=screen()), asked)
        told["report"] = str(replay_report.write(project / PLACE, told))
    if not quiet:
        show(told, Terminal())
    return told


def _require(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{option} {value}{nearest(value, known)}; it is one of {', '.join(known)}")


def show(told: Mapping[str, Any], console: Terminal) -> None:
    """The policies side by side, their windows, and which of them did best."""
    metric = METRIC_WORDS[told["metric"]]
    console.print()
    console.print(f"{told['model']}, {told['from']} to {told['to']}, every {told['every']}", style="bold")
    table = Table(Column("policy", overflow="fold"), box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in (metric, "behind", "±", "retrained", "promoted", "refused", "train s", told["currency"]):
        table.add_column(name, justify="right")
    for name, each in told["policies"].items():
        style = "green" if name == told["best"] else ""
        counts = (str(each[what]) for what in ("retrainings", "promotions", "refusals"))
        spent = (f"{each['train_seconds']:.0f}", f"{each['train_cost']:.2g}")
        table.add_row(_lines(name), _number(each["score"]), *_behind(each), *counts, *spent, style=style)
    console.print(table)
    console.print("behind: the best policy's lead on the same rows, ± half its interval", style="italic")
    _windows(told, console)
    for name, each in told["policies"].items():
        if chance := each.get("random"):
            gain = chance["gain"]
            console.print(
                f"{name}: {gain['value']:+.4f} over the median of {chance['schedules']} random schedules of as many "
                f"trainings ({_between(gain)})"
            )
    if told["no_change"] is not None:
        console.print(f"saying what the last known label was: accuracy {told['no_change']:.4f}")
    within = "" if told["budget"] is None else f" with at most {told['budget']} retrainings"
    console.print(line((f"Best{within}:", "bold"), f" {told['best'] or f'none, {_why_none(told)}'}"))
    took = " · ".join(f"{part} {seconds:.1f} s" for part, seconds in told["parts"].items())
    console.print(
        line(("Took", "bold"), f" {told['seconds']:.1f} s: {took}; {told['trained_now']} models trained anew")
    )
    console.print(line(("Report", "bold"), f" {told['report']}"), soft_wrap=True)


def _windows(told: Mapping[str, Any], console: Terminal) -> None:
    """A row for each window, a column for each policy; a star where a new model took charge."""
    policies = told["policies"]
    windows = next(iter(policies.values()))["by_window"]
    if len(windows) > MOST_WINDOWS:
        return
    table = Table("window from", box=None, pad_edge=False)
    for name in policies:
        table.add_column(_lines(name), justify="right", overflow="fold")
    for place, window in enumerate(windows):
        found = [each["by_window"][place] for each in policies.values()]
        table.add_row(window["day"], *(f"{_number(each['score'])}{_mark(each)}" for each in found))
    console.print()
    console.print(table)
    console.print(
        "* a new model took charge, - one was trained and refused, – no score: nobody was in charge, or labels are "
        "missing or all alike",
        style="italic",
    )


def _lines(policy: str) -> RenderableType:
    """A policy's name with each of its settings on a line of its own."""
    first, *settings = policy.split(":")
    return Group(first, *(f":{each}" for each in settings))


def _between(gain: Mapping[str, float | None]) -> str:
    if gain["lower"] is None:
        return "too few windows for an interval"
    return f"between {gain['lower']:+.4f} and {gain['upper']:+.4f}"


def _why_none(told: Mapping[str, Any]) -> str:
    scored = any(each["score"] is not None for each in told["policies"].values())
    return "no policy keeps the budget" if scored else "no window has labels to score a model by"


def _mark(window: Mapping[str, Any]) -> str:
    return "*" if window["promoted"] else "-" if window["refused"] else " "


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _behind(each: Mapping[str, Any]) -> tuple[str, str]:
    """How far a policy lies behind the best, and half of that difference's interval."""
    found = each["behind_best"]
    if found["value"] is None or found["lower"] is None:
        return "–", ""
    return f"{found['value']:.4f}", f"{(found['upper'] - found['lower']) / 2:.4f}"
