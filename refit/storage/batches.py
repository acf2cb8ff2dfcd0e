"""Immutable batches of raw rows, written once under the name of their period, each with a manifest of its content."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from refit.config.section import OWN, time_column
from refit.errors import RefitError
from refit.files.artifacts import BATCHES, atomic
from refit.schemas.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.config import SourceParams

FUTURE = "lies in the future"  # reason of an uncast row that waits until its event time has passed
LINE, FAULT, TEXT = f"{OWN}line", f"{OWN}fault", f"{OWN}text"  # added to the columns of raw rows when they are read
FILE_STRIDE = 1_000_000_000  # `_row` is the line, plus this for each earlier file of the same batch


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
    stored = []
    for path in (project / BATCHES / source).glob("*.json"):
        manifest = Manifest.read(path)
        if (manifest.source, manifest.name) != (source, path.stem):
            raise RefitError(
                f"{path} is the manifest of {manifest.source}/{manifest.name}; delete {path.parent} to read the "
                "source again"
            )
        stored.append(manifest)
    return sorted(stored, key=lambda manifest: (manifest.start is not None, manifest.start, manifest.part))


def forget(project: Path, source: str) -> None:
    """Remove the batches of a source. Manifests go first: a batch without one does not exist."""
    for suffix in ("json", "parquet"):
        for path in (project / BATCHES / source).glob(f"*.{suffix}"):
            path.unlink()


def forget_delivery(project: Path, source: str, delivered: datetime) -> None:
    """Remove what is stored of one delivery of a snapshot, and the files of batches without a manifest."""
    kept: set[Path] = set()
    for batch in manifests(project, source):
        if batch.delivered == delivered:
            (project / batch.path).with_suffix(".json").unlink()
        else:
            kept |= {project / path for path in (batch.path, batch.uncast_path) if path}
    for path in (project / BATCHES / source).glob("*.parquet"):
        if path not in kept:
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
