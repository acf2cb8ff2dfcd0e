"""Immutable batches of raw rows, written once under the name of their period, each with a manifest of its content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from refit.config.section import OWN, time_column
from refit.errors import RefitError
from refit.files.artifacts import BATCHES, FileRef, atomic, read_json

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.config import SourceParams

FUTURE = "lies in the future"  # reason of an uncast row that waits until its event time has passed
LINE, FAULT, TEXT = f"{OWN}line", f"{OWN}fault", f"{OWN}text"  # added to the columns of raw rows when they are read
FILE_STRIDE = 1_000_000_000  # `_row` is the line, plus this for each earlier file of the same batch


@dataclass(frozen=True)
class Manifest:
    """The record of a batch. Content digests are additive: the digest of two parts combined is the sum of theirs."""

    source: str
    name: str
    part: int  # 0: a whole period; n: the n-th part of one, or the n-th version of a static table
    static: bool
    start: str | None
    end: str | None
    closed: bool  # rows of a later period existed when it was written, so it must not grow
    files: tuple[str, ...]
    rows: int
    read: int
    uncast: int
    first: str | None
    last: str | None
    content: str
    uncast_content: str
    sha256: str
    size: int
    uncast_sha256: str | None
    uncast_size: int | None
    declaration: str
    stand_in: str | None = None  # digest of the script that generated its rows
    repeats: int = 0  # rows read with it that repeat another row of the source; the row counts once
    waited: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    # by earlier batch: spans of its rows that lay in the future when it was written, and belong to this batch

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

    def rows_table(self, project: Path) -> pa.Table:
        """Its rows, after checking the digest of their file."""
        import pyarrow.parquet

        return pyarrow.parquet.read_table(FileRef(self.path.as_posix(), self.sha256, self.rows).resolve(project))

    def uncast_table(self, project: Path) -> pa.Table | None:
        """The record of its rows that did not cast; None if there are none."""
        import pyarrow.parquet

        if self.uncast_path is None or self.uncast_sha256 is None:
            return None
        path = FileRef(self.uncast_path.as_posix(), self.uncast_sha256, self.uncast).resolve(project)
        return pyarrow.parquet.read_table(path)


def for_sql(table: pa.Table, source: SourceParams) -> pa.Table:
    """Rename stored columns to the names used by SQL over a source, such as `event_time`."""
    time = time_column(source.columns)
    if source.event_time is None:
        return table.drop_columns([time])
    names = {name: source.inside(name) for name in source.columns} | {time: "event_time"}
    table = table.select([name for name in table.column_names if names.get(name, name) is not None])
    return table.rename_columns([str(names.get(name, name)) for name in table.column_names])


def manifests(project: Path, source: str) -> list[Manifest]:
    """The manifests of a source's batches, oldest first.

    Raises:
        RefitError: one of them cannot be read.
    """
    result = []
    for path in (project / BATCHES / source).glob("*.json"):
        raw = read_json(path)
        try:
            result.append(_manifest(raw, path))
        except (TypeError, ValueError):
            raise RefitError(f"{path} is no manifest of this version; delete {path.parent} to read again") from None
    return sorted(result, key=lambda manifest: (manifest.start or "", manifest.part))


def _manifest(raw: Any, path: Path) -> Manifest:
    """The manifest in a file, after checking its fields.

    Raises:
        TypeError, ValueError: a field is missing or invalid.
    """
    manifest = _reader().validate_json(json.dumps(raw), strict=True)
    if raw.keys() - vars(manifest).keys() or (manifest.source, manifest.name) != (path.parent.name, path.stem):
        raise ValueError("another file's, or of a later version")
    for moment in filter(None, (manifest.start, manifest.end, manifest.first, manifest.last)):
        if utc_moment(moment).tzinfo is None:
            raise ValueError("a time without a zone")
    if not manifest.static and not (manifest.start and manifest.end):
        raise ValueError("no period")
    for content in (manifest.content, manifest.uncast_content):
        int(content, 16)
    if len({manifest.uncast > 0, manifest.uncast_sha256 is not None, manifest.uncast_size is not None}) > 1:
        raise ValueError("rows that did not cast, and no file of them, or the other way round")
    counts = (manifest.rows, manifest.read, manifest.uncast, manifest.repeats)
    if min(*counts, manifest.size, manifest.uncast_size or 0) < 0:
        raise ValueError("less than nothing")
    return manifest


@cache
def _reader() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def forget(project: Path, source: str) -> None:
    """Remove the batches of a source. Manifests go first: a batch without one does not exist."""
    for suffix in ("json", "parquet"):
        for path in (project / BATCHES / source).glob(f"*.{suffix}"):
            path.unlink()


def clear_leftovers(project: Path, source: str) -> None:
    """Remove the partial files of killed runs."""
    for path in (project / BATCHES / source).glob(".*.partial"):
        path.unlink(missing_ok=True)


def write_parquet(path: Path, reader: pa.RecordBatchReader) -> None:
    """Write record batches as Parquet with page checksums: the same bytes for the same rows."""
    import pyarrow.parquet

    with (
        atomic(path) as scratch,
        pyarrow.parquet.ParquetWriter(scratch, reader.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)


def combine_digests(digests: Iterable[str]) -> str:
    """The content digest of several batches combined.

    >>> combine_digests(["0" * 31 + "1", "f" * 32]) == "0" * 32
    True
    """
    return f"{sum(int(digest, 16) for digest in digests) % 2**128:032x}"


def utc_text(moment: datetime | None) -> str | None:
    """Format a moment as stored in JSON.

    >>> utc_text(datetime(2013, 11, 1, 4, tzinfo=UTC))
    '2013-11-01T04:00:00Z'
    """
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def utc_moment(text: str) -> datetime:
    """Parse a moment written by `utc_text`."""
    return datetime.fromisoformat(text)
