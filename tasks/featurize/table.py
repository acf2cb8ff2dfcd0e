"""Writes the training table in parts and reads it by column, so that memory does not grow with its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.sql_text import literal

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 1 << 20  # rows of a row group: pyarrow's default
_FORMAT = {"compression": "zstd", "compression_level": 1, "write_page_checksum": True}


def write(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, report: Callable[[int], None]) -> None:
    """Write record batches to a Parquet file, a row group at a time; `report` is given the number of rows so far.

    The bytes are those of `pyarrow.parquet.write_table`, whatever the sizes of the batches.
    """
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetWriter(path, schema, **_FORMAT) as writer:
        for table in _row_groups(batches, schema):
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
            del table  # or it would stay until the next one is there
            report(rows)


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= ROW_GROUP:
            rest = ROW_GROUP - (count - waiting[-1].num_rows)
            last = waiting.pop()
            yield pa.Table.from_batches([*waiting, last.slice(0, rest)], schema)
            waiting, count = [last.slice(rest)], count - ROW_GROUP
    if count:
        yield pa.Table.from_batches(waiting, schema)


class StoredTable:
    """A stored table, or some of its rows, with the methods of `pyarrow.Table` that one column at a time suffices for.

    Each use of a column reads it again.
    """

    def __init__(self, path: Path, chosen: pa.Array | None = None) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._chosen = chosen  # whether each row of the file is one of the table; None: every row is
        self.schema: pa.Schema = pq.read_schema(path)
        rows = pq.read_metadata(path).num_rows
        self.num_rows: int = rows if chosen is None else chosen.true_count

    def __len__(self) -> int:
        return self.num_rows

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    @property
    def relation(self) -> str:
        """SQL of all rows of the file."""
        return f"read_parquet({literal(str(self._path))})"

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        import pyarrow.parquet as pq

        column = pq.ParquetFile(self._path).read(columns=[name])[name]
        return column if self._chosen is None else column.filter(self._chosen)

    def filter(self, mask: Any) -> StoredTable:
        """The rows at which a mask is true."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pc.fill_null(mask, False)
        wanted = wanted.combine_chunks() if isinstance(wanted, pa.ChunkedArray) else wanted
        if self._chosen is None:
            return StoredTable(self._path, wanted)
        both = np.zeros(len(self._chosen), dtype=bool)
        both[np.flatnonzero(self._chosen.to_numpy(zero_copy_only=False))] = wanted.to_numpy(zero_copy_only=False)
        return StoredTable(self._path, pa.array(both))

    def take(self, indices: pa.Array) -> pa.Table:
        """Some rows, in memory."""
        import pyarrow as pa

        return pa.table({name: self[name].take(indices) for name in self.column_names})

    def read(self) -> pa.Table:
        """All rows, in memory."""
        import pyarrow.parquet as pq

        table = pq.ParquetFile(self._path).read()
        return table if self._chosen is None else table.filter(self._chosen)
