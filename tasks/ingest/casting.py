"""Text into declared types: every row either casts whole, or is kept aside with what was wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from tasks.batches import FUTURE
from tasks.errors import UserError
from tasks.params import ColumnType, SourceParams

if TYPE_CHECKING:
    import pyarrow as pa

SQL_TYPES: dict[ColumnType, str] = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "text": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "boolean": "BOOLEAN",
}
# DuckDB's own casts round '2.7' to 3, take 'inf', drop the offset of '10:00+02:00' and the time of a date.
_CASTS: dict[ColumnType, str] = {
    "integer": "case when try_cast({0} as double) = try_cast({0} as bigint) then try_cast({0} as bigint) end",
    "number": "case when isfinite(try_cast({0} as double)) then try_cast({0} as double) end",
    "text": "{0}",
    "timestamp": "case when isfinite(try_cast({0} as timestamptz)) then try_cast({0} as timestamptz)::timestamp end",
    "date": "case when isfinite(try_cast({0} as date)) and try_cast({0} as timestamp) = try_cast({0} as date)"
    " then try_cast({0} as date) end",
    "boolean": "try_cast({0} as boolean)",
}
_RESERVED = re.compile(r"_row|_event_time|_file|_line|_fault|_faults|_found|_text|_raw|_period|_start|_t\d+")
_BEGINNING = "timestamp '0001-01-02'"  # Python knows no earlier time, and calendars need a day to spare
_LINE_FAULT = "case when _fault is not null then {'column': null, 'value': _text, 'reason': _fault} end"
_FAULTS = 'struct("column" varchar, "value" varchar, reason varchar)[]'


def connect(temp: str) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that gives the same bytes each time, spills to `temp`, and reaches nothing else."""
    connection = duckdb.connect(config={"threads": 1, "temp_directory": temp})
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set asof_loop_join_threshold = 0")
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute("set autoload_known_extensions = false")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def quoted(name: str) -> str:
    """A name as an SQL identifier; without `feature_store`, whose code is none that decides what ingest makes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


class Caster:
    """Fills the table `cast_rows`: `_file`, `_line`, the declared columns, `_event_time`, `_faults` and `_raw`.

    `_faults` is null for a row that casts whole.

    Raises:
        UserError: the event_time expression does not fit the declared columns.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: SourceParams, where: str, now: datetime) -> None:
        self.connection = connection
        self.source = source
        self._check_names(where)
        columns = ", ".join(f"{quoted(name)} {SQL_TYPES[kind]}" for name, kind in source.columns.items())
        connection.execute(
            f"create or replace table cast_rows (_file integer, _line bigint, {columns}, "
            f"_event_time timestamp, _faults {_FAULTS}, _raw varchar)"
        )
        self._check_event_time(where)
        self._select = self._statement(now)

    @property
    def _event_time(self) -> str:
        """The expression on lines of its own, so that a comment ends; a bare column may be named like a keyword."""
        expression = self.source.event_time or "null"
        return f"\n{quoted(expression) if expression in self.source.columns else expression}\n"

    def _check_names(self, where: str) -> None:
        names = list(self.source.columns)
        lower = [name.lower() for name in names]
        if twice := [name for name in names if lower.count(name.lower()) > 1]:
            raise UserError(
                f"{where}.columns: {', '.join(twice)} differ in case only, which SQL does not see; rename one"
            )
        if reserved := [name for name in names if _RESERVED.fullmatch(name.lower())]:
            raise UserError(f"{where}.columns: {', '.join(reserved)} is a name that batches use themselves; rename it")

    def _check_event_time(self, where: str) -> None:
        if self.source.event_time is None:
            return
        names = ", ".join(quoted(name) for name in self.source.columns)
        query = f"select try({self._event_time}) as time from (select {names} from cast_rows)"
        try:
            found = self.connection.execute(f"describe {query}").fetchall()[0][1]
        except duckdb.Error as error:
            found = str(error).splitlines()[0]
        if not found.startswith("TIMESTAMP") and found != "DATE":
            raise UserError(
                f"{where}.event_time: {self.source.event_time!r} is no timestamp or date over the columns: {found}; "
                "correct it in params.yaml"
            )

    def _statement(self, now: datetime) -> str:
        """The INSERT that casts `arrived`: from texts (`_t0`, `_t1`, ...) to typed columns, event time, and faults."""
        numbers = range(len(self.source.columns))
        texts = ", ".join(self._text(name, number) for number, name in enumerate(self.source.columns))
        casts = ", ".join(
            f"{_CASTS[kind].format(f'_t{number}')} as {quoted(name)}"
            for number, (name, kind) in enumerate(self.source.columns.items())
        )
        event_time, known_time, time_faults = "null", "null", []
        if self.source.event_time is not None:
            event_time = f"try(({self._event_time})::timestamp)"
            clock = f"timestamp {literal(now.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' '))}"
            known_time = f"case when _event_time between {_BEGINNING} and {clock} then _event_time end"
            time_faults = _time_faults(clock)
        names = ", ".join(quoted(name) for name in self.source.columns)
        raw = ", ".join(f"{literal(name)}: _t{number}" for number, name in enumerate(self.source.columns))
        faults = ", ".join([_LINE_FAULT, *self._column_faults(), *time_faults])
        return (
            f"insert into cast_rows select $file, _line, {names}, {known_time}, "
            f"case when len(_found) > 0 then _found end, "
            f"case when len(_found) > 0 and _fault is null then to_json({{{raw}}})::varchar end "
            f"from (select *, list_filter([{faults}], lambda f: f is not null)::{_FAULTS} as _found "
            f"from (select *, {event_time} as _event_time "
            f"from (select _line, _fault, _text, {', '.join(f'_t{number}' for number in numbers)}, {casts} "
            f"from (select _line, _fault, _text, {texts} from arrived))))"
        )

    def _text(self, name: str, number: int) -> str:
        text = f"{quoted(name)}::varchar"
        nulls = ", ".join(literal(null) for null in self.source.nulls)
        return f"{f'case when {text} not in ({nulls}) then {text} end' if nulls else text} as _t{number}"

    def _column_faults(self) -> Iterator[str]:
        for number, (name, kind) in enumerate(self.source.columns.items()):
            text = f"_t{number}"
            if kind != "text":
                yield _fault(f"{text} is not null and {quoted(name)} is null", name, text, f"is no {kind}")
            if name in self.source.required:
                yield _fault(f"_fault is null and {text} is null", name, "null", "is required and missing")

    def add(self, file: int, batch: pa.RecordBatch) -> int:
        """Cast the rows of a batch out of file number `file`; returns how many there are."""
        import pyarrow as pa

        self.connection.register("arrived", pa.Table.from_batches([batch]))
        self.connection.execute(self._select, {"file": file})
        self.connection.unregister("arrived")
        return int(batch.num_rows)

    def next_future(self) -> datetime | None:
        """The earliest event time that lies in the future yet."""
        (found,) = self.connection.execute(
            'select min(f."value"::timestamp) from (select unnest(_faults) as f from cast_rows '
            f"where _faults is not null) where f.reason = {literal(FUTURE)}"
        ).fetchone()
        return found.replace(tzinfo=UTC) if isinstance(found, datetime) else None


def _fault(condition: str, column: str, value: str, reason: str) -> str:
    fault = f"{{'column': {literal(column)}, 'value': {value}, 'reason': {literal(reason)}}}"
    return f"case when {condition} then {fault} end"


def _time_faults(clock: str) -> list[str]:
    column, value = "event_time", "_event_time::varchar"
    return [
        _fault("_fault is null and _event_time is null", column, "null", "has no event time"),
        _fault(f"_event_time > {clock}", column, value, FUTURE),
        _fault(f"_event_time < {_BEGINNING}", column, value, "lies before the year 1"),
    ]
