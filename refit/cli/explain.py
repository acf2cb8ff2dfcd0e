"""`refit explain --row` for people: what pushed a prediction up and down, a line and a bar for each feature."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

from rich.table import Table

from flows.progress_display import shown_on
from flows.session import watching
from refit.errors import UserError
from refit.runtime.terminal import Terminal, line

WIDTH = 24  # of the longest bar
MOST_FEATURES = 10

Report = dict[str, Any]


def explain_row(project: Path, row: str, *, out: Path | None, wait_seconds: float, quiet: bool) -> Report:
    """Explain, print unless `quiet`, and draw the first row where a picture is asked for."""
    from tasks.score import reasons

    if out and out.suffix != ".png":
        raise UserError(f"--out {out}: the picture is written as .png; give it such a name")
    shown = shown_on(Terminal(stderr=True), stages=False)
    with shown, watching(project, trigger="refit explain", wait_seconds=wait_seconds) as context:
        told = reasons.run(context, row)
    if out:
        from refit.reports.reasons_picture import draw

        draw(told, out)
    if not quiet:
        print_reasons(told, Terminal())
    return told


def print_reasons(told: Report, console: Terminal) -> None:
    """Every row: the base, its largest features, and what they make together."""
    how = "estimated by sampling" if told["method"] == "sampling" else "exact"
    for row in told["rows"]:
        predicted = f"{row['class']!r}, probability" if row["class"] else "probability"
        predicted = "" if row["task"] == "regression" else f"{predicted} "
        console.print(
            line(
                (row["key"], "bold"),
                f": {predicted}",
                (f"{row['prediction']:.4g}", "bold"),
                f" by {told['model']} version {told['version']} ({told['source']})",
            )
        )
        console.print(f"What features add (SHAP values, {how}), in {told['in_words']}:", style="dim")
        console.print(_table(row))
    if told["not_shown"]:
        console.print(
            f"{told['not_shown']:,} more rows are not explained; name one by its key, or give a smaller file."
        )


def _table(row: Report) -> Table:
    from refit.reports.reasons_picture import value_in_words

    shown, rest = row["features"][:MOST_FEATURES], row["features"][MOST_FEATURES:]
    most = max((abs(each["adds"]) for each in shown), default=0.0) or 1.0
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row("on the whole", "", f"{row['base']:.3g}", _meant(row["base"], row), style="dim")
    for each in shown:
        bar = "█" * round(WIDTH * abs(each["adds"]) / most)
        colour = "yellow" if each["adds"] >= 0 else "cyan"
        table.add_row(each["name"], value_in_words(each["value"]), f"{each['adds']:+.3g}", line((bar, colour)))
    if rest:
        table.add_row(f"{len(rest)} other features", "", f"{sum(each['adds'] for each in rest):+.3g}", "")
    table.add_row(line(("together", "bold")), "", line((f"{row['total']:.3g}", "bold")), _meant(row["total"], row))
    return table


def _meant(total: float, row: Report) -> str:
    """The probability that log-odds stand for; of several classes it depends on the others' scores."""
    return f"a probability of {1 / (1 + exp(-total)):.3g}" if row["log_odds"] else ""
