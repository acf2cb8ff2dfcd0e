"""Immutable batches of raw rows: written once under the name of their period, beside a manifest of what they hold."""

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

FUTURE = "lies in the future"  # why a row that did not cast waits for its time
LINE, FAULT, TEXT = f"{OWN}line", f"{OWN}fault", f"{OWN}text"  # beside the columns of rows as they are read
FILE_STRIDE = 1_000_000_000  # `_row` is the line, plus this for each earlier file of the same batch


@dataclass(frozen=True)
class Manifest:
    """What is recorded of a batch. Its content digests add up: that of two parts together is the sum of theirs."""

    source: str
    name: str
    part: int  # 0: a whole period; n: the n-th part of one, or the n-th version of a static table
    static: bool
    start: str | None
    end: str | None
    closed: bool  # rows of a later period were known when it was written, so that it may not grow
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
    repeats: int = 0  # rows read with it that equal one of the source's rows, which counts once
    waited: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    # by batch: spans of the rows that lay in the future when that one was written, and are rows of this one

    @property
    def path(self) -> Path:
        return BATCHES / self.source / f"{self.name}.parquet"

    @property
    def uncast_path(self) -> Path | None:
        return BATCHES / self.source / f"{self.name}.uncast.parquet" if self.uncast else None

    def check_sizes(self, project: Path) -> None:
        """See that its files are there, as long as recorded; whoever reads them checks their digests too.

        Raises:
            RefitError: one is missing or cut short.
        """
        for path, size in ((self.path, self.size), (self.uncast_path, self.uncast_size)):
            if path is not None and (not (project / path).is_file() or (project / path).stat().st_size != size):
                raise RefitError(
                    f"{path} is missing or is not the {size:,} bytes recorded; `dvc checkout` brings it back, "
                    f"or delete {BATCHES / self.source} to read the source again"
                )

    def rows_table(self, project: Path) -> pa.Table:
        """Its rows, once their digest is checked."""
        import pyarrow.parquet

        return pyarrow.parquet.read_table(FileRef(self.path.as_posix(), self.sha256, self.rows).resolve(project))

    def uncast_table(self, project: Path) -> pa.Table | None:
        """What is recorded of its rows that did not cast, or nothing."""
        import pyarrow.parquet

        if self.uncast_path is None or self.uncast_sha256 is None:
            return None
        path = FileRef(self.uncast_path.as_posix(), self.uncast_sha256, self.uncast).resolve(project)
        return pyarrow.parquet.read_table(path)


def for_sql(table: pa.Table, source: SourceParams) -> pa.Table:
    """Stored rows under the names that SQL over a source knows: `event_time` is the row's own."""
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
    found = []
    for path in (project / BATCHES / source).glob("*.json"):
        raw = read_json(path)
        try:
            found.append(_manifest(raw, path))
        except (TypeError, ValueError):
            raise RefitError(f"{path} is no manifest of this version; delete {path.parent} to read again") from None
    return sorted(found, key=lambda manifest: (manifest.start or "", manifest.part))


def _manifest(raw: Any, path: Path) -> Manifest:
    """The manifest in a file, once its fields are shown to be what they should.

    Raises:
        TypeError, ValueError: they are not.
    """
    found = _reader().validate_json(json.dumps(raw), strict=True)
    if raw.keys() - vars(found).keys() or (found.source, found.name) != (path.parent.name, path.stem):
        raise ValueError("another file's, or of a later version")
    for moment in filter(None, (found.start, found.end, found.first, found.last)):
        if utc_moment(moment).tzinfo is None:
            raise ValueError("a time without a zone")
    if not found.static and not (found.start and found.end):
        raise ValueError("no period")
    for content in (found.content, found.uncast_content):
        int(content, 16)
    if len({found.uncast > 0, found.uncast_sha256 is not None, found.uncast_size is not None}) > 1:
        raise ValueError("rows that did not cast, and no file of them, or the other way round")
    if min(found.rows, found.read, found.uncast, found.size, found.uncast_size or 0, found.repeats) < 0:
        raise ValueError("less than nothing")
    return found


@cache
def _reader() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def forget(project: Path, source: str) -> None:
    """Remove a source's batches, the manifests first: without one, a batch does not exist."""
    for suffix in ("json", "parquet"):
        for path in (project / BATCHES / source).glob(f"*.{suffix}"):
            path.unlink()


def clear_leftovers(project: Path, source: str) -> None:
    """Remove what a run that was killed left half-written."""
    for path in (project / BATCHES / source).glob(".*.partial"):
        path.unlink(missing_ok=True)


def write_parquet(path: Path, reader: pa.RecordBatchReader) -> None:
    """Write record batches as Parquet: the same bytes for the same rows, page checksums included."""
    import pyarrow.parquet

    with (
        atomic(path) as scratch,
        pyarrow.parquet.ParquetWriter(scratch, reader.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)


def together(digests: Iterable[str]) -> str:
    """The content digest of several batches taken together.

    >>> together(["0" * 31 + "1", "f" * 32]) == "0" * 32
    True
    """
    return f"{sum(int(digest, 16) for digest in digests) % 2**128:032x}"


def utc_text(moment: datetime | None) -> str | None:
    """A moment as JSON holds it.

    >>> utc_text(datetime(2013, 11, 1, 4, tzinfo=UTC))
    '2013-11-01T04:00:00Z'
    """
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def utc_moment(text: str) -> datetime:
    """The moment that `utc_text` wrote."""
    return datetime.fromisoformat(text)
