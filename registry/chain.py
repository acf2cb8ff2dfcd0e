"""Hash chain over a ledger's lines: each digest covers its line and the previous digest, so every change is detected.

The first digest of a ledger, and that of each `accept` line, covers all earlier lines in their current state, chained
or not. One line is therefore enough to adopt a ledger written before digests existed, or a broken one that a person
accepts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.sqlite_files import Row

ACCEPT = "accept"  # action of a line that adopts all lines before it


@dataclass(frozen=True)
class Chain:
    """Result of checking a ledger: its number of lines, its head, and the first line that was changed, if any."""

    lines: int
    unchained: int  # lines written before digests existed, not covered by any digest yet
    head: str | None  # `7:3fa9...`, number and digest of the last line; None if no line has a digest
    problem: str | None


def examine(rows: Sequence[Row], notes: Mapping[str, str] | None = None) -> Chain:
    """Follow the chain through all rows of a ledger, oldest first.

    Anybody can compute digests, so the newest line of a model must match a note kept outside the ledger. An `accept`
    line that no note covers is ignored.

    Args:
        notes: by model, the head after its newest line, as noted outside the ledger. While a line is being written,
            the note is `about_to_follow` of the heads before and after.
    """
    heads_of = {model: note.split() for model, note in (notes or {}).items() if note}
    covered = max((index for heads in heads_of.values() for index in _head_indices(rows, heads)), default=-1)
    problem: str | None = None
    before: str | None = None
    for index, row in enumerate(rows):
        if (digest := row.get("digest")) is None:
            if before is not None:
                problem = problem or f"line {row['id']} has no digest, though the line before it has one"
            continue
        covers_all = before is None or row["action"] == ACCEPT
        expected = line_digest(row, everything(rows[:index]) if covers_all else str(before))
        if digest != expected:
            problem = problem or _mismatch(row, rows[index - 1] if index else None)
        elif row["action"] == ACCEPT and (not heads_of or index <= covered):
            problem = None
        before = digest
    head = head_of(rows) if rows and rows[-1].get("digest") else None
    unchained = len(rows) if before is None else 0
    for model, heads in heads_of.items():
        problem = problem or _against_note(rows, model, heads)
    return Chain(len(rows), unchained, head, problem)


def head_of(rows: Sequence[Row]) -> str:
    """Number and digest of the last line; `0:-` if there are no lines.

    >>> head_of([]), head_of([{"id": 7, "digest": "3fa9"}]), head_of([{"id": 7, "digest": None}])
    ('0:-', '7:3fa9', '7:-')
    """
    return f"{rows[-1]['id']}:{rows[-1].get('digest') or '-'}" if rows else "0:-"


def about_to_follow(head: str, new: str) -> str:
    """The note while a line is written: if the writer is killed, either of the two may be the head."""
    return f"{head} {new}"


def next_digest(rows: Sequence[Row], line: Row) -> str:
    """The digest of the line to append after `rows`."""
    before = rows[-1].get("digest") if rows and line["action"] != ACCEPT else None
    return line_digest(line, before or everything(rows))


def line_digest(row: Row, before: str) -> str:
    """The digest of one line after the digest `before`."""
    return hashlib.sha256(f"{before}\n{_content(row)}".encode()).hexdigest()


def everything(rows: Sequence[Row]) -> str:
    """One digest of all rows in their current state, including their own digests."""
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
    indices = _head_indices(rows, heads)
    if indices:
        newer = next((row for row in rows[max(indices) + 1 :] if row["model"] == model), None)
        return None if newer is None else f"the registry does not know of line {newer['id']}: it was added by hand"
    number = heads[0].partition(":")[0]
    last = rows[-1]["id"] if rows else 0
    if number.isdecimal() and int(number) > last:
        ends = f"the ledger ends with line {last}" if last else "the ledger has none"
        return f"the registry knows of line {number}, but {ends}: lines were removed, or an older copy was put back"
    return f"line {number} is another one than the registry noted: the ledger was written again, or replaced"


def _head_indices(rows: Sequence[Row], heads: Sequence[str]) -> list[int]:
    """Indices of the rows whose head is one of `heads`; -1 for the head of an empty ledger."""
    return [index for index in range(-1, len(rows)) if head_of(rows[max(index, 0) : index + 1]) in heads]
