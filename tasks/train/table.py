"""Reads the training table: all of it, or as many rows of the training window as `train.max_rows` allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.learners.spill import is_large, table_in_file
from refit.storage.columns import BATCH, stored_table, with_large_cells

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read"]


def read(path: Path, columns: Sequence[str], *, key: str, max_rows: int | None, seed: int) -> pa.Table:
    """Read columns of the table; into a file that is mapped into memory if they are large.

    Of more than `max_rows` rows of the training window, those with the smallest hashes of seed and key are read: the
    same ones each time, and most of them again when rows are added.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = stored_table(path)
    drawn = None if max_rows is None else _drawn(file, key, max_rows, seed)
    rows = file.metadata.num_rows if drawn is None else int(drawn.sum())
    large = is_large(8 * rows * len(columns))
    if drawn is None and not large:
        return with_large_cells(pq.read_table(path, columns=columns, page_checksum_verification=True))
    batches = _only(file.iter_batches(batch_size=BATCH, columns=columns), drawn)
    first = next(batches)
    batches = chain([first], batches)
    table = table_in_file(batches, first.schema) if large else pa.Table.from_batches(batches)
    return with_large_cells(table.select(columns))


def _only(batches: Iterator[pa.RecordBatch], drawn: NDArray[np.bool_] | None) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    first = 0
    for batch in batches:
        last = first + batch.num_rows
        yield batch if drawn is None else batch.filter(pa.array(drawn[first:last]))
        first = last


def _drawn(file: Any, key: str, max_rows: int, seed: int) -> NDArray[np.bool_] | None:
    """(rows,) whether a row is read; None if all are."""
    import duckdb
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = file.read(columns=[key, "window"])
    of_train = pc.equal(rows["window"], "train").to_numpy()
    if of_train.sum() <= max_rows:
        return None
    with duckdb.connect() as connection:
        connection.register("keys", pa.table({"key": rows[key]}))
        text = f"concat('{seed}:', key::varchar)"
        hashed = connection.sql(f"select md5_number_lower({text}) as number from keys").to_arrow_table()
    numbers = hashed["number"].to_numpy()
    smallest = np.flatnonzero(of_train)[np.argsort(numbers[of_train], kind="stable")[:max_rows]]
    drawn: NDArray[np.bool_] = ~of_train
    drawn[smallest] = True
    return drawn
