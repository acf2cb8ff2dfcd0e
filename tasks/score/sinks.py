"""Delivers predictions to a database's table, Parquet files or a Delta table: once for each window and version.

A window is what was asked for: `2013-11`, `next-24h-20131210T0600`, the name of a file. Scoring it again with the same
version replaces its rows in one step, so that a delivery which was killed, or repeated, leaves no half and no double.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from refit.config.sinks import SinkParams
from refit.errors import RefitError, UserError, first_line
from refit.extras import not_installed
from refit.files.artifacts import atomic
from refit.sources import database_urls
from refit.sources.declared_paths import expanded, masked
from refit.sources.remote_files import errors as store_errors

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import URL, Table

    from registry.versions import Version

__all__ = ["WINDOW", "deliver"]

WINDOW = "score_window"
_IDENTITY = (WINDOW, "model", "model_version")
_ROWS = 10_000  # of one insert
_TRIES = 5


def deliver(
    project: Path, sinks: Sequence[SinkParams], window: str, version: Version, predictions: pa.Table
) -> tuple[str, ...]:
    """Replace the predictions of a window and version in each sink; returns where they are now.

    Args:
        predictions: the table that users get, all of this version; without rows, the earlier ones are deleted.

    Raises:
        UserError: a sink cannot be written; those before it have the predictions.
    """
    import pyarrow as pa

    identity = {WINDOW: window, "model": version.model, "model_version": version.version}
    names = pa.array([window] * predictions.num_rows, pa.string())
    table = _plain(predictions.append_column(WINDOW, names))
    places = []
    for number, sink in enumerate(sinks):
        where = f"sinks[{number}]"
        if sink.kind == "database":
            places.append(_to_database(sink, identity, table, where))
        elif sink.kind == "delta":
            places.append(_to_delta(project, sink, identity, table, where))
        else:
            places.append(_to_files(project, sink, identity, table))
    return tuple(places)


def _plain(table: pa.Table) -> pa.Table:
    """The table without types that databases lack: lists become texts, times lose their zone, which is UTC."""
    import json

    import pyarrow as pa

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_nested(column.type):
            column = pa.array([json.dumps(each) for each in column.to_pylist()], pa.string())
        elif pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us"))
        columns[name] = column
    return pa.table(columns)


def _to_database(sink: SinkParams, identity: Mapping[str, str], table: pa.Table, where: str) -> str:
    """Replace the rows in one transaction; of two that do so at once, one waits for the other or is tried again."""
    from sqlalchemy.exc import DBAPIError

    variable = str(sink.url)
    url = database_urls.parsed(variable, f"{where}.url")
    with database_urls.errors(variable, f"{where}.url", f"correct {where}, or let this user write the table"):
        engine = database_urls.engine(url, isolation_level="SERIALIZABLE")
        for tried in range(1, _TRIES + 1):
            try:
                _replace(engine, str(sink.table), identity, table, where)
                break
            except DBAPIError as error:  # two wrote at once; the database has undone all of this try
                if tried == _TRIES or not _is_conflict(error):
                    raise
                time.sleep(0.2 * tried)
    return f"{_shown(url)} {sink.table}"


def _is_conflict(error: Any) -> bool:
    """Whether another delivery was the reason: a deadlock, a lock, or a table that it made a moment before."""
    code = str(getattr(error.orig, "sqlstate", None) or next(iter(getattr(error.orig, "args", ())), ""))
    known = code in ("40001", "40P01", "1213", "1205", "23505", "42P07", "1050")
    return known or any(text in str(error.orig) for text in ("database is locked", "already exists"))


def _replace(engine: Any, name: str, identity: Mapping[str, str], table: pa.Table, where: str) -> None:
    with engine.begin() as connection:
        target = _table_of(connection, name, table, where)
        if target is None:
            return
        mine = [target.c[column] == value for column, value in identity.items()]
        connection.execute(target.delete().where(*mine))
        for batch in filter(len, table.to_batches(_ROWS)):
            connection.execute(target.insert(), batch.to_pylist())


def _table_of(connection: Any, name: str, table: pa.Table, where: str) -> Table | None:
    """The table in the database, created if it is missing and there are rows for it.

    Raises:
        UserError: it lacks columns.
    """
    from sqlalchemy import Column, MetaData, Table, inspect

    schema, _, own = name.rpartition(".")
    columns = [Column(field.name, _sql_type(field.type)) for field in table.schema]
    target = Table(own, MetaData(schema=schema or None), *columns)
    inspector = inspect(connection)
    if not inspector.has_table(own, schema=schema or None):
        if not table.num_rows:
            return None
        target.create(connection)
        return target
    there = {column["name"] for column in inspector.get_columns(own, schema=schema or None)}
    if missing := [column for column in table.column_names if column not in there]:
        raise UserError(
            f"table {name} has no column {', '.join(missing)}, which the predictions have; add them, or name another "
            f"table ({where}.table)"
        )
    return target


def _sql_type(kind: pa.DataType) -> Any:
    import pyarrow as pa
    from sqlalchemy import BigInteger, Boolean, Date, DateTime, Double, Text
    from sqlalchemy.dialects.mysql import DATETIME

    moment = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")  # which round to whole seconds else
    tests: Sequence[tuple[Any, Any]] = (
        (pa.types.is_boolean, Boolean()),
        (pa.types.is_integer, BigInteger()),
        (pa.types.is_floating, Double()),
        (pa.types.is_timestamp, moment),
        (pa.types.is_date, Date()),
    )
    return next((sql for is_one, sql in tests if is_one(kind)), Text())


def _shown(url: URL) -> str:
    """Where a database is, without who reads it."""
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or ''}{port}/{url.database or ''}"


def _to_files(project: Path, sink: SinkParams, identity: Mapping[str, str], table: pa.Table) -> str:
    """Write one file, whose name says the window, model and version; it replaces an earlier one in one step.

    Without rows there is no file: its columns might have other types than those of the other files.
    """
    import pyarrow as pa
    import pyarrow.fs
    import pyarrow.parquet

    name = _file_name(identity)
    declared, folder = (path.rstrip("/") for path in (str(sink.path), expanded(str(sink.path))))
    if "://" in folder:
        whole = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, whole, compression="zstd")
        with store_errors(declared, "written"):
            store, path = pyarrow.fs.FileSystem.from_uri(folder)
            path = f"{path}/{name}"
            if table.num_rows:
                with store.open_output_stream(path) as stream:  # closing it makes the object, whatever was written
                    stream.write(whole.getvalue())
            elif store.get_file_info(path).is_file:
                store.delete_file(path)
    elif table.num_rows:
        with atomic(project / folder / name) as scratch:
            pyarrow.parquet.write_table(table, scratch, compression="zstd")
    else:
        (project / folder / name).unlink(missing_ok=True)
    return f"{declared}/{name}"


def _file_name(identity: Mapping[str, str]) -> str:
    """A name in a folder of the window, which Hive and the sources of Refit read as a column.

    >>> _file_name({"score_window": "next-24h", "model": "flights/late", "model_version": "3"})
    'score_window=next-24h/flights%2Flate-v3.parquet'
    """
    window, model, version = (quote(identity[name], safe="") for name in _IDENTITY)
    return f"{WINDOW}={window}/{model}-v{version}.parquet"


def _to_delta(project: Path, sink: SinkParams, identity: Mapping[str, str], table: pa.Table, where: str) -> str:
    """Replace the rows by one commit to the table's log."""
    declared, path = str(sink.path).rstrip("/"), expanded(str(sink.path))
    address = path if "://" in path else str(project / path)
    try:
        import deltalake

        mine = " and ".join(f"{name} = '{_escaped(value)}'" for name, value in identity.items())
        if deltalake.DeltaTable.is_deltatable(address):
            if table.num_rows:
                deltalake.write_deltalake(address, table, mode="overwrite", predicate=mine)
            else:
                deltalake.DeltaTable(address).delete(mine)
        elif table.num_rows:
            deltalake.write_deltalake(address, table, mode="error")
    except RefitError:
        raise
    except ImportError as error:
        raise not_installed(error, "a Delta table", where) or error from None
    except Exception as error:
        raise UserError(
            f"the Delta table {declared} cannot be written: {masked(first_line(error), declared)}; "
            f"correct {where}, or run again if another process wrote it at once"
        ) from None
    return f"delta:{declared}"


def _escaped(value: str) -> str:
    return value.replace("'", "''")
