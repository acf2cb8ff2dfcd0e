"""Rows that validation refused: stored with their reasons, listed, and released by a person who gives a reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from refit.config import nearest
from refit.errors import RefitError, UserError, counted, first_line
from refit.files import artifacts
from refit.runtime.context import Context, person
from refit.schemas.artifact import Part, utc_text
from refit.schemas.releases import Release, Releases
from refit.schemas.snapshot import Snapshot, SnapshotBatch

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("_row", "file", "column", "value", "reason", "row", "check")

# Values of `check` that are not names of expectations.
UNCAST = "cast"
REPEATED = "repeated row"
EARLIER = "key of an earlier part"
UNIQUENESS = ("expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique")
BARRED = {
    UNCAST: "it never cast, so there is no row to accept; correct the source",
    REPEATED: "it repeats another row exactly; that one stands for both",
    EARLIER: "an earlier part of its period has its key; a key names one row",
}


@dataclass(frozen=True)
class Refusal:
    """One reason for which one raw row was refused."""

    row: int  # `_row`: the line of its file
    file: str | None
    column: str | None
    value: str | None
    reason: str
    raw: str | None  # JSON text of the whole raw row
    check: str  # the expectation's name, or one of the words above

    @property
    def told(self) -> str:
        """The row and its reason in a sentence.

        >>> Refusal(3, "new.csv", "price", "dear", "is no number", None, UNCAST).told
        "line 3: price is no number, such as 'dear'"
        """
        where = f"{self.column} " if self.column else ""
        return f"line {self.row}: {where}{self.reason}" + (f", such as {self.value!r}" if self.value else "")


def path_of(source: str, batch: str) -> Path:
    """The path of the refused rows of a batch, relative to the project."""
    return artifacts.QUARANTINE / source / f"{batch}.parquet"


def write(path: Path, refusals: Sequence[Refusal]) -> None:
    """Write the refusals of a batch, ordered by row."""
    import pyarrow.parquet as pq

    with artifacts.atomic(path) as scratch:
        pq.write_table(table_of(refusals), scratch)


def table_of(refusals: Sequence[Refusal]) -> pa.Table:
    """A table of refusals, ordered by row."""
    import pyarrow as pa

    ordered = sorted(refusals, key=lambda refusal: refusal.row)
    names = ("row", "file", "column", "value", "reason", "raw", "check")
    return pa.table(
        [pa.array([getattr(r, name) for r in ordered], pa.int64() if name == "row" else pa.string()) for name in names],
        names=list(COLUMNS),
    )


def read(path: Path) -> list[Refusal]:
    """Read the refusals of a batch.

    Raises:
        RefitError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        columns = [table[name].to_pylist() for name in COLUMNS]
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise RefitError(f"{path} cannot be read ({first_line(error)}); delete it and run `refit run` again") from None
    return [Refusal(*values) for values in zip(*columns, strict=True)]


def releases(project: Path) -> Releases:
    """All releases so far; none if the file is missing.

    Raises:
        UserError: the file cannot be read, or was not written by `refit quarantine release`.
    """
    path = project / artifacts.RELEASED
    if not path.is_file():
        return Releases()
    try:
        path.open("rb").close()
    except PermissionError:
        raise UserError(f"{path} cannot be read; give this user the right to") from None
    try:
        return Releases.read(path)
    except RefitError:
        raise UserError(f"{artifacts.RELEASED} holds no list of releases; {Releases.REMEDY}") from None


def inadmissible(refusals: Iterable[Refusal], released: Set[int]) -> dict[int, str]:
    """Why some released rows cannot be accepted: they never cast, repeat another row, or share a key.

    >>> uncast = Refusal(7, "a.csv", "age", "x", "not an integer", None, UNCAST)
    >>> inadmissible([uncast], {7})
    {7: 'it never cast, so there is no row to accept; correct the source'}
    """
    reasons: dict[int, str] = {}
    sharing: dict[str | None, set[int]] = {}
    for refusal in refusals:
        if refusal.row not in released:
            continue
        if refusal.check in BARRED:
            reasons[refusal.row] = BARRED[refusal.check]
        elif refusal.check in UNIQUENESS:
            sharing.setdefault(refusal.value, set()).add(refusal.row)
    for rows in sharing.values():
        if len(rows) > 1:
            one_key = f"rows {', '.join(map(str, sorted(rows)))} have one key; release only one of them"
            reasons |= dict.fromkeys(rows, one_key)
    return reasons


