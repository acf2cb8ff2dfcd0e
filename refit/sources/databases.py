"""Reads rows of a SQLite or DuckDB file with a query, without writing to the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import duckdb

from refit.config import SourceParams
from refit.config.queries import check_query, guard_sqlite
from refit.errors import UserError, first_line
from refit.sources.source_files import ROWS, SourceFile, numbered
from refit.sources.tables import CheckHeader

if TYPE_CHECKING:
    import pyarrow as pa

_SQLITE = b"SQLite format 3\0"


def read(file: SourceFile, source: SourceParams, where: str, check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
    """The rows of the source's query, in their order, numbered from 1.

    Raises:
        UserError: the file is not a database, or the query fails, is not a SELECT, or returns no rows.
    """
    query = str(source.query)
    with file.path.open("rb") as stream:
        rows = _sqlite if stream.read(16) == _SQLITE else _duckdb
    line = 1
    try:
        for batch in rows(file.path, query, source, where, check_header):
            yield numbered(batch, line)
            line += batch.num_rows
    except (sqlite3.Error, sqlite3.Warning, duckdb.Error) as error:
        raise UserError(f"{file.name}: {first_line(error)}; correct {where}.query or .path in params.yaml") from None
    if line == 1:
        raise UserError(f"{file.name}: the query gives no rows; at least one was expected ({where}.query)")


def _sqlite(
    path: Path, query: str, source: SourceParams, where: str, check_header: CheckHeader
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    columns = list(source.columns)

    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
    try:
        guard_sqlite(connection, query, f"{where}.query")
        cursor = connection.execute(query)
        if cursor.description is None:
            raise sqlite3.ProgrammingError("the query gives no table; a SELECT was expected")
        names = [column[0] for column in cursor.description]
        check_header(names)
        indices = [names.index(column) for column in columns]
        while rows := cursor.fetchmany(ROWS):
            values = list(zip(*rows, strict=True))
            yield pa.record_batch(
                [pa.array([_text(value) for value in values[index]], pa.string()) for index in indices], names=columns
            )
    finally:
        connection.close()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.hex() if isinstance(value, bytes) else repr(value)


def _duckdb(
    path: Path, query: str, source: SourceParams, where: str, check_header: CheckHeader
) -> Iterator[pa.RecordBatch]:
    columns = list(source.columns)
    with duckdb.connect(str(path), read_only=True, config={"threads": 1}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set enable_external_access = false")
        column_names = connection.execute("select column_name from duckdb_columns() where not internal").fetchall()
        check_query(connection, query, f"{where}.query", {name for (name,) in column_names})
        relation = connection.sql(query)
        if relation is None:
            raise duckdb.ProgrammingError("the query gives no table; a SELECT was expected")
        check_header(relation.columns)
        for batch in relation.to_arrow_reader(ROWS):
            yield batch.select(columns)
