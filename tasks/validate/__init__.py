"""The stage `validate`: validates each new batch, quarantines bad rows, fails on a bad batch, accounts for all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from datetime import datetime

from refit.errors import RefitError, UserError, counted
from refit.files import artifacts
from refit.runtime.context import Context
from refit.schemas.releases import Releases
from refit.schemas.snapshot import Snapshot
from refit.schemas.validated import RowBalance, Validated, ValidatedBatch
from refit.schemas.validation_record import ValidationRecord, VerdictRecord
from refit.storage import quarantine
from refit.storage.quarantine import UNCAST, Refusal
from tasks.validate import data_docs
from tasks.validate.suites import BatchPlan, plans

ROUNDING = 1e-9  # 0.29 * 100 is less than 29


def run(context: Context) -> None:
    """Validate the snapshot's batches that were not yet validated under this suite, and write `data/validated.json`.

    Raises:
        UserError: a suite is wrong, or a batch fails; results and quarantine of all batches are still written.
        RefitError: an expectation could not be evaluated, or rows read and rows accounted for differ.
    """
    snapshot = Snapshot.read(context.path(artifacts.SNAPSHOT))
    judged, failures = _judged(context, snapshot)
    _write_index(context, snapshot.as_of, judged, failures)
    _validated(context, snapshot, judged, failures).write(context.path(artifacts.VALIDATED))


def validated(context: Context, snapshot: Snapshot) -> Validated:
    """Return the content of `data/validated.json` for a snapshot other than the pipeline's; validates new batches.

    Raises:
        UserError: a suite is wrong, or a batch fails.
        RefitError: an expectation could not be evaluated, or rows read and rows accounted for differ.
    """
    return _validated(context, snapshot, *_judged(context, snapshot))


def _judged(context: Context, snapshot: Snapshot) -> tuple[list[ValidatedBatch], list[str | None]]:
    """Return each batch's entry in `validated.json`, and the reason if it fails."""
    context.path(artifacts.QUARANTINE).mkdir(parents=True, exist_ok=True)  # DVC wants its outputs, empty or not
    everything = plans(context.params, snapshot.batches)
    records = {plan.name: record for plan in everything if (record := cached_result(context, plan))}
    new = [plan for plan in everything if plan.name not in records]
    if new:
        from tasks.validate import one_batch  # imports pandas and Great Expectations: 3 s

        records |= one_batch.validate(context, new)
    releases = quarantine.releases(context.project)
    judged = []
    failures = []
    bad = Counter[tuple[str, datetime | None]]()  # rows of a delivery
    for plan in everything:
        record = records[plan.name]
        released = releases.rows_of(plan.batch)
        _check_releases(context, plan, record, released)
        judged.append(accounted(plan, record, released, _notes(plan, record, releases)))
        delivery = (plan.batch.source, plan.batch.delivered)
        failures.append(failure(context, plan, record, released, bad[delivery] if plan.batch.delivered_rows else 0))
        bad[delivery] += _bad(plan, record, released)
    return judged, failures


def _format_casting_faults(refusals: Sequence[Refusal]) -> str:
    """Describe the most frequent reason why rows could not be cast, with an example."""
    uncast = [refusal for refusal in refusals if refusal.check == UNCAST]
    faults = Counter((refusal.column, refusal.reason) for refusal in uncast)
    (column, reason), rows = max(faults.items(), key=lambda fault: (fault[1], str(fault[0])))
    value = next(refusal.value for refusal in uncast if (refusal.column, refusal.reason) == (column, reason))
    beyond = reason == "is no integer" and str(value).strip().lstrip("+-").isdecimal()
    hint = ": an integer lies between -2^63 and 2^63-1; declare the column text" if beyond else ""
    return f"in {rows:,} of them `{column}` {reason}, such as {value!r}{hint}"


