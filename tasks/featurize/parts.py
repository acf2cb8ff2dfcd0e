"""Computes the features of many rows in parts, several at a time, where `resources.workers` says so."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store import parts as store
from feature_store.definition import FeatureSet
from feature_store.offline import TOGETHER
from feature_store.sql_text import quote
from refit.runtime import memory
from refit.runtime.context import Context
from tasks.featurize.warehouse import Warehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

FEWEST = 50_000  # rows of a part: fewer are computed before a process has started


def computed_in_parts(
    context: Context, warehouse: Warehouse, feature_set: FeatureSet, spine: str, sources: Mapping[str, str]
) -> DuckDBPyRelation | None:
    """Compute what `feature_store.offline.compute` does; None if there is one worker, or there are too few rows.

    The relation can be read once.
    """
    workers = context.params.resources.workers
    (rows,) = warehouse.one(f"select count(*) from {spine}") if workers > 1 else (0,)
    if (count := min(workers, rows // FEWEST)) < 2:
        return None
    parts = count * -(-rows // (count * TOGETHER))  # as many for each worker, of at most TOGETHER rows
    folder = scratch_folder(context)
    try:
        tables = store.write_inputs(warehouse.connection, feature_set, spine, sources, folder, rows=rows, parts=parts)
        limit = memory.sql_limit(context.params, among=count)
        with context.workers(count) as pool:
            numbered = [
                store.FeaturePart(number, folder, feature_set, tables, warehouse.as_of, pool.threads, limit)
                for number in range(parts)
            ]
            context.progress(f"features, {parts} parts")
            pool.map(store.compute_part, numbered)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    streams = [store.Stream.of_file(part.output) for part in numbered]
    return read_once(warehouse, folder, streams, rows)


def scratch_folder(context: Context) -> Path:
    """A folder for parts that every worker sees; the next run removes that of a killed one."""
    data = context.path("data").resolve()
    data.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".parts.", suffix=".partial", dir=data))


def read_once(warehouse: Warehouse, folder: Path, streams: Sequence[store.Stream], rows: int) -> DuckDBPyRelation:
    """The features of all streams in the order of the rows; the relation can be read once, then the folder is gone."""
    import pyarrow as pa

    tables = store.in_order(streams, rows)
    try:
        first = next(tables)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from first.to_batches()
            for table in tables:
                yield from table.to_batches()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    name = f"features#{folder.name}"
    warehouse.connection.register(name, pa.RecordBatchReader.from_batches(first.schema, batches()))
    return warehouse.connection.table(quote(name))
