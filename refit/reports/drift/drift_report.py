"""Writes the drift report, one HTML file made from a stored decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo

from refit.drift.inputs import WORDS
from refit.files import artifacts
from refit.problems import metric_named
from refit.reports import templates
from refit.reports.drawing import DrawnChart, drawn, styled
from refit.reports.drift import report_charts
from refit.reports.drift import report_words as words
from refit.runtime.context import Context
from refit.schemas.drift_decision import ColumnDrift, Comparison, Distribution, DriftDecision, JudgedWindow, Statistic

__all__ = ["REPORT", "render", "write"]

REPORT = artifacts.REPORTS / "drift" / "report.html"
MOST_COLUMNS = 36  # fill a printed page
MOST_DECISIONS = 20
SKILL = (
    "Vertical lines are intervals; shaded: what is usual; below the dashed line skill is lost; dotted: the usual mean."
)
HEAT_MAP = "The largest effect of each column in each window, as a multiple of the size from which on it is drift."


def write(context: Context, decision: DriftDecision, decisions: Sequence[DriftDecision]) -> None:
    """Write `reports/drift/report.html`, without scripts or external links, with every value escaped."""
    with artifacts.atomic(context.path(REPORT)) as scratch:
        scratch.write_text(render(decision, decisions, context.params.project.zone), encoding="utf-8")


def render(decision: DriftDecision, decisions: Sequence[DriftDecision], zone: tzinfo = UTC) -> str:
    """Render the page.

    Args:
        decision: the decision as stored.
        decisions: all stored decisions, oldest first; those of other models and later ones are left out.
        zone: the project's time zone, of the times on the page.
    """
    windows, newest = decision.windows, decision.newest_columns
    ranked = _ranked(windows)
    step, command = words.next_step(decision)
    drifted = sum(each.breached for each in newest)
    charts = _charts(decision, ranked[:MOST_COLUMNS])
    return templates.render(
        "drift_report.html.j2",
        zone=zone,
        decision=decision,
        kind={"ok": "good", "warn": "warn", "retrain": "bad"}[decision.verdict],
        verdict=words.verdict(decision),
        reasons=words.reasons(decision),
        step=step,
        command=command,
        tiles=list(words.tiles(decision, drifted, len(newest))),
        span=f"{windows[0].first} up to {windows[-1].end}" if windows else None,
        newest=str(windows[-1]) if windows else None,
        performance=words.performance(decision),
        skills=charts.skills,
        waiting=windows[::-1],
        further=words.further,
        metric=metric_named(decision.policy.metric).words,
        inputs=words.inputs(decision),
        heat_map=charts.heat_map,
        left_out=len(ranked[MOST_COLUMNS:]),
        distributions=[
            _distribution(each, newest, chart)
            for each, chart in zip(decision.distributions, charts.distributions, strict=True)
        ],
        columns=[_row(each, windows) for each in newest],
        most=MOST_COLUMNS,
        method=list(words.method(decision)),
        history=_history(decision, decisions),
    )


@dataclass(frozen=True)
class _Charts:
    """The charts of the page; a list is empty if there is nothing to draw."""

    skills: list[DrawnChart]
    heat_map: list[DrawnChart]
    distributions: list[DrawnChart | None]


def _charts(decision: DriftDecision, columns: Sequence[str]) -> _Charts:
    with styled():
        skills = report_charts.performance(decision.backtest, decision.windows)
        heat_map = report_charts.heat_map(columns, decision.windows)
        figures = [(each.column, report_charts.distribution(each)) for each in decision.distributions]
        return _Charts(
            [drawn(skills, "skill", SKILL)] if skills else [],
            [drawn(heat_map, "columns", HEAT_MAP)] if heat_map else [],
            [
                drawn(figure, f"distribution-{index}", f"{column}, then and now") if figure else None
                for index, (column, figure) in enumerate(figures)
            ],
        )


def _ranked(windows: Sequence[JudgedWindow]) -> list[str]:
    """Columns ordered by their largest effect in any window."""
    worst: dict[str, float] = {}
    for window in windows:
        for each in window.inputs.columns:
            worst[each.column] = max(each.severity, worst.get(each.column, 0.0))
    return sorted(worst, key=lambda column: (-worst[column], column))


@dataclass(frozen=True)
class _Picture:
    """One column then and now, as the page shows it."""

    distribution: Distribution
    breached: bool
    effect: str
    chart: DrawnChart | None


def _distribution(each: Distribution, newest: Sequence[ColumnDrift], chart: DrawnChart | None) -> _Picture:
    drift = next(column for column in newest if column.column == each.column)
    effect = next((f"cannot be judged: {why}" for why in drift.unjudged.values()), "no effect could be measured")
    if largest := drift.largest:
        effect = f"{WORDS[largest.statistic]} {largest.size:.3f}, drift from {largest.limit:.3f} on"
    return _Picture(each, drift.breached, effect, chart)


@dataclass(frozen=True)
class _Row:
    """One column in the table of numbers; `times` counts the windows in which it drifted."""

    drift: ColumnDrift
    cells: tuple[Comparison | str | None, ...]  # a text says why an effect cannot be judged
    times: int


def _row(each: ColumnDrift, windows: Sequence[JudgedWindow]) -> _Row:
    drifted = (column for window in windows for column in window.inputs.columns if column.breached)
    effects: dict[Statistic, Comparison | str] = {
        **each.unjudged,
        **{effect.statistic: effect for effect in each.comparisons},
    }
    distance: Statistic = "jensen_shannon" if each.kind == "category" else "wasserstein"
    cells = (effects.get("psi"), effects.get(distance), effects.get("unseen"), effects.get("missing"))
    return _Row(each, cells, sum(column.column == each.column for column in drifted))


def _history(decision: DriftDecision, decisions: Sequence[DriftDecision]) -> list[DriftDecision]:
    """Decisions on this model up to this one, newest first."""
    shown = [each for each in decisions if each.model == decision.model and each.as_of <= decision.as_of]
    return shown[::-1][:MOST_DECISIONS]
