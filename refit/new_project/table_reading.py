"""Infers types, time, key and label of a CSV or Parquet file; a role is inferred only if just one column fits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.sql_text import quote
from refit.config import nearest
from refit.errors import UserError
from refit.new_project.code_reading import merges
from refit.new_project.column_names import sql_name
from refit.new_project.column_reading import Column, named_columns, read_column
from refit.new_project.label_reading import find_label, only_column, positive_of, spellings, spread_of, task_of
from refit.new_project.layout_reading import detect_layout, require_utf8
from refit.new_project.parquet_reading import load_texts
from refit.new_project.period_reading import empty_at_times, read_band, read_label_delay, read_period
from refit.new_project.row_order import neighbour_similarity
from refit.new_project.series_reading import Series, read_series, simultaneous_leaks
from refit.new_project.split_reading import GivenSplit, read_split
from refit.new_project.zone_reading import require_zone
from refit.plain_text import one_line
from refit.schemas.feature_table import Giveaway
from refit.sources import csv_files
from refit.sources.csv_files import CsvFile
from refit.storage.batches import FAULT, LINE

if TYPE_CHECKING:
    import pyarrow as pa

NULLS = ("", " ", "NA", "N/A", "NULL", "null", "None", "nan", "NaN")


@dataclass(frozen=True)
class Hints:
    """Options of the user that describe a table, in addition to its roles."""

    encoding: str = "utf-8"
    time_formats: tuple[str, ...] = ()  # the formats of its times
    positive: str | None = None  # the value of the label that counts as 1
    split: str | None = None  # a column that assigns rows to windows
    missing: tuple[str, ...] = ()  # further texts that mean a missing value
    zone: str = "UTC"  # time zone of days, weeks and months


@dataclass(frozen=True)
class TableReading:
    """The roles of the columns, and the distribution of the rows over time."""

    columns: tuple[Column, ...]
    file: CsvFile
    nulls: tuple[str, ...]  # texts that mean missing
    rows: int
    key: tuple[str, ...]  # empty if a row is identified by its line alone
    time: Column | None  # None if the table has no time
    label: Column
    task: str
    positive: str  # of a binary label, the text that is 1
    spellings: tuple[tuple[str, ...], ...]  # classes that differ in case or outer spaces only
    spread: float  # of a numeric label: its mean absolute deviation from the median
    period: str
    rows_per_period: int
    days_per_period: int
    band: tuple[float, float]  # the least and most rows of a period, relative to the mean of those before it
    dated: date  # the day of all rows in a table without a time: when the file was last changed
    neighbours: float = 0.0  # of a table without a time: how similar labels of neighbouring rows are, from 0 to 1
    label_delay: int = 0  # hours by which the newest label lies behind the newest row, if whole periods have none
    sparse: tuple[str, ...] = ()  # columns without any value in some period, or in all of them
    split: GivenSplit | None = None  # if a column assigns rows to windows
    zone: str = "UTC"
    series: Series | None = None  # if the label's next steps are to be forecast
    is_parquet: bool = False
    unnamed: tuple[int, ...] = ()  # columns of the file without a name, counted from 1
    giveaways: tuple[Giveaway, ...] = ()  # columns that leak the label of a forecast's own time


def read_table(
    path: Path,
    *,
    is_parquet: bool = False,
    key: tuple[str, ...],
    time: str | None,
    label: str | None,
    horizons: tuple[int, ...] = (),
    hints: Hints = Hints(),
) -> TableReading:
    """Read a CSV file, which may be compressed, or a Parquet file, and infer the roles of its columns.

    Args:
        horizons: the steps ahead to forecast; `key` then names the columns that identify a series.

    Raises:
        UserError: it cannot be read, or no column or several fit a role; the message lists them.
    """
    import duckdb

    file = CsvFile(path, path.name) if is_parquet else detect_layout(path, hints.encoding)
    with duckdb.connect(config={"threads": 1}) as connection:  # each column is little work
        connection.execute("set TimeZone = 'UTC'")
        table = load_texts(connection, path) if is_parquet else _load_texts(file)
        by_name = {column.name: column for column in named_columns(connection, table.column_names)}
        _require_columns(by_name, path, key, time, label, hints)
        columns, nulls, table = _read_columns(connection, table, list(by_name.values()), file, time, hints)
        connection.register("t", table)
        by_name = {column.name: column for column in columns}
        # With a given split, no time is inferred: rows of an unfinished period would be in none of its windows.
        time_column = _time(columns, by_name.get(time or ""), path) if time or not hints.split else None
        label_column = find_label(columns, by_name.get(label or ""), time_column, path, len(table))
        if label_column.name in key:
            raise UserError(f"--key {label_column.name}: it is the label; name what tells rows apart")
        series = None
        if horizons:
            series, row_key = _series(connection, path, by_name, label_column, time_column, key, horizons, hints.zone)
        else:
            names = tuple(column for column in columns if column is not label_column and not column.is_read)
            row_key = _key(connection, names, key, time_column, path)
        columns = _with_whole_keys(connection, columns, row_key)
        moment = time_column.read_moment if time_column else None
        split = _split(connection, by_name, hints.split, series)
        period, per_period, days = read_period(
            connection, time_column.name if time_column else "", moment, path.name, len(table), split=split is not None
        )
        band = read_band(connection, moment, period)
        task = _task(label_column, horizons, hints.positive)
        compared = label_column.number if task == "regression" else quote(label_column.name)
        columns = _with_sql_names(columns, time_column)
        label_column = next(column for column in columns if column.name == label_column.name)
        return TableReading(
            columns=columns,
            file=file,
            is_parquet=is_parquet,
            unnamed=() if is_parquet else _unnamed(file),
            nulls=nulls,
            rows=len(table),
            key=row_key,
            time=time_column,
            label=label_column,
            task=task,
            positive=positive_of(label_column, hints.positive) if task == "binary" else "",
            spellings=spellings(connection, label_column) if task == "multiclass" else (),
            spread=spread_of(connection, label_column) if task == "regression" else 0.0,
            period=period,
            rows_per_period=per_period,
            days_per_period=days,
            band=band,
            dated=min(date.fromtimestamp(path.stat().st_mtime), date.today() - timedelta(days=1)),  # noqa: DTZ011, DTZ012
            neighbours=0.0 if moment or split else neighbour_similarity(connection, compared),
            label_delay=0
            if split or series
            else read_label_delay(connection, quote(label_column.name), moment, period),
            sparse=empty_at_times(connection, table, moment, period),
            split=split,
            zone=hints.zone,
            series=series,
            giveaways=simultaneous_leaks(connection, columns, label_column) if series else (),
        )


def _with_whole_keys(connection: Any, columns: tuple[Column, ...], row_key: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns; those of the key whose type would merge different texts are read as text."""
    return tuple(
        replace(column, type="text")
        if column.name in row_key and merges(connection, quote(column.name), column.type)
        else column
        for column in columns
    )


