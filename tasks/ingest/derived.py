"""Derives a source from other sources by a query, such as later spending, or true values in another file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.sql_text import quote
from refit.config import Params, SourceParams, nearest
from refit.config.queries import check_query
from refit.errors import UserError, first_line
from refit.files.artifacts import STATE, digest
from refit.runtime import memory
from refit.runtime.context import Context
from refit.schemas.manifest import Manifest
from refit.sources.source_files import ROWS, SourceFile
from refit.storage import batches
from refit.storage.batches import for_sql, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = STATE / "derived"


def in_order(params: Params) -> list[str]:
    """Return the names of all sources, derived ones last."""
    return sorted(params.ingest.sources, key=lambda name: params.ingest.sources[name].kind == "query")


def file(context: Context, name: str) -> SourceFile:
    """Return the rows of source `name` as a Parquet file, written again only if the query or its batches changed.

    Raises:
        UserError: the query reads no source, or fails.
    """
    source, where = context.params.ingest.sources[name], f"ingest.sources.{name}.query"
    for other in _named(context.params, source, where):
        if context.params.ingest.sources[other].changes.has_versions and not source.forecast:
            raise UserError(
                f"{where} reads {other}, which has several versions of a row, and would show what was corrected later "
                "as if it had always been known; let features read it, or leave out its `changes` (params.yaml)"
            )
    inputs = {other: _batches(context, other) for other in _named(context.params, source, where)}
    read = {other: [part.sha256 for part in parts] for other, parts in inputs.items()}
    path = context.path(FOLDER / name / f"{digest([source.query, source.key, read])[:16]}.parquet")
    if not path.is_file():
        _write(context, source, inputs, path, where)
    generated = sorted({part.stand_in for parts in inputs.values() for part in parts if part.stand_in})
    return SourceFile(path, f"query:{name}", stand_in=digest(generated)[:16] if generated else None)


def _named(params: Params, source: SourceParams, where: str) -> list[str]:
    """Return the sources that the query names."""
    others = [name for name in in_order(params) if params.ingest.sources[name].kind != "query"]
    words = re.findall(r"\w+", str(source.query))
    if inputs := [name for name in others if name in words]:
        return inputs
    hint = next((hint for word in words if (hint := nearest(word, others))), "")
    raise UserError(f"{where} reads none of the other sources ({', '.join(others) or 'there are none'}){hint}")


def _batches(context: Context, name: str) -> list[Manifest]:
    stored = batches.manifests(context.project, name)
    return stored[-1:] if context.params.ingest.sources[name].event_time is None else stored


def _write(context: Context, source: SourceParams, inputs: dict[str, list[Manifest]], path: Path, where: str) -> None:
    import duckdb

    from tasks.ingest import casting

    key = ", ".join(map(quote, source.key))
    query = str(source.query).strip().rstrip(";")
    failed = ""
    limit = memory.sql_limit(context.params)
    with casting.connect(str(context.path(STATE) / "spill"), memory_limit=limit) as connection:
        columns = {name for other in inputs for name in context.params.ingest.sources[other].columns}
        check_query(connection, query, where, columns)
        for other, parts in inputs.items():
            connection.register(other, _table(context, context.params.ingest.sources[other], parts))
        try:
            reader = connection.sql(f"select * from (\n{query}\n) order by {key}").to_arrow_reader(ROWS)
            write_parquet(path, reader)
        except duckdb.Error as error:
            failed = first_line(error)
    if failed:
        raise UserError(f"{where}: {failed}; correct it in params.yaml")
    for old in path.parent.glob("*.parquet"):
        if old != path:
            old.unlink()


def _table(context: Context, source: SourceParams, parts: Sequence[Manifest]) -> pa.Table:
    """Return all rows of a source, with event times if it has them."""
    import pyarrow as pa

    return for_sql(pa.concat_tables([part.rows_table(context.project) for part in parts]), source)
