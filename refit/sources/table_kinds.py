"""The kinds of sources that are tables elsewhere, each read by a class of its own."""

from __future__ import annotations

from pathlib import Path

from refit.config import SourceParams
from refit.sources.source_files import SourceFile


def table_of(source: SourceParams, where: str) -> SourceFile:
    """A table elsewhere, under a name for messages; nothing is asked of it yet."""
    from refit.sources.sql_tables import SqlTable

    name = f"{source.kind}:{where.rpartition('.')[2]}"
    return SourceFile(Path(name), name, table=SqlTable(source, where))