def _split(
    connection: Any, by_name: Mapping[str, Column], name: str | None, series: Series | None
) -> GivenSplit | None:
    split = read_split(connection, by_name[name]) if name else None
    if split and series:
        raise UserError("--split and --horizons: forecasts are judged on what comes later; leave --split out")
    return split


def _task(label: Column, horizons: tuple[int, ...], positive: str | None) -> str:
    task = "regression" if horizons else task_of(label)
    if positive is not None and task != "binary":
        raise UserError(f"--positive {positive}: {label.name} has not just two values; leave it out")
    return task


def _with_sql_names(columns: tuple[Column, ...], time: Column | None) -> tuple[Column, ...]:
    names = [column.name for column in columns]
    return tuple(
        column if column is time else replace(column, sql=sql_name(column.name, column.sql, names))
        for column in columns
    )


def _require_columns(
    by_name: Mapping[str, Column],
    path: Path,
    key: tuple[str, ...],
    time: str | None,
    label: str | None,
    hints: Hints,
) -> None:
    require_zone(hints.zone)
    single = {"time": time, "label": label, "split": hints.split}
    roles = [("key", name) for name in key] + [(role, name) for role, name in single.items() if name is not None]
    for role, name in roles:
        if name not in by_name:
            hint = f"{nearest(name, by_name)}; it has {', '.join(by_name)}"
            raise UserError(f"--{role} {name}: no such column in {path.name}{hint}")
    if hints.time_formats and time is None:
        raise UserError("--time-format says how a time is written; say of which column with --time COLUMN")


