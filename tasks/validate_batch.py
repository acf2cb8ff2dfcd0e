"""One batch under validation: its Parquet read, its rows judged, and quarantine and result written, in that order."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from tasks import artifacts, quarantine
from tasks.artifacts import FileRef
from tasks.batches import FILE_STRIDE
from tasks.context import Context
from tasks.errors import RefitError
from tasks.quarantine import EARLIER, REPEATED, UNCAST, Refusal
from tasks.validate_docs import page
from tasks.validate_engine import Engine, Verdict, check_suites
from tasks.validate_suite import EVENT_TIME, ROW, Plan

if TYPE_CHECKING:
    import pandas
    import pyarrow


def validate(context: Context, plans: Sequence[Plan]) -> dict[str, dict[str, Any]]:
    """Validate batches one after another; returns their records by name.

    Each batch is finished on disk before the next begins, so that a run cut short costs only the batch it was at.
    """
    check_suites(context.params)
    engine = Engine()
    records = {}
    for index, plan in enumerate(plans):
        context.progress(f"validating {plan.name}", index, len(plans))
        records[plan.name] = _validate_one(context, engine, plan)
    context.progress("validated", len(plans), len(plans))
    return records


def _validate_one(context: Context, engine: Engine, plan: Plan) -> dict[str, Any]:
    table = _read(context, plan)
    frame = _frame(table)
    checks = plan.checks if len(frame) else plan.checks[:1]  # GX divides by the number of rows
    repeats = _repeats(frame, plan)
    earlier = _keys_of_earlier_parts(context, frame, plan)
    rest = frame[~frame[ROW].isin({refusal.row for refusal in (*repeats, *earlier)})] if repeats or earlier else frame
    verdicts, result = engine.judge(plan.name, rest, checks, mostly=round(1 - plan.max_share, 12))
    raw = _raw_rows(
        table, {row for verdict in verdicts for row in verdict.rows} | {r.row for r in (*repeats, *earlier)}
    )
    refusals = [
        *_uncast(context, plan),
        *(_placed(refusal, plan, raw) for refusal in (*repeats, *earlier)),
        *_refusals(verdicts, plan, raw),
    ]
    reference = None
    if refusals:
        path = context.path(plan.quarantine_path)
        quarantine.write(path, refusals)
        reference = {"path": plan.quarantine_path.as_posix(), "sha256": artifacts.sha256(path)}
    with artifacts.atomic(context.path(plan.page_path)) as scratch:
        scratch.write_text(page(plan.name, result), encoding="utf-8")
    record = {
        "key": plan.key,
        "verdicts": [
            {
                "check": index,
                "expectation": verdict.check.name,
                "success": verdict.success,
                "found": verdict.found,
                "mostly": verdict.mostly,
                "evaluated": verdict.evaluated,
                "rows": sorted(verdict.rows),
            }
            for index, verdict in enumerate(verdicts)
        ],
        "refused": sorted({refusal.row for refusal in refusals if refusal.check != UNCAST}),
        "uncast": len({refusal.row for refusal in refusals if refusal.check == UNCAST}),
        "quarantine": reference,
    }
    artifacts.write_json(context.path(plan.record_path), record)
    return record


def _read(context: Context, plan: Plan) -> pyarrow.Table:
    import pyarrow.parquet as pq

    entry = plan.entry
    path = FileRef(entry["path"], entry["sha256"], entry["rows"]).resolve(context.project)
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, ValueError) as error:
        raise RefitError(f"{entry['path']} cannot be read ({error}); delete it and run `refit run` again") from None
    if len(table) != entry["rows"] or ROW not in table.column_names:
        raise RefitError(f"{entry['path']} holds {len(table):,} rows, {entry['rows']:,} were recorded; ingest it again")
    return table


def _frame(table: pyarrow.Table) -> pandas.DataFrame:
    """The batch in pandas: whole numbers stay whole beside nulls, dates become times."""
    import pandas as pd
    import pyarrow as pa

    whole: dict[Any, Any] = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    nullable = {
        name for name in table.column_names if table[name].null_count and table.schema.field(name).type in whole
    }
    plain = table.drop_columns(sorted(nullable)).to_pandas(date_as_object=False)
    for name in nullable:
        plain[name] = table[name].to_pandas(types_mapper=whole.get)
    return plain[table.column_names]


def _repeats(frame: pandas.DataFrame, plan: Plan) -> list[Refusal]:
    """Rows that repeat another row of the batch in every raw column: all but the first."""
    key = list(plan.source.key)
    columns = [column for column in plan.source.columns if column in frame]
    if not set(key) <= set(columns):
        return []
    twice = frame[frame.duplicated(key, keep=False) & frame[key].notna().all(axis=1)].sort_values(ROW)
    repeated = twice[twice.duplicated(columns)]
    reason = "repeats another row exactly; the first is kept"
    return [
        Refusal(row, None, ", ".join(key), _as_text(value), reason, None, REPEATED)
        for row, value in _keyed(repeated, key)
    ]


def _keys_of_earlier_parts(context: Context, frame: pandas.DataFrame, plan: Plan) -> list[Refusal]:
    """Rows whose key is in an earlier part of the same period."""
    import pyarrow.parquet as pq

    key = list(plan.source.key)
    refusals: dict[int, Refusal] = {}
    for mate in plan.periodmates:
        path = FileRef(mate["path"], mate["sha256"], mate["rows"]).resolve(context.project)
        seen = pq.ParquetFile(path).read(columns=key).to_pandas(date_as_object=False).drop_duplicates()
        again = frame[[*key, ROW]].merge(seen, on=key).sort_values(ROW)
        for row, value in _keyed(again, key):
            reason = f"its key is already in {mate['source']} {mate['name']}"
            refusals.setdefault(row, Refusal(row, None, ", ".join(key), _as_text(value), reason, None, EARLIER))
    return list(refusals.values())


def _keyed(rows: pandas.DataFrame, key: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
    for row, *values in rows[[ROW, *key]].itertuples(index=False):
        yield int(row), values


def _uncast(context: Context, plan: Plan) -> list[Refusal]:
    import pyarrow.parquet as pq

    entry = plan.entry
    if entry["uncast_path"] is None:
        return []
    path = FileRef(entry["uncast_path"], entry["uncast_sha256"], entry["uncast"]).resolve(context.project)
    lines = pq.ParquetFile(path).read().to_pylist()
    return [
        Refusal(line[ROW], line["file"], line["column"], line["value"], line["reason"], line.get("row"), UNCAST)
        for line in lines
    ]


def _refusals(verdicts: Sequence[Verdict], plan: Plan, raw: Mapping[int, str]) -> Iterator[Refusal]:
    for verdict in verdicts:
        check = verdict.check
        expected = ", ".join(f"{k} {v}" for k, v in check.arguments.items() if k != "mostly" and k[:6] != "column")
        reason = check.name + (f": {expected}" if expected else "")
        for row, value in verdict.rows.items():
            yield Refusal(
                row, _file(plan, row), ", ".join(check.columns), _as_text(value), reason, raw[row], check.name
            )


def _placed(refusal: Refusal, plan: Plan, raw: Mapping[int, str]) -> Refusal:
    return replace(refusal, file=_file(plan, refusal.row), raw=raw[refusal.row])


def _file(plan: Plan, row: int) -> str | None:
    """The file that a row came from: `_row` is its line, plus a stride for each earlier file of the batch."""
    files = plan.entry.get("files") or [None]
    return files[min(row // FILE_STRIDE, len(files) - 1)]


def _raw_rows(table: pyarrow.Table, wanted: set[int]) -> dict[int, str]:
    """JSON text of the raw rows, by row number."""
    if not wanted:
        return {}
    positions = [index for index, row in enumerate(table[ROW].to_pylist()) if row in wanted]
    rows = table.take(positions).to_pylist()
    return {row[ROW]: json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) for row in rows}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _as_json(value) for name, value in row.items() if name not in (ROW, EVENT_TIME)}


def _as_json(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _as_text(value: Any) -> str | None:
    """A value as text; several, such as a compound key, as a JSON list."""
    if isinstance(value, list):
        return json.dumps([_as_text(item) for item in value], ensure_ascii=False)
    missing = value is None or value != value
    return None if missing else str(value)
