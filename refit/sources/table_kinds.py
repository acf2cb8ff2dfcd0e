"""The kinds of sources that are tables elsewhere, each read by a class of its own."""

from __future__ import annotations

from pathlib import Path

from refit.config import SourceParams
from refit.sources.declared_paths import expanded
from refit.sources.source_files import SourceFile
from refit.sources.tables import Table


def table_of(project: Path, source: SourceParams, where: str) -> SourceFile:
    """A table elsewhere, under a name for messages; nothing is asked of it yet."""
    name = source.kind if source.is_own else f"{source.kind}:{where.rpartition('.')[2]}"
    return SourceFile(Path(name), name, table=_reader(project, source, where))


def _reader(project: Path, source: SourceParams, where: str) -> Table:
    if source.is_own:
        from refit.sources.own_tables import OwnTable

        return OwnTable(project, source, where)
    match source.kind:
        case "delta":
            from refit.sources.lake_tables import DeltaTable

            return DeltaTable(project, expanded(source.path), source, where)
        case "iceberg":
            from refit.sources.lake_tables import IcebergTable

            return IcebergTable(source.path, source, where)
        case _:
            from refit.sources.sql_tables import SqlTable

            return SqlTable(source, where)
