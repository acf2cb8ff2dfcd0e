"""Tells whether the rows that a table gives again are those that are stored, so that the rest need not be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet

from feature_store.sql_text import literal, quote
from refit.config import SourceParams
from refit.config.column_types import sql_type
from refit.schemas.manifest import Manifest
from refit.sources.tables import Overlap
from tasks.ingest.batch_diff import key_digest, row_text
from tasks.ingest.casting import cells

if TYPE_CHECKING:
    import duckdb


def adds_up(
    connection: duckdb.DuckDBPyConnection,
    project: Path,
    source: SourceParams,
    stored: Sequence[Manifest],
    overlap: Overlap,
) -> bool:
    """Whether nothing changed in a table but what it gave, the table `cast_rows`.

    That has all stored rows above the overlap's bound, or without a watermark. Up to the bound, the table has as many
    rows as before. Where rows are corrected, it has fewer by those whose new version was given, unless it keeps old
    versions. If not, rows have vanished, came later than the lookback allows, or were stored from elsewhere: reading
    the whole table tells.
    """
    names = cells(source)
    ids = _row_digest([names[name] for name in source.key], list(names.values()))
    given = f"(id in (select {ids} from cast_rows where _faults is null))"
    _load(connection, project, source, stored, overlap)
    ((lost, moved),) = connection.execute(
        f"select count(*) filter (where again and not {given}), count(*) filter (where not again and {given}) "
        "from stored_marks"
    ).fetchall()
    changed_in_place = moved if source.changes.version is not None else 0
    return not lost and overlap.rows_now == overlap.rows_before - changed_in_place


def _load(
    connection: duckdb.DuckDBPyConnection,
    project: Path,
    source: SourceParams,
    stored: Sequence[Manifest],
    overlap: Overlap,
) -> None:
    """Create the table of stored rows: the key of each, and whether its newest version is to be given again."""
    kind, version = source.columns[overlap.column], source.changes.version
    above = _value(overlap.above, kind)
    bound = f"{literal(str(above))}::{sql_type(kind)}"
    lacks_keys = not {*source.key} <= {*source.required}
    used = source.columns if lacks_keys else [*source.key, overlap.column, *([version] if version else [])]
    columns = list(dict.fromkeys(used))
    marks = pc.field(overlap.column)
    only_again = None if version else marks.is_null() | (marks > above)
    order = quote(version) if version else "null"
    connection.execute(
        f"create or replace temp table every_mark as select null::uhugeint as id, null::boolean as again, "
        f"null::{sql_type(source.columns[version]) if version else 'varchar'} as version where false"
    )
    for part in stored:
        table = pyarrow.parquet.read_table(project / part.path, columns=columns, filters=only_again)
        connection.register("part", table)
        connection.execute(
            f"insert into every_mark select {_row_digest(source.key, columns)}, "
            f"coalesce({quote(overlap.column)} > {bound}, true), {order} from part"
        )
        connection.unregister("part")
    connection.execute(
        "create or replace temp table stored_marks as select id, again from every_mark "
        "qualify row_number() over (partition by id order by version desc) = 1"
    )


def _row_digest(key: Sequence[str], columns: Sequence[str]) -> str:
    """SQL for a number that a row has in all its versions; without a key a row is its content."""
    return f"coalesce({key_digest(key)}, md5_number({row_text(columns)}))"


def _value(above: str, kind: str) -> object:
    """A bound of the database as a stored value: times in UTC, without a zone."""
    if kind == "integer":
        return int(above)
    moment = datetime.fromisoformat(above)
    if kind == "date":
        return moment.date()
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
