"""`refit compare A B`: two versions side by side, in the terminal or as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rich.table import Table

from flows.session import context_of
from refit.files.artifacts import atomic
from refit.models.comparison import compared
from refit.plain_text import number
from refit.reports import comparison_page
from refit.runtime.terminal import Terminal, say
from refit.schemas.measured import Measured
from refit.schemas.version_comparison import ComparedVersion, VersionComparison

MOST_LINES = 40  # of params, and of features, that the terminal shows
_FACTS: Mapping[str, Callable[[ComparedVersion], str | None]] = {
    "learner": lambda of: of.learner,
    "as of": lambda of: of.as_of,
    "data before": lambda of: of.seen_until,
    "snapshot": lambda of: of.snapshot and of.snapshot[:12],
    "batches, rows": lambda of: None if of.rows is None else f"{of.batches:,}, {of.rows:,}",
    "fitted on rows": lambda of: None if of.fitted_rows is None else f"{of.fitted_rows:,}",
    "code": comparison_page.code,
    "Refit": lambda of: of.release,
}


def compare(project: Path, first: str, second: str, out: Path | None = None) -> VersionComparison:
    """Return two versions side by side, and write the page of it to `out`.

    Raises:
        UserError: there is no such version.
    """
    context = context_of(project)
    comparison = compared(context, first, second)
    if out is not None:
        with atomic(out) as scratch:
            page = comparison_page.render(comparison, zone=context.params.project.zone)
            scratch.write_text(page, encoding="utf-8")
    return comparison


def print_comparison(comparison: VersionComparison) -> None:
    """Print two versions side by side."""
    console = Terminal()
    table = Table("", *(f"version {number}" for number in comparison.versions), box=None, pad_edge=False)
    for name, values in _facts(comparison.of):
        table.add_row(name, *values)
    console.print(table)
    console.print()
    for sentence in comparison_page.judged_on(comparison):
        say(sentence)
    say("These times are UTC.")
    console.print()
    table = Table("", *(f"version {number}" for number in comparison.versions), box=None, pad_edge=False)
    if head := comparison_page.gain_head(comparison):
        table.add_column(head)
    for name, pair in comparison.metrics.items():
        table.add_row(name, *map(_number, pair), comparison_page.gain(comparison, name))
    console.print(table)
    for sentence in comparison_page.sentences(comparison):
        say(sentence)
    for what, differences in (("Params", comparison.params), ("Features", comparison.features)):
        if not differences:
            continue
        changed = Table(what, *(f"version {number}" for number in comparison.versions), box=None, pad_edge=False)
        for each in differences[:MOST_LINES]:
            changed.add_row(each.name, *("–" if value is None else cut_off(value) for value in each.values))
        console.print()
        console.print(changed)
        if rest := differences[MOST_LINES:]:
            say(f"and {len(rest):,} more; --json gives them all")


def cut_off(text: str) -> str:
    """The text, cut off where it is long."""
    return text if len(text) <= 100 else f"{text[:97]}..."


def _number(measured: Measured | None) -> str:
    return number(None if measured is None else measured.value)


def _facts(both: tuple[ComparedVersion, ComparedVersion]) -> list[tuple[str, list[str]]]:
    rows = [(name, [str(read(of) or "–") for of in both]) for name, read in _FACTS.items()]
    return [(name, values) for name, values in rows if values != ["–", "–"]]
