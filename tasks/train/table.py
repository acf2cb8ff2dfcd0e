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

__all__ = ["drawn", "read"]


def read(path: Path, columns: Sequence[str], *, key: str, max_rows: int | None, seed: int) -> pa.Table:
    """Read columns of the table; into a file that is mapped into memory if they are large.

    Of more than `max_rows` rows of the training window, those that are `drawn` are read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = stored_table(path)
    wanted = None if max_rows is None else _wanted(file, key, max_rows, seed)
    rows = file.metadata.num_rows if wanted is None else int(wanted.sum())
    large = is_large(8 * rows * len(columns))
    if wanted is None and not large:
        return with_large_cells(pq.read_table(path, columns=columns, page_checksum_verification=True))
    batches = _only(file.iter_batches(batch_size=BATCH, columns=columns), wanted)
    first = next(batches)
    batches = chain([first], batches)
    table = table_in_file(batches, first.schema) if large else pa.Table.from_batches(batches)
    return with_large_cells(table.select(columns))


def drawn(keys: pa.ChunkedArray, count: int, seed: int) -> NDArray[np.int64]:
    """The indices of the keys with the smallest hashes: the same ones each time, and most again when rows are added.

    >>> import pyarrow as pa
    >>> drawn(pa.chunked_array([list("abcdef")]), 2, seed=0).tolist()
    [0, 3]
    """
    import duckdb
    import pyarrow as pa

    with duckdb.connect() as connection:
        connection.register("keys", pa.table({"key": keys}))
        text = f"concat('{seed}:', key::varchar)"
        hashed = connection.sql(f"select md5_number_lower({text}) as number from keys").to_arrow_table()
    return np.sort(np.argsort(hashed["number"].to_numpy(), kind="stable")[:count])


def _only(batches: Iterator[pa.RecordBatch], wanted: NDArray[np.bool_] | None) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    first = 0
    for batch in batches:
        last = first + batch.num_rows
        yield batch if wanted is None else batch.filter(pa.array(wanted[first:last]))
        first = last


def _wanted(file: Any, key: str, max_rows: int, seed: int) -> NDArray[np.bool_] | None:
    """(rows,) whether a row is read; None if all are."""
    import pyarrow.compute as pc

    rows = file.read(columns=[key, "window"])
    of_train = pc.equal(rows["window"], "train").to_numpy()
    if of_train.sum() <= max_rows:
        return None
    places = np.flatnonzero(of_train)
    wanted: NDArray[np.bool_] = ~of_train
    wanted[places[drawn(rows[key].take(places), max_rows, seed)]] = True
    return wanted
