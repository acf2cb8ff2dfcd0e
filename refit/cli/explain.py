"""`refit explain --row`: which features pushed a prediction up and down, a line and a bar for each."""

from __future__ import annotations

from math import exp
from pathlib import Path

from rich.table import Table

from flows.progress_display import show_progress
from flows.session import watching
from refit.errors import UserError
from refit.problems import kind_of, metric_words
from refit.runtime.terminal import Terminal, line
from refit.schemas.explanations import ExplainedRow, FeatureContribution, RowExplanations

BAR_WIDTH = 24  # characters of the longest bar
MOST_FEATURES = 10


def explain_row(project: Path, row: str, *, out: Path | None, wait_seconds: float, quiet: bool) -> RowExplanations:
    """Explain the rows, print them unless `quiet`, and draw the first one if `out` is given."""
    from tasks.score import reasons

    if out and out.suffix != ".png":
        raise UserError(f"--out {out}: the picture is written as .png; give it such a name")
    display = show_progress(Terminal(stderr=True), stages=False)
    with display, watching(project, trigger="refit explain", wait_seconds=wait_seconds) as context:
        report, pictures = reasons.explained(context, row)
    if out:
        from refit.reports.reasons_picture import draw

        draw(report, out, pictures)
    if not quiet:
        print_reasons(report, Terminal())
    return report


def print_reasons(report: RowExplanations, console: Terminal) -> None:
    """Print each row: the base, its largest contributions, and their sum."""
    method = "estimated by sampling" if report.method == "sampling" else "exact"
    for row in report.rows:
        problem = kind_of(row.task)
        unit = "probability" if problem.probabilities else metric_words(problem.explained_part)
        predicted = ", ".join(filter(None, (row.predicted_class and repr(row.predicted_class), unit)))
        predicted = f"{predicted} " if predicted else ""
        console.print(
            line(
                (row.key, "bold"),
                f": {predicted}",
                (f"{row.prediction:.4g}", "bold"),
                f" by {report.model} version {report.version} ({report.source})",
            )
        )
        console.print(f"What features add (SHAP values, {method}), in {report.in_words}:", style="dim")
        console.print(_table(row))
        for feature in row.features:
            if feature.patches:
                console.print(_where(feature), style="dim")
    if report.not_shown:
        console.print(f"{report.not_shown:,} more rows are not explained; name one by its key, or give a smaller file.")


def _table(row: ExplainedRow) -> Table:
    from refit.reports.reasons_picture import format_value

    features, others = row.features[:MOST_FEATURES], row.features[MOST_FEATURES:]
    largest = max((abs(feature.adds) for feature in features), default=0.0) or 1.0
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row("on the whole", "", f"{row.base:.3g}", _probability(row.base, row), style="dim")
    for feature in features:
        bar = "█" * round(BAR_WIDTH * abs(feature.adds) / largest)
        colour = "yellow" if feature.adds >= 0 else "cyan"
        table.add_row(feature.name, format_value(feature.value), f"{feature.adds:+.3g}", line((bar, colour)))
    if others:
        table.add_row(f"{len(others)} other features", "", f"{sum(feature.adds for feature in others):+.3g}", "")
    total = line((f"{row.total:.3g}", "bold"))
    table.add_row(line(("together", "bold")), "", total, _probability(row.total, row))
    return table


def _where(feature: FeatureContribution) -> str:
    """Name the patch of an image that matters most."""
    most, down, across = max(
        (abs(loss), row, column) for row, line in enumerate(feature.patches) for column, loss in enumerate(line)
    )
    loss = feature.patches[down][across]
    what = f"takes {most:.3g} from" if loss >= 0 else f"adds {most:.3g} to"
    size = f"{len(feature.patches)} x {len(feature.patches[0])}"
    return (
        f"where in {feature.name}: of its {size} patches, covering the one in row {down + 1}, column {across + 1} "
        f"{what} the prediction, more than any other; --out draws them"
    )


def _probability(total: float, row: ExplainedRow) -> str:
    """Format log-odds as a probability; empty for several classes, where it depends on the other classes' scores."""
    return f"a probability of {1 / (1 + exp(-total)):.3g}" if row.log_odds else ""
