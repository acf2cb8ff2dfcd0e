"""Draws the contributions of features to one prediction, as bars from the base value to the prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refit.plain_text import MISSING
from refit.reports.drawing import COLOURS, INK, QUIET, list_down, new_figure, save_png, short_name, styled
from refit.schemas.explanations import RowExplanations

MOST_FEATURES = 12
UP, DOWN = COLOURS["champion"], COLOURS["candidate"]


def draw(report: RowExplanations, path: Path) -> None:
    """Write a PNG of the first explained row."""
    row = report.rows[0]
    shown, rest = row.features[:MOST_FEATURES], row.features[MOST_FEATURES:]
    steps = [(f"{short_name(each.name, 34)} = {format_value(each.value)}", each.adds) for each in shown]
    if rest:
        steps.append((f"{len(rest)} other features", sum(each.adds for each in rest)))
    what = f"{row.predicted_class!r} {row.prediction:.3g}" if row.predicted_class else f"{row.prediction:.4g}"
    title = f"Why {row.key} is predicted {what} ({report.model} version {report.version})"
    with styled():
        figure, axes = new_figure(title, (8.2, 1.4 + 0.3 * len(steps)))
        at = row.base
        for position, (_, adds) in enumerate(steps):
            axes.barh(position, adds, left=at, color=UP if adds >= 0 else DOWN, height=0.66, alpha=0.85)
            axes.text(max(at, at + adds), position, f" {adds:+.3g}", va="center", fontsize=8, color=INK)
            at += adds
            axes.plot([at, at], [position - 0.33, position + 1.33], color=QUIET, linewidth=0.7)
        axes.axvline(row.base, color=QUIET, linewidth=0.8, linestyle=":")
        list_down(axes, [name for name, _ in steps])
        axes.use_sticky_edges = False
        axes.margins(x=0.1)
        axes.set_xlabel(f"{report.in_words}: from {row.base:.3g} on the whole to {row.total:.3g} for this row")
        save_png(figure, path)


def format_value(value: Any) -> str:
    """Format the value of a feature for people.

    >>> format_value(None), format_value(0.123456), format_value(3), format_value("red")
    ('missing', '0.1235', '3', 'red')
    """
    if value is None:
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else short_name(str(value), 24)