class ListedRefusal(Part):
    """A refusal as `refit quarantine list` shows it."""

    source: str
    batch: str
    row: int
    file: str | None
    column: str | None
    value: str | None
    reason: str
    check: str
    raw: JsonValue  # the whole raw row
    released: bool


def listing(context: Context, source: str | None = None, batch: str | None = None) -> list[ListedRefusal]:
    """Every refusal of the snapshot's batches, in order, and whether its row was released.

    Raises:
        UserError: there is no such source or batch.
    """
    decisions = releases(context.project)
    listed = []
    for each in _batches(context, source, batch):
        path = context.path(path_of(each.source, each.name))
        released = decisions.rows_of(each)
        for refusal in read(path) if path.is_file() else ():
            raw = json.loads(refusal.raw) if refusal.raw else None
            values = {**vars(refusal), "raw": raw, "released": refusal.row in released}
            listed.append(ListedRefusal(source=each.source, batch=each.name, **values))
    return listed


def _batches(context: Context, source: str | None, batch: str | None) -> list[SnapshotBatch]:
    if not (path := context.path(artifacts.SNAPSHOT)).exists():
        raise UserError("nothing was ingested yet, so that no row was refused; `refit run` reads the sources")
    batches = Snapshot.read(path).batches
    for role, wanted, valid_names in (
        ("source", source, {each.source for each in batches}),
        ("batch", batch, {each.name for each in batches if source in (None, each.source)}),
    ):
        if wanted is not None and wanted not in valid_names:
            raise UserError(
                f"there is no {role} {wanted!r}{nearest(wanted, valid_names)}; `refit quarantine list` shows them"
            )
    return [each for each in batches if source in (None, each.source) and batch in (None, each.name)]


def release(context: Context, source: str, batch: str, rows: Sequence[int] | None, why: str) -> str:
    """Release refused rows (None: all that can be), record who, when and why, and return a message.

    Raises:
        UserError: no reason is given, or a row is not in quarantine or cannot be accepted; nothing was released.
    """
    if not why.strip():
        raise UserError("a release needs a reason: --why TEXT")
    (stored,) = _batches(context, source, batch)
    path = context.path(path_of(source, batch))
    refusals = read(path) if path.is_file() else []
    decisions = releases(context.project)
    before = decisions.rows_of(stored)
    quarantined = {refusal.row for refusal in refusals}
    wanted = set(rows) if rows is not None else quarantined
    if absent := sorted(wanted - quarantined):
        raise UserError(f"row {absent[0]} of {source} {batch} is not in quarantine; `refit quarantine list` shows them")
    barred = inadmissible(refusals, before | wanted)
    if rows is not None and barred:
        row, reason = min(barred.items())
        raise UserError(f"row {row} of {source} {batch} cannot be released: {reason}; nothing was released")
    fresh = sorted(wanted - before - set(barred))
    if not fresh:
        raise UserError(f"{source} {batch} has no further row that can be released; `refit quarantine list` shows why")
    record = Release(
        source=source,
        batch=batch,
        sha256=stored.sha256,
        rows=tuple(fresh),
        why=why.strip(),
        who=person(),
        when=utc_text(context.now(), "seconds"),
    )
    Releases(released=(*decisions.released, record)).write(context.path(artifacts.RELEASED))
    barred_note = f"; {len(barred)} cannot be released, `refit quarantine list` shows why" if barred else ""
    return (
        f"released {counted(len(fresh), 'row')} of {source} {batch}, accepted from the next `refit run` on{barred_note}"
    )
