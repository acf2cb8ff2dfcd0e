"""Casts text to declared types: a row is either cast completely, or stored apart with its faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb
import psutil

from feature_store.sql_text import literal, quote
from refit.config import ColumnType, SourceParams
from refit.config.column_types import ArrayColumn, array_column, sql_type
from refit.config.section import OWN
from refit.errors import UserError, first_line
from refit.storage.batches import FAULT, FUTURE, LINE, TEXT

if TYPE_CHECKING:
    import pyarrow as pa

# Integers of 16 digits and more can share a double: 2^53 + 1 would become 2^53, one account number another.
_DIGITS = "rtrim(ltrim(regexp_replace(split_part(lower({0}), 'e', 1), '[^0-9]', '', 'g'), '0'), '0')"
_IS_WHOLE = "regexp_full_match({0}, '\\s*[+-]?[0-9]+([.]0*)?\\s*') or abs(try_cast({0} as double)) < 1e15"
_IS_HELD = (
    "not regexp_full_match({0}, '\\s*[+-]?0*[1-9][0-9]{{15,}}([.][0-9]*)?\\s*') "
    "or (not contains({0}, '.') and try_cast({0} as hugeint) = try_cast(try_cast({0} as double) as hugeint)) "
    f"or {_DIGITS} = {_DIGITS.format('try_cast({0} as double)::varchar')}"
)
_SHORT = "case when length({{0}}) < 16 then true else {} end"  # few texts are longer, and only they need the check
# A plain cast reads 31/01/24 as a day of the year 31, and 24-01-31 as one of the year 24.
HAS_YEAR = "not regexp_matches({0}, '^\\s*[+-]?[0-9]{{1,3}}[^0-9]')"
# DuckDB's own casts round '2.7' to 3, take 'inf', drop the offset of '10:00+02:00' and the time of a date.
_CASTS: dict[str, str] = {
    "integer": "case when try_cast({0} as double) = try_cast({0} as bigint) "
    f"and {_SHORT.format(_IS_WHOLE)} then try_cast({{0}} as bigint) end",
    "number": f"case when isfinite(try_cast({{0}} as double)) and {_SHORT.format(_IS_HELD)} "
    "then try_cast({0} as double) end",
    "text": "{0}",
    "timestamp": f"case when isfinite(try_cast({{0}} as timestamptz)) and {HAS_YEAR} "
    "then try_cast({0} as timestamptz)::timestamp end",
    "date": f"case when isfinite(try_cast({{0}} as date)) and {HAS_YEAR} "
    "and try_cast({0} as timestamp) = try_cast({0} as date) then try_cast({0} as date) end",
    "boolean": "try_cast({0} as boolean)",
}
_BEGINNING = "timestamp '0001-01-02'"  # Python has no earlier time, and time zones need a day of margin
TOO_LONG = "has more digits than a number holds (2^53); declare the column text"
_LINE_FAULT = "case when _fault is not null then {'column': null, 'value': _text, 'reason': _fault} end"
_FAULT = 'struct("column" varchar, "value" varchar, reason varchar)'
_ARRAYS_MB = 512  # of memory for images and vectors; more if they are large:
_GROUP_ROWS, _GROUPS = 122_880, 4  # rows of a group of DuckDB's, and groups that memory must hold; 1.3 were too few
_CELLS = 1_000_000  # cells that are cast by one statement


def connect(
    temp: str, arrays: Iterable[ArrayColumn] = (), *, memory_limit: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB that is deterministic, spills to `temp`, and can access nothing else.

    Args:
        memory_limit: what it holds in memory of rows without arrays; most of the machine's if None.
        arrays: of each row. With small ones, rows are moved to disk beyond 512 MB, not only when most of the memory is
            used. Larger ones need more: DuckDB has some groups of 122,880 rows in memory at once.
    """
    config: dict[str, str | int] = {"threads": 1, "temp_directory": temp}
    if width := sum(array.size * (1 if array.kind == "image" else 4) for array in arrays):
        megabytes = max(_ARRAYS_MB, _GROUPS * _GROUP_ROWS * width // 1_000_000)
        if megabytes < psutil.virtual_memory().total // 2_000_000:
            config["memory_limit"] = f"{megabytes}MB"
    elif memory_limit is not None:
        config["memory_limit"] = memory_limit
    connection = duckdb.connect(config=config)
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set asof_loop_join_threshold = 0")
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute("set autoload_known_extensions = false")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def cells(source: SourceParams) -> dict[str, str]:
    """Map the declared columns to their names in internal tables: `c0`, `c1`, ..."""
    return {name: f"c{index}" for index, name in enumerate(source.columns)}


class Caster:
    """Fills the table `cast_rows`: `_file`, `_line`, the declared columns as named by `cells`, `_event_time`,
    `_faults` and `_raw`.

    `_faults` is null for a row that was cast completely.

    Raises:
        UserError: the event_time expression does not fit the declared columns.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: SourceParams, where: str, now: datetime) -> None:
        self.connection = connection
        self.source = source
        self._check_names(where)
        columns = ", ".join(f"{cell} {sql_type(source.columns[name])}" for name, cell in cells(source).items())
        connection.execute(
            f"create or replace table cast_rows (_file integer, _line bigint, {columns}, "
            f"_event_time timestamp, _faults {_FAULT}[], _raw varchar)"
        )
        self._check_event_time(where)
        self._clock = f"timestamp {literal(now.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' '))}"

    @property
    def _event_time(self) -> str:
        """The expression on separate lines, so that comments end; a plain column is quoted, as it may be a keyword."""
        expression = self.source.event_time or "null"
        return f"\n{quote(expression) if expression in self.source.columns else expression}\n"

    def _check_names(self, where: str) -> None:
        names = list(self.source.columns)
        lower = [name.lower() for name in names]
        if twice := [name for name in names if lower.count(name.lower()) > 1]:
            raise UserError(
                f"{where}.columns: {', '.join(twice)} differ in case only, which SQL does not see; rename one"
            )
        if invalid := [name for name in names if not name or OWN in name or "\0" in name]:
            raise UserError(
                f"{where}.columns: {invalid[0]!r} is no name for a column: one character at least was expected, and "
                "neither NUL nor U+E000; rename it"
            )

    def _check_event_time(self, where: str) -> None:
        if self.source.event_time is None:
            return
        names = ", ".join(f"{cell} as {quote(name)}" for name, cell in cells(self.source).items())
        query = f"select try({self._event_time}) as time from (select {names} from cast_rows)"
        try:
            result_type = self.connection.execute(f"describe {query}").fetchall()[0][1]
        except duckdb.Error as error:
            result_type = first_line(error)
        if not result_type.startswith("TIMESTAMP") and result_type != "DATE":
            raise UserError(
                f"{where}.event_time: {self.source.event_time!r} is no timestamp or date over the columns: "
                f"{result_type}; correct it in params.yaml"
            )

    def add(self, file: int, batch: pa.RecordBatch) -> int:
        """Cast the rows of a batch from file number `file`; returns their number."""
        import pyarrow as pa

        rows = pa.table({"_line": batch[LINE], "_fault": batch[FAULT], "_text": batch[TEXT]})
        texts, values = self._texts_and_values(batch)
        times = self._times(values)
        reasons = {name: batch[name].field("fault") for name in self.source.arrays if _is_named(batch[name])}
        faults = self._faults(rows, texts, values, times, reasons)
        columns = {"_file": pa.repeat(pa.scalar(file, pa.int32()), batch.num_rows), "_line": batch[LINE]}
        columns |= {cell: values[name] for name, cell in cells(self.source).items()}
        self._register("casted", pa.table({**columns, "_event_time": times["_known"], **faults}))
        self.connection.execute("insert into cast_rows select * from casted")
        self._unregister("casted")
        return int(batch.num_rows)

    def _register(self, name: str, table: pa.Table) -> None:
        self.connection.register(name, table)

    def _unregister(self, *names: str) -> None:
        for name in names:
            self.connection.unregister(name)

    def _texts_and_values(self, batch: pa.RecordBatch) -> tuple[list[pa.ChunkedArray], dict[str, pa.ChunkedArray]]:
        """Return each column as text, null if it means missing, and as cast values."""
        import pyarrow as pa

        texts: dict[str, pa.ChunkedArray] = {}
        values: dict[str, pa.ChunkedArray] = {}
        rows = batch.num_rows
        for kind, names in self._same_type_columns(batch):
            self._register("arrived", pa.table({"v": pa.chunked_array([batch[name] for name in names])}))
            if array := array_column(kind):
                text, cells = _array_text(array), "arrived"
                if _is_named(batch[names[0]]):
                    text, cells = "name", "(select v.name as name, v.pixels as v from arrived)"
                elif pa.types.is_string(batch[names[0]].type):
                    cells = f"(select {self._text()} as v from arrived)"
                query = f"select {text} as t, {_array_value(array)} as v from {cells}"
            else:
                query = f"select t, {_CASTS[kind].format('t')} as v from (select {self._text()} as t from arrived)"
            cast = self.connection.sql(query).to_arrow_table()
            self._unregister("arrived")
            for index, name in enumerate(names):
                texts[name], values[name] = (cast[each].slice(index * rows, rows) for each in ("t", "v"))
        return [texts[name] for name in self.source.columns], {name: values[name] for name in self.source.columns}

    def _same_type_columns(self, batch: pa.RecordBatch) -> Iterator[tuple[ColumnType, list[str]]]:
        """Yield groups of columns that are cast by one statement, because planning a statement takes 5 ms."""
        groups: dict[tuple[ColumnType, str], list[str]] = {}
        for name, kind in self.source.columns.items():
            groups.setdefault((kind, str(batch[name].type)), []).append(name)
        for (kind, given), names in groups.items():
            some = max(1, _CELLS // max(1, batch.num_rows)) if given in ("string", "int64", "double") else 1
            yield from ((kind, names[first : first + some]) for first in range(0, len(names), some))

    def _times(self, values: Mapping[str, pa.ChunkedArray]) -> pa.Table:
        """Return `_event_time` of each row as written, and `_known`, which is null if the time is not allowed."""
        import pyarrow as pa

        moment = "null::timestamp" if self.source.event_time is None else f"try(({self._event_time})::timestamp)"
        allowed = f"case when _event_time between {_BEGINNING} and {self._clock} then _event_time end as _known"
        self._register("casted", pa.table(dict(values)))
        query = f"select _event_time, {allowed} from (select {moment} as _event_time from casted)"
        times = self.connection.sql(query).to_arrow_table()
        self._unregister("casted")
        return times

    def _faults(
        self,
        rows: pa.Table,
        texts: Sequence[pa.ChunkedArray],
        values: Mapping[str, pa.ChunkedArray],
        times: pa.Table,
        reasons: Mapping[str, pa.Array],
    ) -> dict[str, pa.ChunkedArray | pa.Array]:
        """Return `_faults` of each row in the order of the columns, and `_raw`, the texts of a row with faults.

        `reasons` has the columns whose reader says itself why a value does not fit.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        numbers = pa.array(range(len(rows)), pa.int64())
        self.connection.execute(f"create or replace temp table faults (_n bigint, _place integer, _fault {_FAULT})")
        if rows["_fault"].null_count < len(rows):
            self._note(0, _LINE_FAULT, {"_n": numbers, "_fault": rows["_fault"], "_text": rows["_text"]})
        for position, (text, (name, value)) in enumerate(zip(texts, values.items(), strict=True), start=1):
            seen = {"_n": numbers, "_fault": rows["_fault"], "_t": text, "_v": value}
            if text.null_count < value.null_count:
                kind = self.source.columns[name]
                finite = "coalesce(isfinite(try_cast(_t as double)), false)" if kind == "number" else "false"
                uncast = f"_t is not null and _v is null and {finite}"
                own = {"_own": reasons[name]} if name in reasons else {}
                fault = _fault(f"{uncast} = false", name, "_t", f"is no {kind}", own_reason="_own" if own else "null")
                self._note(2 * position, fault, {**seen, **own})
                self._note(2 * position, _fault(uncast, name, "_t", TOO_LONG), seen)
            if text.null_count and name in self.source.required:
                missing = _fault("_fault is null and _t is null", name, "null", "is required and missing")
                self._note(2 * position + 1, missing, seen)
        if self.source.event_time is not None and times["_known"].null_count:
            seen = {"_n": numbers, "_fault": rows["_fault"], "_event_time": times["_event_time"]}
            for position, fault in enumerate(_time_faults(self._clock), start=2 * len(texts) + 2):
                self._note(position, fault, seen)
        query = f"select _n, list(_fault order by _place)::{_FAULT}[] as _faults from faults group by _n order by _n"
        faulty = self.connection.sql(query).to_arrow_table()
        bad = pc.index_in(numbers, faulty["_n"])
        raw = self._raw(texts, faulty["_n"], rows["_fault"])
        return {"_faults": faulty["_faults"].take(bad), "_raw": raw.take(bad)}

    def _note(self, position: int, fault: str, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> None:
        """Store the faults that an expression finds in some columns; `position` orders the faults of a row."""
        import pyarrow as pa

        self._register("seen", pa.table(columns))
        self.connection.execute(
            f"insert into faults select _n, {position}, f from (select _n, {fault} as f from seen) where f is not null"
        )
        self._unregister("seen")

    def _raw(self, texts: Sequence[pa.ChunkedArray], numbers: pa.Array, faults: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the texts of some rows as JSON, null if a line is not a row."""
        import pyarrow as pa

        if not len(numbers):
            return pa.chunked_array([pa.array([], pa.string())])
        columns = {f"_t{number}": text.take(numbers) for number, text in enumerate(texts)}
        self._register("bad", pa.table({"_fault": faults.take(numbers), **columns}))
        raw = ", ".join(f"{literal(name)}: _t{number}" for number, name in enumerate(self.source.columns))
        query = f"select case when _fault is null then to_json({{{raw}}})::varchar end as _raw from bad"
        texts_json = self.connection.sql(query).to_arrow_table()["_raw"]
        self._unregister("bad")
        return texts_json

    def _text(self) -> str:
        text = "v::varchar"
        nulls = ", ".join(literal(null) for null in self.source.nulls)
        return f"case when {text} not in ({nulls}) then {text} end" if nulls else text

    def next_future(self) -> datetime | None:
        """Return the earliest event time that is still in the future."""
        (earliest,) = self.connection.execute(
            'select min(f."value"::timestamp) from (select unnest(_faults) as f from cast_rows '
            f"where _faults is not null) where f.reason = {literal(FUTURE)}"
        ).fetchone()
        return earliest.replace(tzinfo=UTC) if isinstance(earliest, datetime) else None


def _array_value(array: ArrayColumn) -> str:
    """SQL for a cell `v`, null if it has another shape, or values that are missing or not finite."""
    if array.kind == "image":
        return f"case when octet_length(v) = {array.size} then v end"
    finite = "list_bool_and(list_transform(list_value, lambda x: coalesce(isfinite(x), false)))"
    cell = f"case when len(list_value) = {array.size} and {finite} then list_value end"
    return f"(select {cell}::FLOAT[{array.size}] from (select try_cast(v as float[]) as list_value))"


def _array_text(array: ArrayColumn) -> str:
    """SQL for a short description of a cell `v`, which faults and the quarantine show in place of all its values."""
    if array.kind == "image":
        return "octet_length(v) || ' bytes'"
    return "case when v is null then null else coalesce(len(try_cast(v as float[]))::varchar, 'no') || ' numbers' end"


def _is_named(cells: pa.Array) -> bool:
    """Whether a reader gives each cell as its value, the name of the file that it is from, and why it does not fit."""
    import pyarrow as pa

    return bool(pa.types.is_struct(cells.type)) and [field.name for field in cells.type] == ["pixels", "name", "fault"]


def _fault(condition: str, column: str, value: str, reason: str, own_reason: str = "null") -> str:
    """SQL for the fault of a value where a condition holds; `own_reason` is SQL for the reader's own reason."""
    why = f"coalesce({own_reason}, {literal(reason)})"
    fault = f"{{'column': {literal(column)}, 'value': {value}, 'reason': {why}}}"
    return f"case when {condition} then {fault} end"


def _time_faults(clock: str) -> list[str]:
    column, value = "event_time", "_event_time::varchar"
    return [
        _fault("_fault is null and _event_time is null", column, "null", "has no event time"),
        _fault(f"_event_time > {clock}", column, value, FUTURE),
        _fault(f"_event_time < {_BEGINNING}", column, value, "lies before the year 1"),
    ]
