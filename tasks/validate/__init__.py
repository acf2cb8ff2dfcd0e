"""The stage `validate`: validates each new batch, quarantines bad rows, fails on a bad batch, accounts for all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.runtime.context import Context
from refit.storage import quarantine
from refit.storage.quarantine import UNCAST, Release
from tasks.validate import data_docs
from tasks.validate.suites import Plan, plans

Record = dict[str, Any]
ROUNDING = 1e-9  # 0.29 * 100 is less than 29


def run(context: Context) -> None:
    """Validate the snapshot's batches that were not yet validated under this suite, and write `data/validated.json`.

    Raises:
        UserError: a suite is wrong, or a batch fails; results and quarantine of all batches are still written.
        RefitError: an expectation could not be evaluated, or rows read and rows accounted for differ.
    """
    snapshot = artifacts.read_snapshot(context.project)
    judged, failures = _judged(context, snapshot)
    _write_index(context, judged, failures)
    artifacts.write_json(context.path(artifacts.VALIDATED), _validated(snapshot, judged, failures))


def validated(context: Context, snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `data/validated.json` for a snapshot other than the pipeline's; validates new batches.

    Raises:
        UserError: a suite is wrong, or a batch fails.
        RefitError: an expectation could not be evaluated, or rows read and rows accounted for differ.
    """
    return _validated(snapshot, *_judged(context, snapshot))


def _judged(context: Context, snapshot: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str | None]]:
    """Return each batch's entry in `validated.json`, and the reason if it fails."""
    context.path(artifacts.QUARANTINE).mkdir(parents=True, exist_ok=True)  # DVC wants its outputs, empty or not
    everything = plans(context.params, snapshot["batches"])
    records = {plan.name: record for plan in everything if (record := cached_result(context, plan))}
    new = [plan for plan in everything if plan.name not in records]
    if new:
        from tasks.validate import one_batch  # imports pandas and Great Expectations: 3 s

        records |= one_batch.validate(context, new)
    releases = quarantine.releases(context.project)
    judged = []
    failures = []
    for plan in everything:
        record = records[plan.name]
        released = quarantine.released_rows(releases, plan.entry)
        _check_releases(context, plan, record, released)
        judged.append(accounted(plan, record, released, _notes(plan, record, releases)))
        failures.append(failure(context, plan, record, released))
    return judged, failures


def _format_casting_faults(context: Context, plan: Plan, record: Record) -> str:
    """Describe the most frequent reason why rows could not be cast, with an example."""
    refusals = [each for each in quarantine.read(context.path(record["quarantine"]["path"])) if each.check == UNCAST]
    faults = Counter((refusal.column, refusal.reason) for refusal in refusals)
    (column, reason), rows = max(faults.items(), key=lambda fault: (fault[1], str(fault[0])))
    value = next(refusal.value for refusal in refusals if (refusal.column, refusal.reason) == (column, reason))
    beyond = reason == "is no integer" and str(value).strip().lstrip("+-").isdecimal()
    hint = ": an integer lies between -2^63 and 2^63-1; declare the column text" if beyond else ""
    return f"in {rows:,} of them `{column}` {reason}, such as {value!r}{hint}"


def _validated(
    snapshot: Mapping[str, Any], judged: Sequence[Mapping[str, Any]], failures: Sequence[str | None]
) -> dict[str, Any]:
    if failed := [line for line in failures if line]:
        others = f"{len(failed) - 1} more batch{'es fail' if failed[2:] else ' fails'}"
        more = f" ({others}, see {artifacts.DATA_DOCS}/index.html)" if failed[1:] else ""
        raise UserError(failed[0] + more)
    totals = balance(judged, snapshot["pending"])
    return {"as_of": snapshot["as_of"], "snapshot": snapshot["digest"], "rows": totals, "batches": list(judged)}


def _write_index(context: Context, judged: Sequence[Mapping[str, Any]], failures: Sequence[str | None]) -> None:
    lines = [{**batch, "failure": line} for batch, line in zip(judged, failures, strict=True)]
    text = data_docs.index(lines)
    path = context.path(artifacts.DATA_DOCS / "index.html")
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with artifacts.atomic(path) as scratch:
            scratch.write_text(text, encoding="utf-8")


def cached_result(context: Context, plan: Plan) -> Record | None:
    """Return the cached result of this batch under this suite, if its quarantine and page still exist unchanged."""
    path = context.path(plan.record_path)
    if not path.is_file() or not context.path(plan.page_path).is_file():
        return None
    try:
        record: Record = artifacts.read_json(path)
    except RefitError:  # the file is damaged: validate again
        return None
    if record.get("key") != plan.key:
        return None
    refused, file = record["quarantine"], context.path(plan.quarantine_path)
    current = artifacts.sha256(file) if file.is_file() else None
    return record if current == (refused and refused["sha256"]) else None


