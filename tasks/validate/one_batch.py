"""Validates one batch with Great Expectations, quarantines its bad rows, and stores the result last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refit.config.section import time_column
from refit.files import artifacts
from refit.files.artifacts import FileRef
from refit.runtime.context import Context
from refit.schemas.validation_record import QuarantineFile, ValidationRecord, VerdictRecord
from refit.storage import quarantine
from refit.storage.batches import FUTURE
from refit.storage.quarantine import UNCAST, Refusal
from tasks.validate import frames
from tasks.validate.data_docs import Pages
from tasks.validate.expectations import Check
from tasks.validate.gx_runner import Engine, Verdict, check_suites
from tasks.validate.suites import NOT_NULL, SOME_VALUE, BatchPlan

if TYPE_CHECKING:
    import pandas


def validate(context: Context, plans: Sequence[BatchPlan]) -> dict[str, ValidationRecord]:
    """Validate batches one after another; returns their records by name.

    Each batch is finished on disk before the next begins, so that an interrupted run loses only the current batch.

    Raises:
        UserError: an expectation of the params is unknown, or does not take its arguments.
    """
    check_suites(context.params)
    engine, pages = Engine(), Pages()
    records = {}
    for index, plan in enumerate(plans):
        context.progress(f"validating {plan.name}", index, len(plans))
        records[plan.name] = _validate_one(context, engine, pages, plan)
    context.progress("validated", len(plans), len(plans))
    return records


def _validate_one(context: Context, engine: Engine, pages: Pages, plan: BatchPlan) -> ValidationRecord:
    table = frames.read(context.project, plan.batch, plan.source)
    frame = frames.frame_of(table, plan.source)
    repeated = [*frames.repeats(frame, plan.source), *frames.repeated_keys(context.project, frame, plan)]
    verdicts, page = _judge(engine, pages, plan, frame.drop(index=list({refusal.row for refusal in repeated})))
    refusals = [*repeated, *refusals_of(verdicts.values())]
    raw = frames.raw_rows(table, {refusal.row for refusal in refusals}, plan.source)
    refusals = [
        replace(refusal, file=frames.file_of(plan.batch.files, refusal.row), raw=raw[refusal.row])
        for refusal in refusals
    ]
    uncast = _uncast(context.project, plan)
    stored = _store(context, plan, [*uncast, *refusals])
    with artifacts.atomic(context.path(plan.page_path)) as scratch:
        scratch.write_text(page, encoding="utf-8")
    reasons = Counter(check for check, _ in {(refusal.check, refusal.row) for refusal in (*uncast, *refusals)})
    record = ValidationRecord(
        key=plan.key,
        verdicts=tuple(_verdict_record(verdict, index) for index, verdict in verdicts.items()),
        refused=tuple(sorted({refusal.row for refusal in refusals})),
        uncast=len({refusal.row for refusal in uncast}),
        waiting=len({refusal.row for refusal in uncast if refusal.reason == FUTURE}),
        reasons=dict(reasons),
        quarantine=stored,
        constant_images=frames.constant_images(table, plan.source),
    )
    record.write(context.path(plan.record_path))
    return record


def _judge(engine: Engine, pages: Pages, plan: BatchPlan, frame: pandas.DataFrame) -> tuple[dict[int, Verdict], str]:
    """Return the verdicts by the index of their check, and the batch's page."""
    checks = dict(enumerate(plan.checks))
    time = time_column(plan.source.columns)
    raw = frame.drop(columns=time)
    if not len(frame):
        checks = {index: check for index, check in checks.items() if index == 0}  # GX divides by the number of rows
    elif set(raw) != set(plan.source.columns):
        checks = {index: check for index, check in checks.items() if index < 2}  # the others would miss their columns
    nulls = {str(name): int(count) for name, count in frame.isna().sum().items()}
    settled = {index: verdict for index, check in checks.items() if (verdict := _by_nulls(check, nulls, len(frame)))}
    verdicts = dict(settled)
    results = []
    for part, timely in ((raw, False), (frame[[time]], True)):
        chosen = {
            index: check
            for index, check in checks.items()
            if index not in settled and (check.columns == (time,)) == timely
        }
        if chosen:
            judged, result = engine.judge(plan.name, part, list(chosen.values()), mostly=round(1 - plan.max_share, 12))
            verdicts |= dict(zip(chosen, judged, strict=True))
            results.append(result)
    page = pages.page(plan.name, results, [verdict.check for verdict in settled.values()])
    return dict(sorted(verdicts.items())), page


def _by_nulls(check: Check, nulls: Mapping[str, int], rows: int) -> Verdict | None:
    """Return the verdict of a built-in null check if the null count settles it: GX needs 8 ms for each of them."""
    if check.where or check.name not in (NOT_NULL, SOME_VALUE):
        return None
    missing = nulls[check.columns[0]]
    if missing == 0 or (check.name == SOME_VALUE and missing < rows):
        return Verdict(check, True, f"{missing:,} of {rows:,} values are missing")
    return None


def _verdict_record(verdict: Verdict, index: int) -> VerdictRecord:
    return VerdictRecord(
        check=index,
        expectation=verdict.check.name,
        success=verdict.success,
        observed=verdict.observed,
        mostly=verdict.mostly,
        evaluated=verdict.evaluated,
        rows=tuple(sorted(verdict.rows)),
    )


def refusals_of(verdicts: Iterable[Verdict]) -> Iterator[Refusal]:
    """Yield a refusal for each row that an expectation marked, without its file and raw text."""
    for verdict in verdicts:
        check = verdict.check
        columns = ", ".join(check.columns)
        reason = check.name + (f": {check.expected}" if check.expected else "")
        for row, value in verdict.rows.items():
            yield Refusal(row, None, columns, frames.as_text(value), reason, None, check.name)


def _uncast(project: Path, plan: BatchPlan) -> list[Refusal]:
    """Return the rows that ingest could not cast, so that the quarantine is complete."""
    import pyarrow.parquet as pq

    batch = plan.batch
    if batch.uncast_path is None or batch.uncast_sha256 is None:
        return []
    path = FileRef(batch.uncast_path, batch.uncast_sha256, batch.uncast).resolve(project)
    return [
        Refusal(line["_row"], line["file"], line["column"], line["value"], line["reason"], line.get("row"), UNCAST)
        for line in pq.ParquetFile(path).read().to_pylist()
        if not any(first <= line["_row"] <= last for first, last in batch.taken)
    ]


def _store(context: Context, plan: BatchPlan, refusals: Sequence[Refusal]) -> QuarantineFile | None:
    """Write a batch's quarantine, or remove that of an earlier suite; returns its file."""
    path = context.path(plan.quarantine_path)
    if not refusals:
        path.unlink(missing_ok=True)
        return None
    quarantine.write(path, refusals)
    return QuarantineFile(path=plan.quarantine_path.as_posix(), sha256=artifacts.sha256(path))
