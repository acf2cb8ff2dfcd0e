"""A batch's Parquet as the pandas frame that Great Expectations judges, and the rows that stand in it twice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config import SourceParams
from refit.config.section import row_column, time_column
from refit.errors import RefitError, first_line
from refit.files.artifacts import FileRef
from refit.storage.batches import FILE_STRIDE
from refit.storage.quarantine import EARLIER, REPEATED, Refusal
from tasks.validate.suites import Plan

if TYPE_CHECKING:
    import pandas
    import pyarrow

EXACT_IN_FLOAT = 2**53


def read(project: Path, entry: Mapping[str, Any], source: SourceParams) -> pyarrow.Table:
    """The rows of a batch, once they are shown to be the ones that were recorded.

    Raises:
        RefitError: they are not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = FileRef(entry["path"], entry["sha256"], entry["rows"]).resolve(project)
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RefitError(
            f"{entry['path']} cannot be read ({first_line(error)}); delete it and run `refit run` again"
        ) from None
    number = row_column(source.columns)
    rows = set(table[number].to_pylist()) if number in table.column_names else set()
    if not len(table) == len(rows) == entry["rows"]:
        found = f"{len(table):,} rows with {len(rows):,} row numbers"
        raise RefitError(f"{entry['path']} holds {found}, {entry['rows']:,} were recorded; delete it and ingest again")
    return table


def frame_of(table: pyarrow.Table, source: SourceParams) -> pandas.DataFrame:
    """The batch in pandas, row numbers as its index, in types for which GX is exact and need not go value by value."""
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
        else:
            others.append(name)
    frame = pd.concat([pd.DataFrame(columns), table.select(others).to_pandas()], axis=1)
    ordered: pandas.DataFrame = frame[table.column_names].set_index(row_column(source.columns))
    return ordered


def _times(column: pyarrow.ChunkedArray) -> pandas.Series:
    """Times to the nanosecond, unless they lie outside the years 1678 to 2261."""
    import pyarrow as pa

    try:
        times: pandas.Series = column.cast(pa.timestamp("ns")).to_pandas()
    except pa.ArrowInvalid:
        times = column.cast(pa.timestamp("us")).to_pandas()
    return times


def _whole_numbers(column: pyarrow.ChunkedArray) -> pandas.Series:
    """Integers, as floats beside nulls where floats are exact."""
    import pandas as pd
    import pyarrow.compute as pc

    bounds = pc.min_max(column).as_py().values()
    exact = not column.null_count or all(bound is None or abs(bound) <= EXACT_IN_FLOAT for bound in bounds)
    numbers: pandas.Series = column.to_pandas(types_mapper=None if exact else lambda _: pd.Int64Dtype())
    return numbers


def repeats(frame: pandas.DataFrame, source: SourceParams) -> list[Refusal]:
    """Rows that repeat another row of the frame in every raw column: all but the first."""
    key, columns = list(source.key), list(source.columns)
    if not set(columns) <= set(frame):
        return []
    twice = frame[frame.duplicated(key, keep=False) & frame[key].notna().all(axis=1)].sort_index()
    again = twice[twice.duplicated(columns)]
    return [
        _twice(row, key, value, "repeats another row exactly; the first is kept", REPEATED)
        for row, value in _keyed(again, key)
    ]


def known_keys(project: Path, frame: pandas.DataFrame, plan: Plan) -> list[Refusal]:
    """Rows whose key an earlier batch of the same period has."""
    key, number = list(plan.source.key), row_column(plan.source.columns)
    found: dict[int, Refusal] = {}
    for mate in plan.periodmates:
        seen = frame_of(read(project, mate, plan.source).select([*key, number]), plan.source).drop_duplicates()
        again = frame[key].dropna().reset_index().merge(seen, on=key).set_index(number).sort_index()
        reason = f"its key is already in {mate['source']} {mate['name']}"
        found |= {
            row: _twice(row, key, value, reason, EARLIER) for row, value in _keyed(again, key) if row not in found
        }
    return list(found.values())


def _keyed(rows: pandas.DataFrame, key: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
    for row, *values in rows[list(key)].itertuples(name=None):
        yield int(row), values


def _twice(row: int, key: Sequence[str], value: list[Any], reason: str, check: str) -> Refusal:
    return Refusal(row, None, ", ".join(key), as_text(value[0] if len(value) == 1 else value), reason, None, check)


def file_of(entry: Mapping[str, Any], row: int) -> str | None:
    """The file that a row came from: `_row` is its line, plus a stride for each earlier file of the batch.

    >>> file_of({"files": ["a.csv", "b.csv"]}, 1_000_000_007)
    'b.csv'
    """
    files = entry.get("files") or [None]
    file: str | None = files[min(row // FILE_STRIDE, len(files) - 1)]
    return file


def raw_rows(table: pyarrow.Table, wanted: set[int], source: SourceParams) -> dict[int, str]:
    """JSON text of raw rows, by row number."""
    if not wanted:
        return {}
    number, time = row_column(source.columns), time_column(source.columns)
    positions = [index for index, row in enumerate(table[number].to_pylist()) if row in wanted]
    found = {}
    for row in table.take(positions).to_pylist():
        plain = {name: _as_json(value) for name, value in row.items() if name not in (number, time)}
        found[row[number]] = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    return found


def _as_json(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def as_text(value: Any) -> str | None:
    """A value as text, none where it is missing; several, such as a compound key, as a JSON list."""
    if isinstance(value, list):
        return json.dumps([as_text(item) for item in value], ensure_ascii=False)
    if value is None or value != value or str(value) == "<NA>":
        return None
    return str(value)
