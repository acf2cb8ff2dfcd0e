"""Writes the drift report: one HTML file that a person enjoys, made from the decision as it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refit.drift.inputs import WORDS
from refit.files import artifacts
from refit.metrics import METRIC_WORDS
from refit.reports import html_theme
from refit.reports.drift import report_charts as charts
from refit.reports.drift import report_words as words
from refit.reports.drift.report_page import PAGE, STYLE
from refit.runtime.context import Context

__all__ = ["REPORT", "render", "write"]

REPORT = artifacts.REPORTS / "drift" / "report.html"
MOST_COLUMNS = 36  # fill a printed page
MOST_DECISIONS = 20

Told = Mapping[str, Any]


def write(context: Context, told: Told, decisions: Sequence[Told]) -> None:
    """Write `reports/drift/report.html`: no script, no link to elsewhere, every value escaped."""
    with artifacts.atomic(context.path(REPORT)) as scratch:
        scratch.write_text(render(told, decisions), encoding="utf-8")


def render(told: Told, decisions: Sequence[Told]) -> str:
    """The page's HTML.

    Args:
        told: a decision as it is stored.
        decisions: all that are stored, oldest first; those of other models and later ones are left out.
    """
    windows, policy = told["windows"], told["policy"]
    newest = windows[-1]["inputs"]["columns"] if windows else []
    ranked = _ranked(windows)
    step, command = words.next_step(told)
    drifted = sum(each["breached"] for each in newest)
    return html_theme.render(
        PAGE,
        style=STYLE,
        told=told,
        kind={"ok": "good", "warn": "warn", "retrain": "bad"}[told["verdict"]],
        verdict=words.verdict(told),
        reasons=words.reasons(told),
        step=step,
        command=command,
        tiles=list(words.tiles(told, drifted, len(newest))),
        span=f"{windows[0]['first']} up to {windows[-1]['end']}" if windows else None,
        newest=charts.dates(windows[-1]) if windows else None,
        performance=words.performance(told),
        skills=charts.performance(told["backtest"], windows),
        has_backtest=bool(told["backtest"]),
        waiting=_waiting(windows),
        metric=METRIC_WORDS[policy["metric"]],
        inputs=words.inputs(told),
        heat_map=charts.heat_map(ranked[:MOST_COLUMNS], windows),
        legend=charts.legend(),
        left_out=len(ranked[MOST_COLUMNS:]),
        distributions=[_distribution(each, newest) for each in told["distributions"]],
        columns=[_row(each, windows) for each in newest],
        most=MOST_COLUMNS,
        method=list(words.method(told)),
        history=_history(told, decisions),
    )


def _ranked(windows: Sequence[Told]) -> list[str]:
    """Columns by the largest effect that they have in any window."""
    worst: dict[str, float] = {}
    for window in windows:
        for each in window["inputs"]["columns"]:
            worst[each["column"]] = max(charts.severity(each), worst.get(each["column"], 0.0))
    return sorted(worst, key=lambda column: (-worst[column], column))


def _waiting(windows: Sequence[Told]) -> list[Told]:
    """Each window's numbers, newest first."""
    return [{"dates": charts.dates(window), **window["performance"]} for window in reversed(windows)]


def _distribution(each: Told, newest: Sequence[Told]) -> Told:
    drift = next(found for found in newest if found["column"] == each["column"])
    name, size, limit = max(charts.effects(drift), key=lambda effect: effect[1] / (effect[2] or 1), default=("", 0, 0))
    effect = f"{WORDS[name]} {size:.3f}, drift from {limit:.3f} on" if name else "no effect could be measured"
    return {**each, "breached": drift["breached"], "effect": effect, "chart": charts.distribution(each)}


def _row(each: Told, windows: Sequence[Told]) -> Told:
    times = sum(
        found["breached"]
        for window in windows
        for found in window["inputs"]["columns"]
        if found["column"] == each["column"]
    )
    effects = {
        name: {"size": size, "limit": limit, "over": size >= limit} for name, size, limit in charts.effects(each)
    }
    distance = "wasserstein" if each["kind"] != "category" else "jensen_shannon"
    return {**each, "cells": [effects.get(name) for name in ("psi", distance, "unseen", "missing")], "times": times}


def _history(told: Told, decisions: Sequence[Told]) -> list[Told]:
    """Decisions on this model up to this one, newest first."""
    known = [each for each in decisions if each["model"] == told["model"] and each["as_of"] <= told["as_of"]]
    return known[::-1][:MOST_DECISIONS]
