"""Derives a source from other sources by a query, such as later spending, or true values in another file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.sql_text import quote
from refit.config import Params, SourceParams, nearest
from refit.config.forecasting import ZONE, ForecastParams, calendar_query, query_by
from refit.config.queries import check_query
from refit.errors import UserError, first_line
from refit.files.artifacts import BATCHES, STATE, digest
from refit.runtime import memory
from refit.runtime.context import Context
from refit.schemas.manifest import Manifest
from refit.sources.source_files import ROWS, SourceFile
from refit.storage import batches
from refit.storage.batches import for_sql, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

FOLDER = STATE / "derived"


def in_order(params: Params) -> list[str]:
    """Return the names of all sources, derived ones last."""
    return sorted(params.ingest.sources, key=lambda name: params.ingest.sources[name].kind == "query")


def file(context: Context, name: str, stored: Sequence[Manifest]) -> SourceFile:
    """Return the rows of source `name` as a Parquet file, written again if its batches or what it reads changed.

    Args:
        stored: its batches, by the same declaration.

    Raises:
        UserError: the query reads no source, or fails.
    """
    source, where = context.params.ingest.sources[name], f"ingest.sources.{name}.query"
    names = _read_by(context.params, name, where)
    for other in names:
        if context.params.ingest.sources[other].changes.has_versions and not source.forecast:
            raise UserError(
                f"{where} reads {other}, which has several versions of a row, and would show what was corrected later "
                "as if it had always been known; let features read it, or leave out its `changes` (params.yaml)"
            )
    inputs = {other: _batches(context, other) for other in names}
    read = {other: [part.sha256 for part in parts] for other, parts in inputs.items()}
    path = context.path(FOLDER / name / f"{digest([source.query, source.key, read])[:16]}.parquet")
    if not (path.is_file() and stored):
        _write(context, name, inputs, stored, path)
    generated = sorted({part.stand_in for parts in inputs.values() for part in parts if part.stand_in})
    return SourceFile(path, f"query:{name}", stand_in=digest(generated)[:16] if generated else None)


def _read_by(params: Params, name: str, where: str) -> list[str]:
    """Return the sources that the query names."""
    if inputs := params.ingest.read_by(name):
        return inputs
    others = [other for other in in_order(params) if params.ingest.sources[other].kind != "query"]
    words = re.findall(r"\w+", str(params.ingest.sources[name].query))
    hint = next((hint for word in words if (hint := nearest(word, others))), "")
    raise UserError(f"{where} reads none of the other sources ({', '.join(others) or 'there are none'}){hint}")


def _batches(context: Context, name: str) -> list[Manifest]:
    stored = batches.manifests(context.project, name)
    return stored[-1:] if context.params.ingest.sources[name].event_time is None else stored


def _write(
    context: Context, name: str, inputs: dict[str, list[Manifest]], stored: Sequence[Manifest], path: Path
) -> None:
    import duckdb

    from tasks.ingest import casting

    source, where = context.params.ingest.sources[name], f"ingest.sources.{name}.query"
    key = ", ".join(map(quote, source.key))
    query = str(source.query).strip().rstrip(";")
    failed = ""
    limit = memory.sql_limit(context.params)
    with casting.connect(str(context.path(STATE) / "spill"), memory_limit=limit) as connection:
        columns = {name for other in inputs for name in context.params.ingest.sources[other].columns}
        check_query(connection, query, where, columns)
        for other, parts in inputs.items():
            connection.register(other, _table(context, context.params.ingest.sources[other], parts))
        if (forecast := source.forecast) and forecast.by_calendar and ZONE in source.columns:
            calendar = _calendar(connection, context, name, forecast, stored)
            query = query_by(forecast, context.params.project.timezone, calendar)
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


def _calendar(
    connection: DuckDBPyConnection, context: Context, name: str, forecast: ForecastParams, stored: Sequence[Manifest]
) -> str:
    """The zone by whose calendar the steps of forecasts begin: once some are stored, theirs, as batches never change.

    Raises:
        UserError: most steps begin by another calendar than that of the stored forecasts.
    """
    zone = context.params.project.timezone
    utc, local = connection.execute(calendar_query(forecast, zone)).fetchall()
    likely = "UTC" if utc > local else zone
    batch = next((part for part in stored if part.rows), None)
    earlier = str(batch.rows_table(context.project, [ZONE])[ZONE][0]) if batch else likely
    if earlier != likely and utc[0] != local[0]:
        raise UserError(
            f"{name}: the days of the stored forecasts are those of {earlier}, and most rows of {forecast.of} begin by "
            f"those of {likely}: delete {BATCHES / name}, and run again to make all forecasts by these"
        )
    return earlier


def _table(context: Context, source: SourceParams, parts: Sequence[Manifest]) -> pa.Table:
    """Return all rows of a source, with event times if it has them."""
    import pyarrow as pa

    return for_sql(pa.concat_tables([part.rows_table(context.project) for part in parts]), source)