def failure(context: Context, plan: Plan, record: Record, released: set[int]) -> str | None:
    """Return in one line why the whole batch fails, or None if it passes.

    A row-by-row expectation passes if enough of its bad rows were released by a person. Rows whose time lies in the
    future are not bad: they wait.
    """
    if record["uncast"] and not plan.entry["rows"] and not record.get("waiting", 0):
        return (
            f"{plan.name} fails: none of its {plan.entry['read']:,} rows could be cast; "
            f"{_format_casting_faults(context, plan, record)}; correct the source, or ingest.sources."
            f"{plan.entry['source']}.columns in params.yaml, and run again (they are in {record['quarantine']['path']})"
        )
    for verdict in record["verdicts"]:
        if verdict["success"]:
            continue
        if verdict["mostly"] is not None:
            still_bad = len(set(verdict["rows"]) - released)
            if still_bad <= (1 - verdict["mostly"]) * verdict["evaluated"] + ROUNDING:
                continue
        return _format_failure(plan, verdict)
    waiting = record.get("waiting", 0)
    bad, read = len(set(record["refused"]) - released) + plan.entry["uncast"] - waiting, plan.entry["read"] - waiting
    if bad > plan.max_share * read + ROUNDING:
        share = f"{bad:,} of {read:,} rows ({bad / read:.1%})"
        often = max(record["reasons"].items(), key=lambda reason: (reason[1], reason[0]))
        casts = f": {_format_casting_faults(context, plan, record)}" if often[0] == UNCAST else ""
        return (
            f"{plan.name} fails: {share} are quarantined, at most {plan.max_share:.1%} may be; most often for "
            f"{often[0]} ({often[1]:,} rows, listed in {record['quarantine']['path']}){casts}; correct the source, "
            "release rows that are right (refit quarantine release), or raise validate.max_quarantined_share in "
            "params.yaml"
        )
    return None


def _format_failure(plan: Plan, verdict: Mapping[str, Any]) -> str:
    check = plan.checks[verdict["check"]]
    allowed = "" if verdict["mostly"] is None else f", at most {1 - verdict['mostly']:.1%} may be"
    columns = f" ({', '.join(check.columns)})" if check.columns else ""
    wanted = f"; expected {check.expected}" if check.expected else ""
    quarantine_hint = "; the bad rows are in " + plan.quarantine_path.as_posix() if verdict["rows"] else ""
    return (
        f"{plan.name} fails {check.name}{columns}: {verdict['found']}{allowed}{wanted}; "
        f"correct the source and ingest the batch again, or {check.advice}{quarantine_hint}"
    )


def _check_releases(context: Context, plan: Plan, record: Record, released: set[int]) -> None:
    """Refuse releases, which may be written by hand, that would accept a row twice or a row that does not exist."""
    if not released or record["quarantine"] is None:
        return
    refusals = quarantine.read(context.path(record["quarantine"]["path"]))
    if barred := quarantine.inadmissible(refusals, released):
        row, reason = min(barred.items())
        raise UserError(f"{artifacts.RELEASED}: row {row} of {plan.name} cannot be released: {reason}")


def accounted(plan: Plan, record: Record, released: set[int], notes: Sequence[str]) -> dict[str, Any]:
    """Return a batch's entry in `validated.json`.

    Raises:
        RefitError: the rows read are not the sum of the rows accepted and quarantined.
    """
    entry = plan.entry
    excluded = sorted(set(record["refused"]) - released)
    accepted = entry["rows"] - len(excluded)
    refused = len(excluded) + record["uncast"]
    if accepted < 0 or entry["read"] != accepted + refused:
        raise RefitError(
            f"{plan.name}: {entry['read']:,} rows were read, but {accepted:,} accepted and {refused:,} quarantined "
            "are to be accounted for; a row was lost or counted twice, which is a fault of Refit"
        )
    return {
        **entry,
        "accepted": accepted,
        "quarantined": refused,
        "excluded": excluded,
        "excluded_rows": record["quarantine"]["path"] if record["quarantine"] else None,
        "checks": len(plan.checks),
        "warnings": [*plan.warnings, *notes],
    }


def _notes(plan: Plan, record: Record, releases: Sequence[Release]) -> list[str]:
    """Return notes for the user on the batch's releases and repeated rows."""
    back = len(set(record["refused"]) & quarantine.released_rows(releases, plan.entry))
    notes = (
        [f"{back} quarantined row{'s were' if back > 1 else ' was'} released by a person (released.json)"]
        if back
        else []
    )
    if repeated := plan.entry.get("repeats", 0):
        notes.append(f"rows that equal another one, each counted once: {repeated:,}")
    notes += [
        f"a release of {release.when} is for other content of this batch and has no effect"
        for release in releases
        if (release.source, release.batch) == (plan.entry["source"], plan.entry["name"])
        and release.sha256 != plan.entry["sha256"]
    ]
    return notes


def balance(judged: Sequence[Mapping[str, Any]], pending: Mapping[str, int]) -> dict[str, int]:
    """Return the run's totals, where `read` is the sum of the others.

    >>> balance([{"read": 10, "accepted": 9, "quarantined": 1}], {"sales": 5})
    {'read': 15, 'accepted': 9, 'quarantined': 1, 'pending': 5}
    """

    def total(what: str, entries: Iterable[Mapping[str, Any]]) -> int:
        return sum(int(entry[what]) for entry in entries)

    waiting = sum(pending.values())
    totals = {
        "read": total("read", judged) + waiting,
        "accepted": total("accepted", judged),
        "quarantined": total("quarantined", judged),
        "pending": waiting,
    }
    if totals["read"] != totals["accepted"] + totals["quarantined"] + totals["pending"]:
        raise RefitError(f"rows read, accepted, quarantined and pending do not add up: {totals}; a fault of Refit")
    return totals
