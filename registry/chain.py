"""The digests that chain a ledger's lines: each covers its line and the digest before it, so that no change is silent.

The first digest of a ledger, and each line `accept`, covers every line before it as it stands, chained or not. So a
ledger from before there were digests is taken over with one line, and so is a broken one that a person accepts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ACCEPT = "accept"  # the action of a line that takes over what stands before it

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chain:
    """What the digests of a ledger say: how many lines it has, its head, and the first line that is not as written."""

    lines: int
    unchained: int  # lines from before there were digests, that nothing covers yet
    head: str | None  # `7:3fa9...`, the last line's number and digest; None where no line has one
    problem: str | None


def examine(rows: Sequence[Row], noted: Mapping[str, str] | None = None) -> Chain:
    """Follow the chain through all rows of a ledger, oldest first.

    Digests alone can be computed by anybody, so the newest line of a model must be one that was noted elsewhere; and a
    line `accept` that nothing noted covers accepts nothing.

    Args:
        noted: for models, what was noted outside of the ledger: the head after their newest line. While a line is
            written it is `about_to_follow` of the heads before and after.
    """
    notes = {model: note.split() for model, note in (noted or {}).items() if note}
    covered = max((place for heads in notes.values() for place in _places(rows, heads)), default=-1)
    problem: str | None = None
    before: str | None = None
    for place, row in enumerate(rows):
        if (digest := row.get("digest")) is None:
            if before is not None:
                problem = problem or f"line {row['id']} has no digest, though the line before it has one"
            continue
        covers_all = before is None or row["action"] == ACCEPT
        expected = line_digest(row, everything(rows[:place]) if covers_all else str(before))
        if digest != expected:
            problem = problem or _mismatch(row, rows[place - 1] if place else None)
        elif row["action"] == ACCEPT and (not notes or place <= covered):
            problem = None
        before = digest
    head = head_of(rows) if rows and rows[-1].get("digest") else None
    unchained = len(rows) if before is None else 0
    for model, heads in notes.items():
        problem = problem or _against_note(rows, model, heads)
    return Chain(len(rows), unchained, head, problem)


def head_of(rows: Sequence[Row]) -> str:
    """The last line's number and digest; `0:-` of no lines.

    >>> head_of([]), head_of([{"id": 7, "digest": "3fa9"}]), head_of([{"id": 7, "digest": None}])
    ('0:-', '7:3fa9', '7:-')
    """
    return f"{rows[-1]['id']}:{rows[-1].get('digest') or '-'}" if rows else "0:-"


def about_to_follow(head: str, new: str) -> str:
    """The note of a line while it is written: of a writer that is killed then, either may be the head."""
    return f"{head} {new}"


def next_digest(rows: Sequence[Row], line: Row) -> str:
    """The digest of a line that is about to follow `rows`."""
    before = rows[-1].get("digest") if rows and line["action"] != ACCEPT else None
    return line_digest(line, before or everything(rows))


def line_digest(row: Row, before: str) -> str:
    """The digest of one line after the digest `before`."""
    return hashlib.sha256(f"{before}\n{_content(row)}".encode()).hexdigest()


def everything(rows: Sequence[Row]) -> str:
    """One digest of rows as they stand, their own digests included."""
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(f"{row.get('digest')}\n{_content(row)}\n".encode())
    return hasher.hexdigest()


def _content(row: Row) -> str:
    return json.dumps({key: value for key, value in row.items() if key != "digest"}, sort_keys=True, default=str)


def _mismatch(row: Row, before: Row | None) -> str:
    if before is not None and row["id"] != before["id"] + 1:
        return f"between line {before['id']} and line {row['id']} lines are missing"
    changed = f"line {row['id']} ({row['action']} of version {row['to_version']}, {row['at']})"
    if row["id"] != 1 and before is None:
        return f"the lines before line {row['id']} are missing"
    return f"{changed} does not match its digest: it, or what stands before it, was changed"


def _against_note(rows: Sequence[Row], model: str, heads: Sequence[str]) -> str | None:
    places = _places(rows, heads)
    if places:
        newer = next((row for row in rows[max(places) + 1 :] if row["model"] == model), None)
        return None if newer is None else f"the registry does not know of line {newer['id']}: it was added by hand"
    number = heads[0].partition(":")[0]
    last = rows[-1]["id"] if rows else 0
    if number.isdecimal() and int(number) > last:
        ends = f"the ledger ends with line {last}" if last else "the ledger has none"
        return f"the registry knows of line {number}, but {ends}: lines were removed, or an older copy was put back"
    return f"line {number} is another one than the registry noted: the ledger was written again, or replaced"


def _places(rows: Sequence[Row], heads: Sequence[str]) -> list[int]:
    """Where the lines of some heads stand; -1 of the head of no lines."""
    return [place for place in range(-1, len(rows)) if head_of(rows[: place + 1]) in heads]
