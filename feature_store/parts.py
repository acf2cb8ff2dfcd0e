"""Computes features of some of the rows at a time, in any process or machine that reads the same folder.

`write_inputs` writes the rows and the sources to one file, `compute_part` reads it and writes the features of a part,
and `in_order` puts the features of all parts back into the order of the rows. A feature depends on its own row and on
what was known by then, so that the division changes no value.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.compile import commas, own
from feature_store.definition import FeatureSet
from feature_store.offline import TOGETHER, compute, configure
from feature_store.sql_text import literal, quote

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

INPUTS = "inputs.duckdb"
_POSITION, _PART = own("position"), own("part")
_POSITION_NAME = _POSITION[1:-1]
_BATCH = 16_384  # rows that are read of each part at once
_OF_TABLE = 131_072  # rows of a table, which is read alone
_BUFFER = 1 << 16  # bytes of a column that are read at once; by default, all that was read of a part stays in memory


@dataclass(frozen=True)
class FeaturePart:
    """What one part needs: it is sent to the process that computes it.

    Args:
        folder: of the inputs and of the result.
        sources: name of each source -> its table among the inputs.
        threads, memory_limit: of DuckDB.
    """

    number: int
    folder: Path
    feature_set: FeatureSet
    sources: Mapping[str, str]
    as_of: datetime
    threads: int
    memory_limit: str | None = None

    @property
    def output(self) -> Path:
        return self.folder / f"part-{self.number:05d}.parquet"


def write_inputs(
    connection: DuckDBPyConnection,
    feature_set: FeatureSet,
    spine: str,
    sources: Mapping[str, str],
    folder: Path,
    *,
    rows: int,
    parts: int,
) -> dict[str, str]:
    """Write the rows, each with its part, and the sources; returns the table of each source.

    Rows are divided by a hash of the entity where all views have the same one, so that each event is read for one part;
    otherwise by their order, so that the windows of a part begin late.

    Args:
        spine, sources: as `feature_store.offline.compute` takes them.
    """
    configure(connection)
    tables = {relation: f"source{index}" for index, relation in enumerate(dict.fromkeys(sources.values()))}
    numbered = f"select row_number() over () as {_POSITION}, * from (select * from {spine})"
    connection.execute(f"attach {literal(str(folder / INPUTS))} as inputs")
    try:
        connection.execute(
            f"create table inputs.rows as select {_division(feature_set, rows, parts)} as {_PART}, * from ({numbered})"
        )
        for relation, table in tables.items():
            connection.execute(f"create table inputs.{table} as select * from {relation}")
    finally:
        connection.execute("detach inputs")
    return {name: tables[relation] for name, relation in sources.items()}


def _division(feature_set: FeatureSet, rows: int, parts: int) -> str:
    """SQL of the part of a row, from 0."""
    entities = {view.entity for view in feature_set.views}
    if len(entities) == 1 and (entity := entities.pop()) and not {*entity} & {*feature_set.spine.entities}:
        return f"hash({commas(map(quote, entity))}) % {parts}"
    return f"(({_POSITION} - 1) * {parts}) // {max(rows, 1)}"


def compute_part(part: FeaturePart) -> int:
    """Write the features of a part under its final name, at once, and return its number of rows.

    May be called again, and twice at a time: each call writes the same file.

    Raises:
        DefinitionError: as of `feature_store.offline.compute`.
    """
    scratch = part.folder / f".{part.output.name}.{uuid.uuid4().hex}.partial"
    try:
        with _opened(part) as connection:
            mine = f"from rows where {_PART} = {part.number} order by {_POSITION}"
            spine = f"(select * exclude ({_POSITION}, {_PART}) {mine})"
            features = compute(connection, part.feature_set, spine, part.sources, part.as_of)
            positions = connection.sql(f"select {_POSITION} {mine}").to_arrow_table()[0].combine_chunks()
            write_some(scratch, features, positions)
        scratch.replace(part.output)
    finally:
        scratch.unlink(missing_ok=True)
    return len(positions)


def write_some(path: Path, features: DuckDBPyRelation, positions: pa.Array) -> None:
    """Write the features of some rows, with the positions of these among all rows, from 1 and ascending."""
    import pyarrow.parquet as pq

    reader, first = features.to_arrow_reader(_BATCH), 0
    schema = reader.schema.insert(0, _position_field())
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for batch in reader:
            numbers = positions.slice(first, batch.num_rows)
            writer.write_batch(batch.add_column(0, _position_field(), numbers))
            first += batch.num_rows
    if first != len(positions):
        raise AssertionError(f"{first} features of {len(positions)} rows: the engine is broken")


@contextmanager
def _opened(part: FeaturePart) -> Iterator[DuckDBPyConnection]:
    """A connection that reads the inputs, and nothing else on the machine."""
    import duckdb

    with duckdb.connect(part.folder / INPUTS, read_only=True) as connection:
        configure(connection)
        connection.execute(f"set threads = {part.threads}")
        connection.execute(f"set temp_directory = {literal(str(part.folder / f'spill-{uuid.uuid4().hex}'))}")
        if part.memory_limit:
            connection.execute(f"set memory_limit = {literal(part.memory_limit)}")
        connection.execute(f"set allowed_directories = [{literal(f'{part.folder}/')}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield connection


def in_order(streams: Sequence[Stream], rows: int) -> Iterator[pa.Table]:
    """The features of all parts in the order of the rows, some at a time; as from `feature_store.offline.compute`."""
    import pyarrow as pa

    for first in range(1, max(rows, 1) + 1, TOGETHER):
        table = pa.concat_tables([stream.before(first + TOGETHER) for stream in streams])
        positions = table[_POSITION_NAME].to_numpy()
        if len(positions) != min(TOGETHER, rows + 1 - first):
            raise AssertionError(f"{len(positions)} rows from {first} on, of {rows}: the engine is broken")
        if (np.diff(positions) < 0).any():
            table = table.take(np.argsort(positions))
        yield table.drop_columns([_POSITION_NAME])


class Stream:
    """Reads the rows of one part, whose positions ascend."""

    def __init__(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        """Args: batches: the features after a first column, the position of each row."""
        self._batches = batches
        self._rest: pa.Table = schema.empty_table()

    @classmethod
    def of_file(cls, file: Path) -> Stream:
        """Of what `compute_part` or `write_some` wrote."""
        import pyarrow.parquet as pq

        opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
        return cls(opened.iter_batches(_BATCH), opened.schema_arrow)

    @classmethod
    def of_table(cls, file: Path, schema: pa.Schema, positions: NDArray[np.int64]) -> Stream:
        """Of the rows of a table that are used again.

        Args:
            schema: of a stream's rows; the table has its columns.
            positions: of each row of the table its position among all rows, or 0 if it is not used.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        opened, names = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER), schema.names[1:]

        def batches() -> Iterator[pa.RecordBatch]:
            first = 0
            for batch in opened.iter_batches(_OF_TABLE, columns=names):
                numbers = positions[first : first + batch.num_rows]
                first += batch.num_rows
                cells = [pa.array(numbers), *(batch[name] for name in names)]
                yield pa.record_batch(cells, schema=schema).filter(pa.array(numbers > 0))

        return cls(batches(), schema)

    def before(self, position: int) -> pa.Table:
        """The rows before a position that were not read yet."""
        import pyarrow as pa

        tables = [self._rest]
        while not len(last := tables[-1]) or last[_POSITION_NAME][-1].as_py() < position:
            if (batch := next(self._batches, None)) is None:
                break
            tables.append(pa.Table.from_batches([batch]))
        whole = pa.concat_tables(tables)
        end = int(np.searchsorted(whole[_POSITION_NAME].to_numpy(), position))
        self._rest = whole.slice(end)
        return whole.slice(0, end)


def _position_field() -> pa.Field:
    import pyarrow as pa

    return pa.field(_POSITION_NAME, pa.int64())
