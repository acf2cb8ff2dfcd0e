"""Reads Delta and Iceberg tables by their logs, which say which rows count and what was added since a version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from refit.config import SourceParams
from refit.errors import RefitError, UserError, first_line
from refit.extras import not_installed
from refit.sources.source_files import ROWS, numbered
from refit.sources.tables import Change, CheckHeader

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable as Delta
    from pyiceberg.table import Table as Iceberg

_REWRITES = ("deletionVectors", "columnMapping")  # features of Delta with which its files alone are not its rows


class DeltaTable:
    """A Delta table on this machine or in an object store.

    Versions that only added files are read from those files. Where files were taken away, by a deletion, an update or a
    compaction, the whole table is read, so that the rules for rows that change decide.
    """

    def __init__(self, project: Path, path: str, source: SourceParams, where: str) -> None:
        self._address = path if "://" in path else str(project / path)
        self._name = path
        self._source = source
        self._where = where
        self._open: Delta | None = None
        self._new: set[str] | None = None  # the files to read, or None for all

    def identify(self) -> str:
        """The table's id and its version."""
        with self._errors():
            return _position(self._table())

    def changes_since(self, position: str | None) -> Change:
        """The files that were added since a version, or the whole table."""
        with self._errors():
            self._open = table = self._table()
            self._new = self._added(table, position) if position else None
            return Change(_position(table), since=None if self._new is None else position)

    def read(self, change: Change, check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
        """The rows of the version that `changes_since` saw."""
        with self._errors():
            table = self._open or self._table()
            check_header([field.name for field in table.schema().fields])
            rows = _delta_rows(table, self._new)
            yield from _numbered(rows, self._source, self._where, whole=change.since is None)

    def _table(self, version: int | None = None) -> Delta:
        import deltalake

        return deltalake.DeltaTable(self._address, version=version)

    def _added(self, table: Delta, position: str) -> set[str] | None:
        """The files that were added since a position; None if that is not all that changed, or the log forgot it."""
        import deltalake

        name, _, version = position.rpartition("@")
        features = table.protocol().reader_features or []
        if name != str(table.metadata().id) or not version.isdigit() or {*features} & {*_REWRITES}:
            return None
        try:
            before = _files(self._table(int(version)))
            there = {fragment.path for fragment in table.to_pyarrow_dataset().get_fragments()}
        except deltalake.exceptions.DeltaError:  # that version is gone, or pyarrow lacks a feature
            return None
        now = _files(table)
        added = now - before
        return added if before <= now and added <= there else None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with lake_errors("Delta", self._name, f"{self._where}.path"):
            yield


def _position(table: Delta) -> str:
    return f"{table.metadata().id}@{table.version()}"


def _files(table: Delta) -> set[str]:
    """The files of a version by the names that they have; the log has them as URLs."""
    import pyarrow as pa

    return {unquote(str(path)) for path in pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()}


def _delta_rows(table: Delta, added: set[str] | None) -> Iterable[pa.RecordBatch]:
    """The rows of some files of a table, or of all of it."""
    import pyarrow as pa

    if added is None:
        yield from pa.RecordBatchReader.from_stream(table.scan())
        return
    data = table.to_pyarrow_dataset()
    for fragment in data.get_fragments():
        if fragment.path in added:
            yield from fragment.to_batches(schema=data.schema, batch_size=ROWS)


class IcebergTable:
    """An Iceberg table of a catalog that PyIceberg's own settings name. Snapshots that only appended are read alone."""

    def __init__(self, name: str, source: SourceParams, where: str) -> None:
        self._name = name
        self._source = source
        self._where = where
        self._open: Iceberg | None = None

    def identify(self) -> str:
        """The table's id and its snapshot."""
        with self._errors():
            return _snapshot(self._table())

    def changes_since(self, position: str | None) -> Change:
        """The rows that were appended since a snapshot, or the whole table."""
        with self._errors():
            self._open = table = self._table()
            since = position if position and _only_appended(table, position) else None
            return Change(_snapshot(table), since=since)

    def read(self, change: Change, check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
        """The rows of the snapshot that `changes_since` saw."""
        with self._errors():
            table = self._open or self._table()
            check_header(list(table.schema().column_names))
            scan: Any = table.scan()
            if change.since:
                scan = table.incremental_append_scan(from_snapshot_id_exclusive=int(change.since.rpartition("@")[2]))
            rows = scan.to_arrow_batch_reader() if table.current_snapshot() else ()
            yield from _numbered(rows, self._source, self._where, whole=change.since is None)

    def _table(self) -> Iceberg:
        from pyiceberg.catalog import load_catalog

        return load_catalog(self._source.catalog).load_table(self._name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with lake_errors("Iceberg", self._name, f"{self._where}.path"):
            yield


def _snapshot(table: Iceberg) -> str:
    snapshot = table.current_snapshot()
    return f"{table.metadata.table_uuid}@{snapshot.snapshot_id if snapshot else 0}"


def _only_appended(table: Iceberg, position: str) -> bool:
    """Whether nothing but appends came since a position; a compaction may have taken their files away."""
    from pyiceberg.table.snapshots import Operation

    name, _, since = position.rpartition("@")
    if name != str(table.metadata.table_uuid):
        return False
    snapshot = table.current_snapshot()
    while snapshot and str(snapshot.snapshot_id) != since:
        if snapshot.summary is None or snapshot.summary.operation != Operation.APPEND:
            return False
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None
    return snapshot is not None


def _numbered(
    batches: Iterable[pa.RecordBatch], source: SourceParams, where: str, *, whole: bool
) -> Iterator[pa.RecordBatch]:
    """Batches of the declared columns with numbered rows.

    Raises:
        UserError: a whole table has none.
    """
    line = 1
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS):
            piece = batch.slice(start, ROWS).select(list(source.columns))
            yield numbered(piece, line)
            line += piece.num_rows
    if line == 1 and whole:
        raise UserError(f"the table has no rows; at least one was expected ({where}.path)")


@contextmanager
def lake_errors(kind: str, name: str, where: str) -> Iterator[None]:
    """Turn errors of the libraries of table formats into one line."""
    try:
        yield
    except (RefitError, GeneratorExit):
        raise
    except ImportError as error:
        raise not_installed(error, f"a table of {kind}", where) or error from None
    except Exception as error:
        raise UserError(
            f"the {kind} table {name} cannot be read: {first_line(error)}; see that it is there, and that the "
            f"settings and keys in the environment are right ({where})"
        ) from None
