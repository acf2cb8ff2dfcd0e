"""The manifest of a batch: the record of its content, written last, which makes the batch valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, NonNegativeInt, model_validator

from refit.errors import RefitError
from refit.files.artifacts import BATCHES, FileRef
from refit.schemas.artifact import Artifact, UtcTime, omitted

if TYPE_CHECKING:
    import pyarrow as pa

Ranges = tuple[tuple[int, int], ...]  # spans of row numbers, both ends included


class Manifest(Artifact):
    """The record of a batch. Content digests are additive: the digest of two parts combined is the sum of theirs."""

    REMEDY: ClassVar[str] = "delete its folder to read the source again"

    source: str
    name: str
    part: int  # 0: a whole period; n: the n-th part of one, or the n-th version of a static table
    static: bool
    start: UtcTime | None
    end: UtcTime | None
    closed: bool  # rows of a later period existed when it was written, so it must not grow
    files: tuple[str, ...]
    rows: NonNegativeInt
    rows_read: NonNegativeInt = Field(alias="read")
    uncast: NonNegativeInt
    first: UtcTime | None
    last: UtcTime | None
    content: str = Field(pattern="^[0-9a-f]{32}$")
    uncast_content: str = Field(pattern="^[0-9a-f]{32}$")
    sha256: str
    size: NonNegativeInt
    uncast_sha256: str | None
    uncast_size: NonNegativeInt | None
    declaration: str
    stand_in: str | None = None  # digest of the script that generated its rows
    repeats: NonNegativeInt = 0  # rows read with it that repeat another row of the source; the row counts once
    waited: Mapping[str, Ranges] = Field(default_factory=dict)
    # by earlier batch: its rows that lay in the future when it was written, and belong to this batch
    arrived: UtcTime | None = omitted(None)  # when rows were read that came late, or are new versions; else None
    arrives_from: UtcTime | None = omitted(None)  # when the first of its rows arrived, if their columns tell it
    delivered: UtcTime | None = omitted(None)  # of a snapshot: the time of the delivery in which its rows differed
    delivered_rows: NonNegativeInt = omitted(0)  # those of the whole delivery, if compared with an earlier one
    deletes: bool = omitted(False)  # whether its rows, copied from earlier batches, were missing in that delivery

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.static and not (self.start and self.end):
            raise ValueError("no period")
        if len({self.uncast > 0, self.uncast_sha256 is not None, self.uncast_size is not None}) > 1:
            raise ValueError("rows that could not be cast without a file of them, or the other way round")
        return self

    @property
    def path(self) -> Path:
        return BATCHES / self.source / f"{self.name}.parquet"

    @property
    def uncast_path(self) -> Path | None:
        return BATCHES / self.source / f"{self.name}.uncast.parquet" if self.uncast else None

    def check_sizes(self, project: Path) -> None:
        """Check that its files exist with the recorded sizes; readers check the digests as well.

        Raises:
            RefitError: a file is missing or has another size.
        """
        for path, size in ((self.path, self.size), (self.uncast_path, self.uncast_size)):
            if path is not None and (not (project / path).is_file() or (project / path).stat().st_size != size):
                raise RefitError(
                    f"{path} is missing or is not the {size:,} bytes recorded; `dvc checkout` brings it back, "
                    f"or delete {BATCHES / self.source} to read the source again"
                )

    def rows_table(self, project: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows, or only some columns of them, after checking the digest of their file."""
        import pyarrow.parquet

        path = FileRef(self.path.as_posix(), self.sha256, self.rows).resolve(project)
        return pyarrow.parquet.read_table(path, columns=columns and list(columns))

    def uncast_table(self, project: Path) -> pa.Table | None:
        """The record of its rows that did not cast; None if there are none."""
        import pyarrow.parquet

        if self.uncast_path is None or self.uncast_sha256 is None:
            return None
        path = FileRef(self.uncast_path.as_posix(), self.uncast_sha256, self.uncast).resolve(project)
        return pyarrow.parquet.read_table(path)
