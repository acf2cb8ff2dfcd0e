"""Reads rows to score from a file: casts and validates each one under the declaration and suite of its source."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.sql_guard import columns_in
from feature_store.sql_text import literal, quote
from refit.config import LabelParams, SourceParams
from refit.config.section import row_column, time_column
from refit.files.artifacts import STATE
from refit.runtime import memory
from refit.runtime.context import Context
from refit.sources import sources
from refit.sources.source_files import SourceFile
from refit.storage.batches import for_sql
from refit.storage.quarantine import UNCAST, Refusal
from tasks.validate import frames
from tasks.validate.expectations import suite_of
from tasks.validate.one_batch import refusals_of
from tasks.validate.suites import NOT_NULL, row_checks

if TYPE_CHECKING:
    import pyarrow as pa

_NEVER = datetime(9999, 1, 1, tzinfo=UTC)  # rows to score may lie in the future


@dataclass(frozen=True)
class InputRows:
    """The rows of a file that can be scored, and why the others cannot."""

    rows: pa.Table  # the raw columns and `_row`, as batches have them, and `event_time`
    refusals: tuple[Refusal, ...]
    read: int
    notes: tuple[str, ...]

    @property
    def refused(self) -> int:
        return len({refusal.row for refusal in self.refusals})


def read_rows(context: Context, name: str, path: Path) -> InputRows:
    """Read the rows of a file in the layout of a source.

    Columns that are neither required nor part of the key may be absent, because outcomes are not known yet. The
    label's column may be absent even where it is required, and whatever is in it refuses no row.

    Raises:
        UserError: the file cannot be read, has an undeclared column, or lacks a needed one.
    """
    import pyarrow as pa

    declared = context.params.ingest.sources[name]
    hive = tuple(each for each in declared.hive_columns if any(part.startswith(f"{each}=") for part in path.parts))
    declared = declared.model_copy(update={"kind": "files", "sha256": None, "hive_columns": hive})
    file = sources.given(context.sources_root, path, declared, f"ingest.sources.{name}")
    outcomes = _outcomes(context.params.featurize.label, name, declared)
    names = sources.column_names(file, declared)
    if any(name.strip() and name not in declared.columns for name in names):
        expected = {name: kind for name, kind in declared.columns.items() if name in names or name not in outcomes}
        whole = declared.model_copy(update={"columns": expected})
        sources.check_columns(names, whole, file.name, f"ingest.sources.{name}")  # with what the name may stand for
    source = _as_present(declared, names, outcomes)
    table, uncast, read = _cast(context, name, file, source, declared, outcomes)
    refusals = [*uncast, *(_judged(context, name, source, table, declared, outcomes) if table.num_rows else ())]
    bad = {refusal.row for refusal in refusals}
    accepted = table.filter(
        pa.array([row not in bad for row in table[row_column(declared.columns)].to_pylist()], pa.bool_())
    )
    absent = [column for column in declared.columns if column not in source.columns]
    notes = (f"{file.name} has no column {', '.join(absent)}: taken as missing",) if absent else ()
    return InputRows(_with_absent(accepted, declared, absent), tuple(refusals), read, notes)


def _outcomes(label: LabelParams, name: str, declared: SourceParams) -> Set[str]:
    """Return the columns of a source of which only the label is made: they are not known yet, or not to be seen."""
    import duckdb

    if label.column is None or label.source not in (declared.events or (name,)):
        return frozenset()
    others = [declared.event_time or "null", declared.available_at or "null"]
    made_of = quote(label.column)
    for source, event in declared.events.items():
        others += [event.available_at, event.where or "null"]
        others += [sql for column, sql in event.columns.items() if (source, column) != (label.source, label.column)]
        made_of = event.columns.get(label.column, made_of) if source == label.source else made_of
    with duckdb.connect() as connection:
        used = {name for sql in others for name in columns_in(connection, sql)} | {key.lower() for key in declared.key}
        return {column for column in declared.columns if column.lower() in columns_in(connection, made_of) - used}


def _as_present(declared: SourceParams, column_names: list[str], outcomes: Set[str]) -> SourceParams:
    """Return the declaration, reduced to the columns that a file has or must have."""
    required = tuple(column for column in declared.required if column not in outcomes)
    needed = {*declared.key, *required}
    columns = {name: kind for name, kind in declared.columns.items() if name in column_names or name in needed}
    return declared.model_copy(update={"columns": columns, "required": required})


def _cast(
    context: Context, name: str, file: SourceFile, source: SourceParams, declared: SourceParams, outcomes: Set[str]
) -> tuple[pa.Table, list[Refusal], int]:
    """Return the rows that could be cast, with null for an outcome that could not, the refusals and the rows read."""
    from tasks.ingest import casting

    where = f"ingest.sources.{name}"
    limit = memory.sql_limit(context.params)
    with casting.connect(str(context.path(STATE) / "spill"), memory_limit=limit) as connection:
        caster = casting.Caster(connection, source, where, _NEVER)
        read = sum(caster.add(0, batch) for batch in sources.read(file, source, where))
        columns = ", ".join(f"{cell} as {quote(name)}" for name, cell in casting.cells(source).items())
        number, time = (quote(name(declared.columns)) for name in (row_column, time_column))
        outcome = " or ".join(["false", *(f'f."column" = {literal(column)}' for column in sorted(outcomes))])
        faults = (
            "(from (select _line, unnest(_faults) as f, _raw from cast_rows where _faults is not null) "
            f"where ({outcome}) is not true)"
        )
        table = connection.sql(
            f"select _line as {number}, {columns}, _event_time as {time} from cast_rows where _line not in "
            f"(select _line from {faults}) order by _line"
        ).to_arrow_table()
        refused = connection.sql(
            f'select _line, f."column", f."value", f.reason, _raw from {faults} order by _line'
        ).fetchall()
    refusals = [
        Refusal(row, file.name, column, value, reason, raw, UNCAST) for row, column, value, reason, raw in refused
    ]
    return table, refusals, read


def _judged(
    context: Context, name: str, source: SourceParams, table: pa.Table, declared: SourceParams, outcomes: Set[str]
) -> list[Refusal]:
    """Return the rows that the source's suite refuses; expectations of whole columns are only for batches."""
    from tasks.validate.gx_runner import Engine, check_suites

    check_suites(context.params)
    frame = frames.frame_of(table, declared)
    columns = source.columns.keys() - outcomes
    suite = [check for check in suite_of(context.params, name) if columns >= set(check.columns)]
    checks = [
        check
        for check in (*row_checks(source, f"ingest.sources.{name}"), *suite)
        if check.name != NOT_NULL or frame[check.columns[0]].isna().any()
    ]
    repeated = frames.repeats(frame, source)
    judged = frame.drop(columns=time_column(declared.columns), index=[refusal.row for refusal in repeated])
    verdicts, _ = Engine().judge(f"rows to score of {name}", judged, checks, mostly=1.0)
    refusals = [*repeated, *refusals_of(verdicts)]
    raw = frames.raw_rows(table, {refusal.row for refusal in refusals}, declared)
    return [replace(refusal, raw=raw[refusal.row]) for refusal in refusals]


def _with_absent(table: pa.Table, declared: SourceParams, absent: list[str]) -> pa.Table:
    """Return the rows with every declared column, null where the file has none, and `event_time` by its usual name."""
    import pyarrow as pa

    types: Mapping[str, object] = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "text": pa.string(),
        "timestamp": pa.timestamp("us"),
        "date": pa.date32(),
        "boolean": pa.bool_(),
    }
    for name, array in declared.arrays.items():
        kind = pa.binary() if array.kind == "image" else pa.list_(pa.float32(), array.size)
        types = {**types, declared.columns[name]: kind}
    for column in absent:
        table = table.append_column(column, pa.nulls(table.num_rows, types[declared.columns[column]]))
    return for_sql(table, declared)
