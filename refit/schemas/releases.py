"""`released.json`: the quarantined rows that people decided to accept."""

from __future__ import annotations

from typing import ClassVar

from refit.schemas.artifact import Artifact, Part
from refit.schemas.snapshot import SnapshotBatch

__all__ = ["Release", "Releases"]


class Release(Part):
    """A person's decision to accept refused rows of one batch."""

    source: str
    batch: str
    sha256: str  # of the batch: row numbers are only valid for this file
    rows: tuple[int, ...]
    why: str
    who: str
    when: str  # a text, since people may write this file


class Releases(Artifact):
    """All releases so far.

    >>> Releases().to_json()
    {'released': []}
    """

    REMEDY: ClassVar[str] = 'restore it, or start again with {"released": []}'

    released: tuple[Release, ...] = ()

    def rows_of(self, batch: SnapshotBatch) -> set[int]:
        """The released rows of a batch as it is now."""
        name = (batch.source, batch.name, batch.sha256)
        return {row for one in self.released if (one.source, one.batch, one.sha256) == name for row in one.rows}