def _load_texts(file: CsvFile) -> pa.Table:
    """Return the rows that ingestion would accept, as texts.

    Raises:
        UserError: ingestion would refuse the file, for instance for an unclosed quote; a column is there twice;
            there are no rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    require_utf8(file)
    names = [name for name in csv_files.header(file) if name.strip()]  # ingestion passes over the others, too
    if numbers := [name for name in names if re.fullmatch(r"\s*[+-]?[0-9.]+(e[+-]?[0-9]+)?\s*", name, re.IGNORECASE)]:
        raise UserError(f"{file.name}: its first line holds numbers ({numbers[0]}) and no names; add a header line")
    lower = [name.lower() for name in names]
    if repeated := ", ".join(repr(name) for name in names if lower.count(name.lower()) > 1):
        raise UserError(f"{file.name}: a column is there twice ({repeated}; case does not count); rename or remove one")
    batches, fault_count, fault = [], 0, ""
    for batch in csv_files.read(file, names, lambda _: None):
        is_valid = pc.is_null(batch[FAULT])
        if batch[FAULT].null_count < len(batch):
            fault_count += len(batch) - batch[FAULT].null_count
            index = pc.index(is_valid, pa.scalar(False)).as_py()
            fault = fault or f"line {batch[LINE][index]}: {batch[FAULT][index]}"
        batches.append(batch.filter(is_valid).select(names))
    table = pa.Table.from_batches(batches, pa.schema([(name, pa.string()) for name in names]))
    if not len(table):
        why = f": all {fault_count:,} lines are no rows of it ({fault})" if fault_count else ""
        raise UserError(f"{file.path} has no rows below its header{why}; a table with a label is needed")
    return table


def _unnamed(file: CsvFile) -> tuple[int, ...]:
    """The columns whose name is blank, counted from 1."""
    return tuple(number for number, name in enumerate(csv_files.header(file), start=1) if not name.strip())


def _replace_nulls(table: pa.Table, nulls: Sequence[str]) -> pa.Table:
    """Return the table with null in place of texts that mean missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pa.array(nulls, pa.string())
    for index, name in enumerate(table.column_names):
        missing = pc.is_in(table[name], texts)
        if pc.any(missing).as_py():
            filled = pc.if_else(missing, pa.scalar(None, pa.string()), table[name])
            table = table.set_column(index, name, filled)
    return table


def _read_columns(
    connection: Any, table: pa.Table, columns: Sequence[Column], file: CsvFile, time: str | None, hints: Hints
) -> tuple[tuple[Column, ...], tuple[str, ...], pa.Table]:
    """Return the columns, the texts that mean missing, and the table with null in their place.

    A mark such as ? among numbers or times means a missing value, and so it does in all columns.
    """

    def read(column: Column, texts: pa.ChunkedArray) -> Column:
        is_time = column.name == time
        formats = hints.time_formats if is_time else ()
        return read_column(connection, column, texts, delimiter=file.delimiter, is_time=is_time, formats=formats)

    import pyarrow as pa
    import pyarrow.compute as pc

    for text in hints.missing:
        if not any(pc.any(pc.equal(texts, pa.scalar(text))).as_py() for texts in table.columns):
            raise UserError(f"--missing {text}: no column of {file.name} holds it; write it just as it stands there")
    nulls = tuple(dict.fromkeys((*NULLS, *hints.missing)))
    table = _replace_nulls(table, nulls)
    results = [read(column, table[column.name]) for column in columns]
    if marks := sorted({mark for column in results if column.hidden for mark in column.marks}):
        table = _replace_nulls(table, marks)
        indices = [index for index, column in enumerate(results) if set(marks) & set(column.marks)]
        for index in indices:
            results[index] = replace(read(columns[index], table[columns[index].name]), marks=results[index].marks)
    return tuple(results), (*nulls, *marks), table


