"""A file to read rows from, and rows numbered as they stand in it: what every kind of source gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.storage.batches import FAULT, LINE, TEXT

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 50_000
# in a record batch


@dataclass(frozen=True)
class SourceFile:
    """A file to read, and the name that messages and batches know it by: never a path that only this machine has."""

    path: Path
    name: str
    stand_in: str | None = None  # of a generated one: the digest of the script that wrote it


def numbered(batch: pa.RecordBatch, line: int) -> pa.RecordBatch:
    """`batch` behind the columns LINE, FAULT and TEXT, its rows numbered from `line`."""
    import pyarrow as pa

    nothing: Any = pa.nulls(batch.num_rows, pa.string())
    lines = pa.array(range(line, line + batch.num_rows), pa.int64())
    return pa.record_batch([lines, nothing, nothing, *batch.columns], names=[LINE, FAULT, TEXT, *batch.schema.names])
