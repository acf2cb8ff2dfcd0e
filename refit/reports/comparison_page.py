"""Renders two versions of a model side by side, from what `refit.models.comparison` read of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from refit.errors import counted
from refit.plain_text import number as plain
from refit.plain_text import signed
from refit.problems import metric_words
from refit.reports import templates
from refit.schemas.measured import Measured
from refit.schemas.training import short_candidate

if TYPE_CHECKING:
    from refit.schemas.version_comparison import ComparedVersion, VersionComparison

__all__ = ["code", "gain", "gain_head", "judged_on", "number", "render", "sentences", "shown_aliases"]


def render(comparison: VersionComparison, links: dict[str, str] | None = None, zone: tzinfo = UTC) -> str:
    """Render the page, without scripts, with every value escaped.

    Args:
        links: words and addresses of other pages, where the page is served with them.
        zone: the time zone of all times on the page.
    """
    rows = [
        (_words(name, comparison), number(pair[0]), number(pair[1]), gain(comparison, name))
        for name, pair in comparison.metrics.items()
    ]
    return templates.render(
        "comparison.html.j2",
        zone=zone,
        comparison=comparison,
        metrics=rows,
        gain_head=gain_head(comparison),
        judged_on=list(judged_on(comparison, zone)),
        sentences=list(sentences(comparison)),
        codes=[code(of) for of in comparison.of],
        candidates=[of.candidate and short_candidate(of.candidate) for of in comparison.of],
        shown_aliases=shown_aliases,
        links=links or {},
    )


def gain_head(comparison: VersionComparison) -> str:
    """Name the third column of the metrics; empty if there is none."""
    if comparison.gains:
        return "gain" if comparison.same_test else "gain on the same rows"
    return "difference" if comparison.same_test else ""


def judged_on(comparison: VersionComparison, zone: tzinfo = UTC) -> Iterator[str]:
    """Say on which rows each version was measured, and which number compares the two if those differ."""
    first, second = comparison.of
    if comparison.same_test:
        yield f"Both were measured on the same test rows: {_rows(first, zone)}."
        return
    yield (
        f"The columns are not comparable: version {first.version} was measured on {_rows(first, zone)}, "
        f"version {second.version} on {_rows(second, zone)}."
    )
    if comparison.gains or comparison.gate:
        where = "in the last column" if comparison.gains else "below"
        yield f"What compares them is the gain {where}: the gate measured both on version {comparison.judged}'s rows."
    else:
        yield "No number here compares them: the gate never measured the two on the same rows."


def _rows(of: ComparedVersion, zone: tzinfo) -> str:
    """Say on which rows a version was measured."""
    if of.test_rows is None or of.test_start is None or of.test_end is None:
        return "rows that are not on record"
    start, end = (templates.moment(time, zone) for time in (of.test_start, of.test_end))
    return f"{counted(of.test_rows, 'row')} from {start} up to {end}"


def shown_aliases(aliases: Sequence[str]) -> str:
    """Join the aliases of a version; a champion's own says all that `challenger` would.

    >>> shown_aliases(("challenger", "champion")), shown_aliases(("challenger",))
    ('champion', 'challenger')
    """
    return ", ".join(alias for alias in aliases if alias != "challenger" or "champion" not in aliases)


def _words(name: str, comparison: VersionComparison) -> str:
    return "accuracy at each version's threshold" if _at_own_threshold(name, comparison) else metric_words(name)


def _at_own_threshold(name: str, comparison: VersionComparison) -> bool:
    return name == "accuracy" and "accuracy_at_half" in comparison.metrics


def number(measured: Measured | None) -> str:
    """Format a metric with its interval.

    >>> number(Measured(value=0.75, lower=0.7, upper=0.8)), number(None)
    ('0.7500 (0.7000 to 0.8000)', '–')
    """
    if measured is None or measured.value is None:
        return "–"
    if measured.lower is None or measured.upper is None:
        return plain(measured.value)
    return f"{plain(measured.value)} ({plain(measured.lower)} to {plain(measured.upper)})"


def gain(comparison: VersionComparison, name: str) -> str:
    """Format how the second version differs by a metric: as the gate measured it, else the plain difference.

    Empty if the two were judged on different rows, or each at a threshold of its own.
    """
    if (measured := comparison.gains.get(name)) is not None:
        return _signed(measured)
    first, second = comparison.metrics[name]
    if comparison.gains or not comparison.same_test or first is None or second is None:
        return ""
    if _at_own_threshold(name, comparison):
        return ""
    if first.value is None or second.value is None:
        return ""
    return signed(second.value - first.value)


def sentences(comparison: VersionComparison) -> Iterator[str]:
    """Say how the two compare, and what is not compared."""
    second = comparison.versions[1]
    if (gate := comparison.gate) is not None and gate.estimate is not None and gate.lower is not None:
        judged = comparison.judged
        yield (
            f"When version {judged} was the candidate, the gate measured a gain of {signed(gate.estimate)} over "
            f"version {gate.version}, at least {signed(gate.lower)}; it had to exceed "
            f"{signed(gate.must_exceed)}."
        )
    if comparison.gains:
        yield (
            f"A gain is positive where version {second} is better; in brackets its {comparison.confidence or 0:.0%} "
            "interval, on the same test rows."
        )
    elif comparison.same_test:
        yield "The gate did not compare the two: a difference has no interval."
    if comparison.shared_features is not None:
        how = "in part defined otherwise or not shared (below)" if comparison.features else "defined alike"
        yield f"They have {comparison.shared_features:,} features in common, {how}."
    if not comparison.params:
        yield "Their params are the same."
    yield from (f"Not compared: {note}." for note in comparison.notes)


def code(of: ComparedVersion) -> str:
    """Format the code that a version was made with."""
    if of.git_commit is None:
        return "not in git"
    return of.git_commit[:12] + (" with uncommitted changes" if of.uncommitted else "")


def _signed(measured: Measured) -> str:
    if measured.value is None:
        return "–"
    if measured.lower is None or measured.upper is None:
        return signed(measured.value)
    return f"{signed(measured.value)} ({signed(measured.lower)} to {signed(measured.upper)})"