def _time(columns: tuple[Column, ...], given: Column | None, path: Path) -> Column | None:
    dated = [column for column in columns if column.moment]
    if not dated and not given:
        return None
    time = given or only_column(dated, "time", path, "column of dates or times")
    if time not in dated:
        if time.writing:
            raise UserError(f"--time {time.name}: it {time.writing.description()}")
        raise UserError(
            f"--time {time.name}: its values do not cast to dates or times such as 2024-05-31; write them so, say how "
            "they are written, such as --time-format '%d %B %Y' or 'seconds since 1970', or name another column"
        )
    return time


def _series(
    connection: Any,
    path: Path,
    by_name: Mapping[str, Column],
    label: Column,
    time: Column | None,
    key: tuple[str, ...],
    horizons: tuple[int, ...],
    zone: str,
) -> tuple[Series, tuple[str, ...]]:
    """Return the series of a forecast, and the columns that identify a row."""
    if time is None:
        raise UserError(f"{path.name} has no column of dates or times; a forecast needs one: --time COLUMN")
    if not_plain := [name for name in key if not re.fullmatch("[a-z][a-z0-9_]*", name.lower())]:
        raise UserError(
            f"--key {not_plain[0]}: series are told apart by columns of plain names; call it "
            f"{by_name[not_plain[0]].alias} in the header of {path.name}"
        )
    if not label.is_number:
        raise UserError(f"--label {label.name}: forecasts are of numbers, and it is {label.type} in {path.name}")
    moment = time.read_moment
    return read_series(connection, path.name, key, moment, label.number, horizons, zone), (*key, time.name)


def _key(
    connection: Any, columns: tuple[Column, ...], given: tuple[str, ...], time: Column | None, path: Path
) -> tuple[str, ...]:
    rows = _scalar(connection, "select count(*) from t")
    if given:
        if missing := rows - _count_distinct(connection, given):
            raise _repeated(connection, given, missing, rows)
        return given
    ids = [column for column in columns if column.alias.endswith("id") or column.alias in ("key", "number")]
    unique = [column for column in columns if column.distinct == rows and (column.is_text or column.type == "integer")]
    for column in [*(c for c in ids if c in unique), *unique]:
        return (column.name,)
    with_time = [(column.name, time.name) for column in ids] if time else []
    return next((names for names in with_time if _count_distinct(connection, names) == rows), ())


def _repeated(connection: Any, key: tuple[str, ...], missing: int, rows: int) -> UserError:
    """The error of a key that does not tell all rows apart, with the first value that it has twice."""
    columns = ", ".join(map(quote, key))
    first = connection.execute(
        f"select {columns} from t group by all having count(*) > 1 order by all limit 1"
    ).fetchone()
    whole = rows - _scalar(connection, "select count(*) from (select distinct * from t)")
    advice = "remove these copies of whole rows" if whole == missing else "add a column with another --key"
    shown = one_line(", ".join(map(str, first)))
    return UserError(
        f"--key {' '.join(key)}: rows that share a key with an earlier one: {missing:,}, such as {shown}; {advice}"
    )


def _count_distinct(connection: Any, names: tuple[str, ...]) -> int:
    return _scalar(connection, f"select count(*) from (select distinct {', '.join(map(quote, names))} from t)")


def _scalar(connection: Any, query: str) -> int:
    [(value,)] = connection.execute(query).fetchall()
    return int(value)
