"""Reads a window of the training table, and feature columns as doubles or strings, refusing what that would change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config import nearest
from refit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

BATCH = 122_880  # rows read at once: DuckDB's row group


def stored_table(path: Path) -> pq.ParquetFile:
    """Open a training table to read it in batches; by default, pyarrow keeps the bytes of all that was read of it."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=1 << 16)


def rows_of_window(path: Path, window: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the rows of one window of a training table, in the order of the file.

    They are read in batches: a row group, which `pyarrow.parquet.read_table` holds several of, is a million rows.

    Args:
        columns: names, in the order of the result; default: all.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with stored_table(path) as file:
        names = file.schema_arrow.names if columns is None else list(columns)
        groups = list(_groups_of_window(file.metadata, window))
        read = file.iter_batches(BATCH, row_groups=groups, columns=list(dict.fromkeys([*names, "window"])))
        parts = [batch.filter(pc.equal(batch["window"], window)) for batch in read]
        schema = pa.schema([file.schema_arrow.field(name) for name in names], file.schema_arrow.metadata)
    return with_large_cells(pa.Table.from_batches([part.select(names) for part in parts if part.num_rows], schema))


def rows_at(path: Path, indices: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
    """Read the rows at ascending indices of a training table, in batches, as in `rows_of_window`."""
    import pyarrow as pa

    with stored_table(path) as file:
        parts, start = list[pa.RecordBatch](), 0
        for batch in file.iter_batches(BATCH, columns=list(columns)):
            end = start + batch.num_rows
            inside = indices[(indices >= start) & (indices < end)] - start
            if len(inside):
                parts.append(batch.take(pa.array(inside)).select(columns))
            start = end
        schema = pa.schema([file.schema_arrow.field(name) for name in columns], file.schema_arrow.metadata)
    return with_large_cells(pa.Table.from_batches(parts, schema))


def with_large_cells(table: pa.Table) -> pa.Table:
    """The table with its binary columns (images) as large_binary, in the same memory.

    The offsets of `binary` have 32 bits: pyarrow cannot take rows of a column that holds more than 2 GiB, nor join its
    chunks.
    """
    import pyarrow as pa

    kind = pa.large_binary()
    for index, field in enumerate(table.schema):
        if pa.types.is_binary(field.type):
            table = table.set_column(index, field.with_type(kind), table.column(index).cast(kind))
    return table


def _groups_of_window(metadata: Any, window: str) -> Iterator[int]:
    """The row groups that may have rows of a window, by the statistics of the file."""
    for group in range(metadata.num_row_groups):
        of_group = metadata.row_group(group)
        columns = map(of_group.column, range(of_group.num_columns))
        known = next(each for each in columns if each.path_in_schema == "window").statistics
        if known is None or not known.has_min_max or known.min <= window <= known.max:
            yield group


def numbers(table: pa.Table, name: str) -> Any:
    """Read a feature as doubles.

    Raises:
        UserError: the column is missing, has another type, or holds integers beyond 2^53.
    """
    import pyarrow as pa

    column = cells_of(table, name)
    if column.type == pa.float64():
        return column
    kinds = pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null
    if not any(is_number(column.type) for is_number in kinds):
        raise UserError(f"feature {name!r} holds {column.type}, a number was expected; cast it to double")
    try:
        return column.cast(pa.float64(), safe=pa.types.is_integer(column.type))
    except pa.ArrowInvalid as error:
        raise UserError(
            f"feature {name!r} holds integers that no double does, so that several would be one ({error}); give them "
            "as strings to a model that takes them for categories, or make them smaller"
        ) from None


def texts(table: pa.Table, name: str) -> Any:
    """Read a categorical feature as strings.

    Raises:
        UserError: the column is missing, or has another type.
    """
    import pyarrow as pa

    column = cells_of(table, name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kinds = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null
    if not any(is_text(column.type) for is_text in kinds):
        raise UserError(f"feature {name!r} holds {column.type}, categories are texts; cast it to string")
    return column.cast(pa.string())


def cells_of(table: pa.Table, name: str) -> Any:
    """A feature as one array.

    Raises:
        UserError: the column is missing.
    """
    import pyarrow as pa

    if table.schema.get_field_index(name) < 0:  # `column_names` in each call would be quadratic in columns
        raise UserError(
            f"feature {name!r} is missing from the rows{nearest(name, table.column_names)}; the model needs it"
        )
    column = table.column(name)
    if column.num_chunks == 1:  # `combine_chunks` would copy it
        return column.chunk(0)
    if pa.types.is_binary(column.type):  # of another table than the training table
        column = column.cast(pa.large_binary())
    return column.combine_chunks()