def _validated(
    context: Context, snapshot: Snapshot, judged: Sequence[ValidatedBatch], failures: Sequence[str | None]
) -> Validated:
    if failed := [line for line in failures if line]:
        others = f"{len(failed) - 1} more batch{'es fail' if failed[2:] else ' fails'}"
        more = f" ({others}, see {artifacts.DATA_DOCS}/index.html)" if failed[1:] else ""
        raise UserError(failed[0] + more)
    sources = context.params.ingest.sources
    read = {name for name, source in sources.items() if source.kind != "query"}  # of a query they are computed
    return Validated(
        as_of=snapshot.as_of,
        snapshot=snapshot.digest,
        rows=balance(
            [batch for batch in judged if batch.source in read],
            {name: rows for name, rows in snapshot.pending.items() if name in read},
        ),
        batches=tuple(judged),
    )


def _write_index(
    context: Context, as_of: datetime, judged: Sequence[ValidatedBatch], failures: Sequence[str | None]
) -> None:
    project = context.params.project
    moment = f"{as_of.astimezone(project.zone):%Y-%m-%d %H:%M} ({project.zone})"
    text = data_docs.index(project.name, moment, judged, failures)
    path = context.path(artifacts.DATA_DOCS / "index.html")
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with artifacts.atomic(path) as scratch:
            scratch.write_text(text, encoding="utf-8")


def cached_result(context: Context, plan: BatchPlan) -> ValidationRecord | None:
    """Return the cached result of this batch under this suite, if its quarantine and page still exist unchanged."""
    path = context.path(plan.record_path)
    if not path.is_file() or not context.path(plan.page_path).is_file():
        return None
    try:
        record = ValidationRecord.read(path)
    except RefitError:  # the file is damaged: validate again
        return None
    file = context.path(plan.quarantine_path)
    current = artifacts.sha256(file) if file.is_file() else None
    recorded = record.quarantine.sha256 if record.quarantine else None
    return record if (record.key, recorded) == (plan.key, current) else None


def _bad(plan: BatchPlan, record: ValidationRecord, released: Set[int]) -> int:
    """The number of rows that are quarantined, but for those whose time lies in the future: they wait."""
    return len(set(record.refused) - released) + plan.batch.uncast - record.waiting


def failure(
    context: Context, plan: BatchPlan, record: ValidationRecord, released: Set[int], others: int = 0
) -> str | None:
    """Return in one line why the whole batch fails, or None if it passes.

    A row-by-row expectation passes if enough of its bad rows were released by a person. A batch of differences is
    judged among the rows that it belongs to.

    Args:
        others: bad rows of earlier batches of the same delivery.
    """
    batch = plan.batch
    if record.uncast and not batch.rows and not record.waiting and not plan.among:
        return (
            f"{plan.name} fails: none of its {batch.rows_read:,} rows could be cast; "
            f"{_format_casting_faults(_refusals(context, plan))}; correct the source, or ingest.sources."
            f"{batch.source}.columns in params.yaml, and run again (they are in {plan.quarantine_path})"
        )
    for verdict in record.verdicts:
        if verdict.success:
            continue
        if verdict.mostly is not None:
            still_bad = len(set(verdict.rows) - released)
            if still_bad <= (1 - verdict.mostly) * max(verdict.evaluated, plan.among) + ROUNDING:
                continue
        return _format_failure(plan, verdict)
    bad = _bad(plan, record, released)
    read = plan.among or batch.rows_read - record.waiting
    if bad and bad + others > plan.max_share * read + ROUNDING:
        whole = (" of its delivery" if batch.delivered_rows else " of its period") if plan.among else ""
        share = f"{bad + others:,} of {read:,} rows{whole} ({(bad + others) / read:.1%})"
        again = f", or delete {artifacts.BATCHES / batch.source} to read it again" if plan.among else ""
        often = max(record.reasons.items(), key=lambda reason: (reason[1], reason[0]))
        casts = f": {_format_casting_faults(_refusals(context, plan))}" if often[0] == UNCAST else ""
        return (
            f"{plan.name} fails: {share} are quarantined, at most {plan.max_share:.1%} may be; most often for "
            f"{often[0]} ({counted(often[1], 'row')}, listed in {plan.quarantine_path}){casts}; correct the source, "
            "release rows that are right (refit quarantine release), or raise validate.max_quarantined_share in "
            f"params.yaml{again}"
        )
    return None


