"""`data/snapshot.json`: the batches that a run may use, in order, with the digests of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Self

from pydantic import Field, model_validator

from refit.files.artifacts import FileRef, digest
from refit.schemas.artifact import Artifact, Part, UtcTime, omitted, utc_text
from refit.schemas.manifest import Ranges

__all__ = ["Snapshot", "SnapshotBatch", "snapshot_digest", "stand_in_notice"]


class SnapshotBatch(Part):
    """A batch that a run may use; `start` and `end` are of its period, None for a static table."""

    source: str
    name: str
    static: bool
    start: UtcTime | None
    end: UtcTime | None
    files: tuple[str, ...]
    rows: int
    rows_read: int = Field(alias="read")
    uncast: int
    first: UtcTime | None
    last: UtcTime | None
    path: str
    sha256: str
    uncast_path: str | None
    uncast_sha256: str | None
    stand_in: str | None = omitted(None)  # digest of the script that generated its rows
    repeats: int = omitted(0)  # rows read with it that repeat another row of the source
    taken: Ranges = omitted(())  # rows that waited in it for their time, and were moved to a later batch
    arrived: UtcTime | None = omitted(None)  # since when its rows are known, if they came late or are new versions
    delivered: UtcTime | None = omitted(None)  # of a snapshot: the time of the delivery in which its rows differed
    delivered_rows: int = omitted(0)  # the rows of that whole delivery, if it was compared with an earlier one
    deletes: bool = omitted(False)  # whether its rows are deleted since then

    @model_validator(mode="after")
    def _check_period(self) -> Self:
        if not self.static and not (self.start and self.end):
            raise ValueError("no period")
        return self

    @property
    def title(self) -> str:
        """Source and name, for messages."""
        return f"{self.source} {self.name}"

    @property
    def file(self) -> FileRef:
        """The file of its rows."""
        return FileRef(self.path, self.sha256, self.rows)


class Snapshot(Artifact):
    """The batches that a run at `as_of` may use, and the number of rows of each source that it may not use yet."""

    REMEDY: ClassVar[str] = "`refit run` writes it again"

    as_of: UtcTime
    batches: tuple[SnapshotBatch, ...]
    pending: Mapping[str, int]
    digest: str
    stand_in: Mapping[str, str] | None = omitted(None)  # sources with generated rows: where the real ones are published

    @model_validator(mode="after")
    def _check_digest(self) -> Self:
        if self.digest != snapshot_digest(self.as_of, self.batches):
            raise ValueError("its digest is not the one of its batches")
        return self


def snapshot_digest(as_of: datetime, batches: Sequence[SnapshotBatch]) -> str:
    """The digest that identifies a snapshot by its time and batches. Counts of pending rows do not change it."""
    return digest({"as_of": utc_text(as_of), "batches": [batch.to_json() for batch in batches]})


def stand_in_notice(sources: str) -> str:
    """The warning that goes with every figure made from generated rows.

    >>> stand_in_notice("customers")
    'GENERATED stand-in for customers: no figure made from it means anything'
    """
    return f"GENERATED stand-in for {sources}: no figure made from it means anything"
