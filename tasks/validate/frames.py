"""Converts a batch's Parquet file to the pandas frame for Great Expectations, and finds repeated rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config import SourceParams
from refit.config.section import row_column, time_column
from refit.errors import RefitError, first_line
from refit.schemas.snapshot import SnapshotBatch
from refit.storage.arrays import images
from refit.storage.batches import FILE_STRIDE
from refit.storage.quarantine import EARLIER, REPEATED, Refusal
from tasks.validate.suites import BatchPlan

if TYPE_CHECKING:
    import pandas
    import pyarrow

EXACT_IN_FLOAT = 2**53
_IMAGES = 1_000  # looked at at once


def read(project: Path, batch: SnapshotBatch, source: SourceParams) -> pyarrow.Table:
    """Read the rows of a batch, after checking that they are the recorded ones.

    Raises:
        RefitError: they differ.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = batch.file.resolve(project)
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RefitError(
            f"{batch.path} cannot be read ({first_line(error)}); delete it and run `refit run` again"
        ) from None
    number = row_column(source.columns)
    rows = set(table[number].to_pylist()) if number in table.column_names else set()
    if not len(table) == len(rows) == batch.rows:
        stored = f"{len(table):,} rows with {len(rows):,} row numbers"
        raise RefitError(f"{batch.path} holds {stored}, {batch.rows:,} were recorded; delete it and ingest again")
    return table


def frame_of(table: pyarrow.Table, source: SourceParams) -> pandas.DataFrame:
    """Convert the batch to pandas, indexed by row number, with types for which GX is exact and fast."""
    import pandas as pd
    import pyarrow as pa

    columns, others = {}, []
    for name in table.column_names:
        column = table[name]
        if pa.types.is_temporal(column.type):
            columns[name] = _times(column)
        elif pa.types.is_integer(column.type):
            columns[name] = _whole_numbers(column)
        elif pa.types.is_boolean(column.type):
            columns[name] = column.to_pandas(types_mapper=lambda _: pd.BooleanDtype())
        elif pa.types.is_nested(column.type):  # vectors, as bytes: they can be compared, and only that is needed
            columns[name] = column.to_pandas().map(lambda cell: cell.tobytes(), na_action="ignore")
        else:
            others.append(name)
    frame = pd.concat([pd.DataFrame(columns), table.select(others).to_pandas()], axis=1)
    ordered: pandas.DataFrame = frame[table.column_names].set_index(row_column(source.columns))
    return ordered


def _times(column: pyarrow.ChunkedArray) -> pandas.Series:
    """Convert to nanosecond times, or microseconds if some lie outside the years 1678 to 2261."""
    import pyarrow as pa

    try:
        times: pandas.Series = column.cast(pa.timestamp("ns")).to_pandas()
    except pa.ArrowInvalid:
        times = column.cast(pa.timestamp("us")).to_pandas()
    return times


def _whole_numbers(column: pyarrow.ChunkedArray) -> pandas.Series:
    """Convert integers; with nulls to floats where floats are exact, else to nullable integers."""
    import pandas as pd
    import pyarrow.compute as pc

    bounds = pc.min_max(column).as_py().values()
    exact = not column.null_count or all(bound is None or abs(bound) <= EXACT_IN_FLOAT for bound in bounds)
    numbers: pandas.Series = column.to_pandas(types_mapper=None if exact else lambda _: pd.Int64Dtype())
    return numbers


def constant_images(table: pyarrow.Table, source: SourceParams) -> dict[str, int]:
    """Count the images of each column whose pixels are all equal, such as the empty frames of a camera.

    Columns without any are left out.
    """
    counts = {}
    for name, array in source.arrays.items():
        if array.kind != "image" or name not in table.column_names:
            continue
        number = 0
        for start in range(0, len(table), _IMAGES):
            pixels = images(table.select([name]).slice(start, _IMAGES).drop_null(), name, array)
            number += int((pixels == pixels[:, :1, :1]).all(axis=(1, 2, 3)).sum())
        if number:
            counts[name] = number
    return counts


def repeats(frame: pandas.DataFrame, source: SourceParams) -> list[Refusal]:
    """Return rows that equal an earlier row of the frame in every raw column."""
    key, columns = list(source.row_key), list(source.columns)
    if not set(columns) <= set(frame):
        return []
    twice = frame[frame.duplicated(key, keep=False) & frame[key].notna().all(axis=1)].sort_index()
    repeated = twice[twice.duplicated(columns)]
    return [
        _repeat_refusal(row, key, value, "repeats another row exactly; the first is kept", REPEATED)
        for row, value in _keyed(repeated, key)
    ]


def repeated_keys(project: Path, frame: pandas.DataFrame, plan: BatchPlan) -> list[Refusal]:
    """Return rows whose key is already in an earlier batch of the same period."""
    key, number = list(plan.source.row_key), row_column(plan.source.columns)
    refusals: dict[int, Refusal] = {}
    for mate in plan.periodmates:
        seen = frame_of(read(project, mate, plan.source).select([*key, number]), plan.source).drop_duplicates()
        repeated = frame[key].dropna().reset_index().merge(seen, on=key).set_index(number).sort_index()
        reason = f"its key is already in {mate.title}"
        refusals |= {
            row: _repeat_refusal(row, key, value, reason, EARLIER)
            for row, value in _keyed(repeated, key)
            if row not in refusals
        }
    return list(refusals.values())


def _keyed(rows: pandas.DataFrame, key: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
    for row, *values in rows[list(key)].itertuples(name=None):
        yield int(row), values


def _repeat_refusal(row: int, key: Sequence[str], value: list[Any], reason: str, check: str) -> Refusal:
    return Refusal(row, None, ", ".join(key), as_text(value[0] if len(value) == 1 else value), reason, None, check)


def file_of(files: Sequence[str], row: int) -> str | None:
    """Return the file of a row: `_row` is its line, plus a stride for each earlier file of the batch.

    >>> file_of(["a.csv", "b.csv"], 1_000_000_007)
    'b.csv'
    """
    return files[min(row // FILE_STRIDE, len(files) - 1)] if files else None


def raw_rows(table: pyarrow.Table, wanted: set[int], source: SourceParams) -> dict[int, str]:
    """Return raw rows as JSON text, by row number."""
    if not wanted:
        return {}
    number, time = row_column(source.columns), time_column(source.columns)
    positions = [index for index, row in enumerate(table[number].to_pylist()) if row in wanted]
    texts = {}
    for row in table.take(positions).to_pylist():
        plain = {name: _as_json(value) for name, value in row.items() if name not in (number, time)}
        texts[row[number]] = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    return texts


def _as_json(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def as_text(value: Any) -> str | None:
    """Format a value as text, None if it is missing; several, such as a compound key, as a JSON list."""
    if isinstance(value, list):
        return json.dumps([as_text(item) for item in value], ensure_ascii=False)
    if value is None or value != value or str(value) == "<NA>":
        return None
    return str(value)
