"""`data/validated.json`: the batches that passed validation, and what became of each row."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from refit.schemas.artifact import Artifact, Part, UtcTime
from refit.schemas.snapshot import SnapshotBatch

__all__ = ["RowBalance", "Validated", "ValidatedBatch"]


class ValidatedBatch(SnapshotBatch):
    """A batch that passed; of the rows read, all are accepted or quarantined."""

    accepted: int
    quarantined: int  # rows that could not be cast included
    excluded: tuple[int, ...]  # numbers of the rows in its file that are not accepted
    excluded_rows: str | None  # the file that lists the reasons
    checks: int
    warnings: tuple[str, ...]


class RowBalance(Part):
    """The number of rows of a run; `rows_read` is the sum of the others."""

    rows_read: int = Field(alias="read")
    accepted: int
    quarantined: int
    pending: int


class Validated(Artifact):
    """The accepted rows of a snapshot."""

    REMEDY: ClassVar[str] = "`refit run` writes it again"

    as_of: UtcTime
    snapshot: str  # the snapshot's digest
    rows: RowBalance
    batches: tuple[ValidatedBatch, ...]
