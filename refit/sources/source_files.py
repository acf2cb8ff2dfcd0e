"""A file or table to read rows from and its numbered rows, common to all kinds of sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.storage.batches import FAULT, LINE, TEXT

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.sources.remote_files import RemoteFile
    from refit.sources.tables import Table

ROWS = 50_000  # in a record batch


@dataclass(frozen=True)
class SourceFile:
    """A file to read, and its name in messages and batches, which is never a path of this machine only.

    The pictures of a pattern are one such file: 100,000 of them would be as many entries in every list of files.
    """

    path: Path  # of pictures: the folder that their pattern starts from
    name: str
    stand_in: str | None = None  # for a generated file, the digest of the script that wrote it
    parts: tuple[Path, ...] = ()  # all files that it is read from, if not `path` alone
    remote: RemoteFile | None = None  # of an object store; `path` is where its copy lies while it is read
    table: Table | None = None  # of a table elsewhere: what reads it; `path` then is no file

    def fetch(self) -> None:
        """Copy a file of an object store to `path`; another one is there already."""
        if self.remote:
            self.remote.fetch(self.path)

    @property
    def home(self) -> Path:
        """The folder that all parts are in, at whatever depth."""
        return self.path if self.path.is_dir() else self.path.parent


@dataclass
class ReadDigest:
    """The sha256 of a file that was read from its first to its last byte; None if it was not."""

    sha256: str | None = None


def numbered(batch: pa.RecordBatch, line: int) -> pa.RecordBatch:
    """Put the columns LINE, FAULT and TEXT before those of `batch`, with rows numbered from `line`."""
    import pyarrow as pa

    nothing: Any = pa.nulls(batch.num_rows, pa.string())
    lines = pa.array(range(line, line + batch.num_rows), pa.int64())
    return pa.record_batch([lines, nothing, nothing, *batch.columns], names=[LINE, FAULT, TEXT, *batch.schema.names])
