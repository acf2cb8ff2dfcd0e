"""Renders the home page of a project and its history, with links to its reports and servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Literal

from refit.plain_text import number
from refit.problems import metric_words
from refit.reports import templates
from refit.schemas.training import short_candidate
from registry.ledger import MOVES, NO_VERSION

if TYPE_CHECKING:
    from registry.ledger import Entry

__all__ = ["Card", "Link", "Overview", "Tile", "render", "render_history"]

Kind = Literal["good", "warn", "bad", "plain"]
NEWEST = 5  # lines of the history on the home page
_DONE = {
    "promote": ("promoted", "good"),
    "overrule": ("promoted against the gate", "warn"),
    "rollback": ("rolled back to", "warn"),
    "restore": ("registered again", "good"),
    "refuse": ("refused", "bad"),
    "await": ("waits for approval", "warn"),
    "accept": ("ledger accepted as it is", "warn"),
    "lift": ("no approval needed from here on", "plain"),
}


@dataclass(frozen=True)
class Link:
    """Words, and the address that they lead to."""

    words: str
    address: str


@dataclass(frozen=True)
class Tile:
    """A fact of the headline: its name, its value, and a note in small type."""

    name: str
    value: str
    note: str = ""
    kind: Kind = "plain"


@dataclass(frozen=True)
class Card:
    """A page that the home page leads to, and what it says at present; `empty` if there is none yet."""

    title: str
    sentence: str
    links: tuple[Link, ...] = ()
    kind: Kind = "plain"


@dataclass(frozen=True)
class Overview:
    """The state of a project."""

    model: str
    environment: str | None
    headline: str
    kind: Kind
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]
    cards: tuple[Card, ...]
    entries: tuple[Entry, ...]  # of the ledger, oldest first
    warnings: tuple[str, ...] = ()  # of what the page could not read

    @property
    def numbers(self) -> list[str]:
        """The versions that can be compared, newest first."""
        named = {number for each in self.entries for number in (each.to_version, each.from_version) if number}
        return sorted((each for each in named - {NO_VERSION} if each.isdecimal()), key=int, reverse=True)

    @property
    def champion(self) -> str | None:
        """The version that the newest move of the ledger made champion."""
        return next((each.to_version for each in reversed(self.entries) if each.action in MOVES), None)


@dataclass(frozen=True)
class Line:
    """A line of the ledger as the pages show it."""

    at: str
    kind: str
    done: str
    version: str | None  # None if it is about no version
    against: str | None
    who: str
    trigger: str
    reasons: tuple[str, ...]
    candidate: str | None  # as its card and MLflow's run are named


def render(overview: Overview, zone: tzinfo = UTC) -> str:
    """Render the home page, without scripts, with every value escaped, and times as of `zone`."""
    numbers, champion = overview.numbers, overview.champion
    second = champion or (numbers[0] if numbers else "")
    first = next((each for each in numbers if each != second and int(each) < int(second)), None)
    return templates.render(
        "home.html.j2",
        zone=zone,
        overview=overview,
        lines=lines(overview.entries)[:NEWEST],
        total=len(overview.entries),
        numbers=numbers,
        chosen=(first or next((each for each in numbers if each != second), ""), second),
    )


def render_history(model: str, entries: Sequence[Entry], zone: tzinfo = UTC) -> str:
    """Render the whole ledger of a model, newest line first, with times as of `zone`."""
    return templates.render("history.html.j2", zone=zone, model=model, lines=lines(entries))


def lines(entries: Sequence[Entry]) -> list[Line]:
    """The ledger's lines as the pages show them, newest first."""
    return [_line(each) for each in reversed(entries)]


def score(metrics: Mapping[str, float], metric: str) -> Tile:
    """The tile of the gate's metric."""
    value, low, high = (metrics.get(f"{metric}{end}") for end in ("", "_lower", "_upper"))
    between = "" if low is None or high is None else f"between {number(low)} and {number(high)}, "
    return Tile(metric_words(metric), templates.fixed(value), f"{between}on its test rows")


def _line(entry: Entry) -> Line:
    done, kind = _DONE.get(entry.action, (entry.action, "plain"))
    against = entry.from_version if entry.from_version not in (None, entry.to_version) else None
    version = None if entry.to_version == NO_VERSION else entry.to_version
    inputs = entry.digests.get("candidate")
    candidate = short_candidate(inputs) if inputs else None
    return Line(entry.at, kind, done, version, against, entry.who, entry.trigger, entry.reasons, candidate)