def _refusals(context: Context, plan: BatchPlan) -> list[Refusal]:
    return quarantine.read(context.path(plan.quarantine_path))


def _format_failure(plan: BatchPlan, verdict: VerdictRecord) -> str:
    check = plan.checks[verdict.check]
    allowed = "" if verdict.mostly is None else f", at most {1 - verdict.mostly:.1%} may be"
    columns = f" ({', '.join(check.columns)})" if check.columns else ""
    wanted = f"; expected {check.expected}" if check.expected else ""
    quarantine_hint = "; the bad rows are in " + plan.quarantine_path.as_posix() if verdict.rows else ""
    return (
        f"{plan.name} fails {check.name}{columns}: {verdict.observed}{allowed}{wanted}; "
        f"correct the source and ingest the batch again, or {check.advice}{quarantine_hint}"
    )


def _check_releases(context: Context, plan: BatchPlan, record: ValidationRecord, released: Set[int]) -> None:
    """Refuse releases, which may be written by hand, that would accept a row twice or a row that does not exist."""
    if not released or record.quarantine is None:
        return
    if barred := quarantine.inadmissible(_refusals(context, plan), released):
        row, reason = min(barred.items())
        raise UserError(f"{artifacts.RELEASED}: row {row} of {plan.name} cannot be released: {reason}")


def accounted(plan: BatchPlan, record: ValidationRecord, released: Set[int], notes: Sequence[str]) -> ValidatedBatch:
    """Return a batch's entry in `validated.json`.

    Raises:
        RefitError: the rows read are not the sum of the rows accepted and quarantined.
    """
    batch = plan.batch
    excluded = sorted(set(record.refused) - released)
    accepted = batch.rows - len(excluded)
    refused = len(excluded) + record.uncast
    if accepted < 0 or batch.rows_read != accepted + refused:
        raise RefitError(
            f"{plan.name}: {batch.rows_read:,} rows were read, but {accepted:,} accepted and {refused:,} quarantined "
            "are to be accounted for; a row was lost or counted twice, which is a fault of Refit"
        )
    return ValidatedBatch(
        **dict(batch),
        accepted=accepted,
        quarantined=refused,
        excluded=tuple(excluded),
        excluded_rows=record.quarantine.path if record.quarantine else None,
        checks=len(plan.checks),
        warnings=(*plan.warnings, *notes),
    )


def _notes(plan: BatchPlan, record: ValidationRecord, releases: Releases) -> list[str]:
    """Return notes for the user on the batch's releases, repeated rows and empty images."""
    batch = plan.batch
    back = len(set(record.refused) & releases.rows_of(batch))
    notes = (
        [f"{counted(back, 'quarantined row was', 'quarantined rows were')} released by a person (released.json)"]
        if back
        else []
    )
    if batch.repeats:
        notes.append(f"rows that equal another one, each counted once: {batch.repeats:,}")
    for column, number in sorted(record.constant_images.items()):
        what = "images have" if number > 1 else "image has"
        notes.append(f"{number:,} {what} one colour throughout ({column})")
    notes += [
        f"a release of {release.when} is for other content of this batch and has no effect"
        for release in releases.released
        if (release.source, release.batch) == (batch.source, batch.name) and release.sha256 != batch.sha256
    ]
    return notes


def balance(judged: Sequence[ValidatedBatch], pending: Mapping[str, int]) -> RowBalance:
    """Return the run's totals, where the rows read are the sum of the others.

    >>> balance([], {"sales": 5})
    RowBalance(rows_read=5, accepted=0, quarantined=0, pending=5)
    """
    waiting = sum(pending.values())
    totals = RowBalance(
        rows_read=sum(batch.rows_read for batch in judged) + waiting,
        accepted=sum(batch.accepted for batch in judged),
        quarantined=sum(batch.quarantined for batch in judged),
        pending=waiting,
    )
    if totals.rows_read != totals.accepted + totals.quarantined + totals.pending:
        raise RefitError(f"rows read, accepted, quarantined and pending do not add up: {totals}; a fault of Refit")
    return totals
