"""Writes the drift report, one HTML file made from a stored decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refit.drift.inputs import WORDS
from refit.files import artifacts
from refit.problems import metric_named
from refit.reports import html_theme
from refit.reports.drift import report_charts as charts
from refit.reports.drift import report_words as words
from refit.reports.drift.report_page import PAGE, STYLE
from refit.runtime.context import Context

__all__ = ["REPORT", "render", "write"]

REPORT = artifacts.REPORTS / "drift" / "report.html"
MOST_COLUMNS = 36  # fill a printed page
MOST_DECISIONS = 20

Record = Mapping[str, Any]


def write(context: Context, decision: Record, decisions: Sequence[Record]) -> None:
    """Write `reports/drift/report.html`, without scripts or external links, with every value escaped."""
    with artifacts.atomic(context.path(REPORT)) as scratch:
        scratch.write_text(render(decision, decisions), encoding="utf-8")


def render(decision: Record, decisions: Sequence[Record]) -> str:
    """Render the page.

    Args:
        decision: the decision as stored.
        decisions: all stored decisions, oldest first; those of other models and later ones are left out.
    """
    windows, policy = decision["windows"], decision["policy"]
    newest = windows[-1]["inputs"]["columns"] if windows else []
    ranked = _ranked(windows)
    step, command = words.next_step(decision)
    drifted = sum(each["breached"] for each in newest)
    return html_theme.render(
        PAGE,
        style=STYLE,
        decision=decision,
        kind={"ok": "good", "warn": "warn", "retrain": "bad"}[decision["verdict"]],
        verdict=words.verdict(decision),
        reasons=words.reasons(decision),
        step=step,
        command=command,
        tiles=list(words.tiles(decision, drifted, len(newest))),
        span=f"{windows[0]['first']} up to {windows[-1]['end']}" if windows else None,
        newest=charts.dates(windows[-1]) if windows else None,
        performance=words.performance(decision),
        skills=charts.performance(decision["backtest"], windows),
        has_backtest=bool(decision["backtest"]),
        waiting=_waiting(windows),
        metric=metric_named(policy["metric"]).words,
        inputs=words.inputs(decision),
        heat_map=charts.heat_map(ranked[:MOST_COLUMNS], windows),
        legend=charts.legend(),
        left_out=len(ranked[MOST_COLUMNS:]),
        distributions=[_distribution(each, newest) for each in decision["distributions"]],
        columns=[_row(each, windows) for each in newest],
        most=MOST_COLUMNS,
        method=list(words.method(decision)),
        history=_history(decision, decisions),
    )


def _ranked(windows: Sequence[Record]) -> list[str]:
    """Columns ordered by their largest effect in any window."""
    worst: dict[str, float] = {}
    for window in windows:
        for each in window["inputs"]["columns"]:
            worst[each["column"]] = max(charts.severity(each), worst.get(each["column"], 0.0))
    return sorted(worst, key=lambda column: (-worst[column], column))


def _waiting(windows: Sequence[Record]) -> list[Record]:
    """The numbers of each window, newest first."""
    return [{"dates": charts.dates(window), **window["performance"]} for window in reversed(windows)]


def _distribution(each: Record, newest: Sequence[Record]) -> Record:
    drift = next(column for column in newest if column["column"] == each["column"])
    name, size, limit = max(charts.effects(drift), key=lambda effect: effect[1] / (effect[2] or 1), default=("", 0, 0))
    effect = f"{WORDS[name]} {size:.3f}, drift from {limit:.3f} on" if name else "no effect could be measured"
    return {**each, "breached": drift["breached"], "effect": effect, "chart": charts.distribution(each)}


def _row(each: Record, windows: Sequence[Record]) -> Record:
    times = sum(
        column["breached"]
        for window in windows
        for column in window["inputs"]["columns"]
        if column["column"] == each["column"]
    )
    effects = {
        name: {"size": size, "limit": limit, "over": size >= limit} for name, size, limit in charts.effects(each)
    }
    distance = "wasserstein" if each["kind"] != "category" else "jensen_shannon"
    return {**each, "cells": [effects.get(name) for name in ("psi", distance, "unseen", "missing")], "times": times}


def _history(decision: Record, decisions: Sequence[Record]) -> list[Record]:
    """Decisions on this model up to this one, newest first."""
    shown = [each for each in decisions if each["model"] == decision["model"] and each["as_of"] <= decision["as_of"]]
    return shown[::-1][:MOST_DECISIONS]
