"""Reads a Parquet file for `refit init` as the texts that ingestion casts, so that both understand the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.sql_text import quote
from refit.errors import UserError
from refit.sources import parquet_files
from refit.sources.limits import DEFAULT

if TYPE_CHECKING:
    import pyarrow as pa


def load_texts(connection: Any, path: Path) -> pa.Table:
    """The rows of a file, each value as DuckDB writes it.

    Raises:
        UserError: the file is no Parquet, has no rows, or a column holds lists or structs.
    """
    import pyarrow as pa

    if not path.is_file():
        raise UserError(f"{path} does not exist")
    names = parquet_files.names(path, path.name, DEFAULT)
    lower = [name.lower() for name in names]
    if repeated := ", ".join(repr(name) for name in names if lower.count(name.lower()) > 1 or not name.strip()):
        raise UserError(f"{path.name}: columns need a name each ({repeated}; case does not count); rename them")
    batches = list(parquet_files.read(path, path.name, names, lambda _: None, DEFAULT))
    if not sum(batch.num_rows for batch in batches):
        raise UserError(f"{path.name} has no rows; a table with a label is needed")
    table = pa.Table.from_batches(batches)
    for field in table.schema:
        if pa.types.is_nested(field.type):
            raise UserError(
                f"{path.name}: column {field.name!r} holds {field.type}; leave it out, or write the params.yaml "
                "yourself (Refit's docs/sources.md) and run `refit init` without --parquet"
            )
    connection.register("typed", table)
    texts: pa.Table = connection.sql(
        f"select {', '.join(f'{quote(name)}::varchar as {quote(name)}' for name in names)} from typed"
    ).to_arrow_table()
    connection.unregister("typed")
    return texts
