"""Commands that only read: stale stages, champion, ledger, lineage, quarantine, and checks of the environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.padding import Padding
from rich.table import Table

from flows import retrain_dedup
from flows.services.service_state import read_record
from flows.session import check, context_of, prepare
from flows.summary import format_cost, format_latency
from refit.config import STAGES, Params
from refit.errors import RefitError, refused_by_the_system
from refit.files.artifacts import STATE
from refit.runtime import dvc_runner, lock, run_file
from refit.runtime.context import utc_now
from refit.runtime.stage_code import SOURCE_ROOT
from refit.runtime.terminal import Terminal, line, say
from tasks.stages import unseen_by_dvc

if TYPE_CHECKING:
    from refit.models.run_logging import Kpis
    from refit.operations.retention import DeletionPlan
    from refit.storage.quarantine import ListedRefusal
    from registry.ledger import Entry
    from tasks.register import ChampionSummary
    from tasks.register.lineage import Lineage, MadeVersion


@dataclass(frozen=True)
class Finding:
    """One result of `refit doctor`."""

    level: Literal["ok", "warning", "error"]
    what: str
    advice: str = ""


def status(project: Path) -> dict[str, list[str]]:
    """Return the stages that `refit run` would run now, each with its reasons."""
    would_run = replace(context_of(project), may_promote=True)  # params first: their errors are clearer than DVC's
    check(project, run_file.read(project))
    if os.access(project, os.W_OK):
        prepare(project)
    reasons = dvc_runner.stale(project)
    for stage in STAGES:
        if stage not in reasons and (unseen := unseen_by_dvc(stage, would_run)):
            reasons[stage] = [unseen]
    earlier_is_stale = False
    for stage in STAGES:
        if earlier_is_stale and stage not in reasons:
            reasons[stage] = ["may follow from an earlier stage"]
        earlier_is_stale = earlier_is_stale or stage in reasons
    return reasons


def champion_summary(project: Path) -> ChampionSummary:
    """Return what is known about the champion."""
    from tasks import register

    return register.champion_summary(context_of(project))


def history(project: Path) -> list[Entry]:
    """Return the ledger's entries of the project's model, oldest first."""
    from tasks import register

    return register.history(context_of(project))


def warn_of_broken_ledger(project: Path) -> str | None:
    """Warn on standard error if the ledger was changed; return what is wrong with it, or None."""
    from tasks import register

    path, chain = register.ledger_state(context_of(project))
    if chain.problem:
        say(f"warning: the ledger {path} is broken: {chain.problem}", stderr=True)
    return chain.problem


def explain_version(project: Path, version: str) -> list[str]:
    """Return sentences that explain why a version is, or is not, the champion."""
    from tasks.register import lineage

    return lineage.explain(context_of(project), version)


def lineage_of(project: Path, version: str) -> Lineage:
    """Return what a version was made from."""
    from tasks.register import lineage

    return lineage.lineage(context_of(project), version)


def made_from(project: Path, data: str) -> list[MadeVersion]:
    """Return which versions were made from the data with a digest."""
    from tasks.register import lineage

    return lineage.made_from(context_of(project), data)


def print_made_versions(versions: list[MadeVersion]) -> None:
    """Print the result of `refit lineage --data`."""
    for version in versions:
        Terminal().print(f"version {version.version} ({version.created}) from {', '.join(version.batches)}")


def print_lineage(lineage: Lineage) -> None:
    """Print the result of `refit lineage VERSION`."""
    console = Terminal()
    for name, value in lineage:
        if name != "batches" and value is not None:
            console.print(line((f"{name.replace('_', ' '):<13}", "bold"), f" {value}"))
    for batch in lineage.batches:
        files = ", ".join(batch.files)
        text = f" {batch.source} {batch.name}, {batch.rows:,} rows of {files}, sha256 {batch.sha256[:12]}"
        console.print(line((f"{'batch':<13}", "bold"), text))


def print_history(entries: list[Entry]) -> None:
    """Print the ledger's entries, the newest last."""
    console = Terminal()
    if not entries:
        console.print("Nothing was promoted or refused yet; `refit run` trains and judges a model.")
        return
    for entry in entries:
        versions = f"version {entry.to_version}"
        if entry.from_version not in (None, entry.to_version):
            versions += f" {'against' if entry.action == 'refuse' else 'for'} version {entry.from_version}"
        style = "yellow" if entry.action == "refuse" else "green"
        console.print(line((entry.at, "bold"), "  ", (f"{entry.action:<9}", style), f" {versions}"))
        console.print(f"    by {entry.who}, trigger: {entry.trigger}", style="dim")
        for reason in entry.reasons:
            console.print(Padding(f"• {reason}", (0, 0, 0, 4)))


def print_deletions(plan: DeletionPlan, *, deleted: bool) -> None:
    """Print what `refit gc` deleted, or may delete."""
    console = Terminal()
    kept_versions = ", ".join(f"{number} ({why})" for number, why in plan.stay.items())
    table = Table("kind", "what", "size", "why", box=None, pad_edge=False)
    for item in plan.items:
        table.add_row(item.kind, item.what, format_size(item.bytes), item.why)
    if plan.items:
        console.print(table)
    for note in plan.notes:
        console.print(note)
    if kept_versions:
        console.print(f"Versions that stay: {kept_versions}")
    count = len(plan.items)
    total = f"{count} thing{'' if count == 1 else 's'}, {format_size(plan.bytes)}"
    if deleted or not plan.items:
        console.print(f"Deleted: {total}." if plan.items else "There is nothing to delete.")
    else:
        console.print(f"{total} may go; refit gc --delete deletes them.")


def format_size(count: float) -> str:
    """Format a number of bytes.

    >>> format_size(999), format_size(12_345_678)
    ('999 B', '12.3 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:,.1f} {unit}"


def quarantined_rows(project: Path, *, source: str | None, batch: str | None) -> list[ListedRefusal]:
    """Return the refused rows, each with its reason."""
    from refit.storage import quarantine

    return quarantine.listing(context_of(project), source, batch)


def print_champion(champion: ChampionSummary) -> None:
    """Print the champion for `refit show`."""
    metrics = {name: value for name, value in (champion.metrics or {}).items() if isinstance(value, float)}
    score = " · ".join(
        f"{name} {value:.4f}" for name, value in metrics.items() if not name.endswith(("_lower", "_upper"))
    )
    trained_on = "not recorded: Refit did not register it"
    if champion.snapshot:
        trained_on = f"data before {champion.seen_until}, snapshot {champion.snapshot[:12]}, as of {champion.as_of}"
    since = f"{champion.since} ({champion.action}; trigger: {champion.trigger})" if champion.since else "not recorded"
    generated = {"data": f"GENERATED stand-in ({champion.stand_in}): no figure means anything"}
    rows = {
        "in charge": f"{champion.model} version {champion.version} ({champion.learner})",
        **(generated if champion.stand_in else {}),
        "since": since,
        "why": "; ".join(champion.why),
        "test metrics": score,
        **_format_costs(champion.kpis),
        "trained on": trained_on,
        "code": f"git commit {champion.git_commit or 'none: the project was not in git, or had no commit yet'}",
        "previous": champion.previous or "none",
        "anchor": f"version {champion.anchor}",
        "MLflow run": champion.run_id,
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    Terminal().print(table)


def _format_costs(kpis: Kpis) -> dict[str, str]:
    """Format the latency of predictions and the cost of training; empty if neither is recorded."""
    if kpis.cost_training is None or kpis.cost_per_1000 is None:
        return {}
    one = kpis.latency_ms_p50 or 0.0, kpis.latency_ms_p95 or 0.0
    many = kpis.latency_1000_ms_p50 or 0.0, kpis.latency_1000_ms_p95 or 0.0
    return {
        "cost": format_cost(kpis.cost_training, kpis.cost_per_1000, str(kpis.currency)),
        "predictions": format_latency(one, many),
    }


def print_quarantined_rows(rows: list[ListedRefusal]) -> None:
    """Print the refused rows for `refit quarantine list`."""
    console = Terminal()
    if not rows:
        console.print("The quarantine is empty: no row was refused.")
        return
    columns = ("source", "batch", "row", "column", "value", "reason")
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows[:200]:
        table.add_row(*(str(getattr(row, column) or "") for column in columns))
    console.print(table)
    if len(rows) > 200:
        console.print(f"... and {len(rows) - 200:,} more; --json gives them all")
    console.print("Let rows back in: refit quarantine release SOURCE BATCH ROW... --why TEXT")


def print_findings(findings: list[Finding]) -> None:
    """Print the findings of `refit doctor`."""
    console = Terminal()
    style = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        advice = f" → {finding.advice}" if finding.advice else ""
        console.print(line((f"{finding.level:<7}", style[finding.level]), f" {finding.what}{advice}"))


def doctor(project: Path) -> list[Finding]:
    """Check the environment, the project and its services; return all findings."""
    parts = (_python(), _libraries(), _shadowing(), _project(project), _services(project))
    return [finding for part in parts for finding in _until_unreadable(part)]


def _until_unreadable(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings up to the first file that the system does not let us read."""
    try:
        yield from findings
    except OSError as error:
        yield Finding("error", refused_by_the_system(error) or str(error))


def _python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    fits = sys.version_info[:2] == (3, 11)
    yield Finding(
        "ok" if fits else "error", f"Python {version}", "" if fits else "Refit runs on Python 3.11: make setup"
    )
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield Finding(
            "warning", "PYTHONDONTWRITEBYTECODE is set", "unset it: imports are 2-4 times slower without bytecode"
        )
    git = shutil.which("git")
    yield Finding(
        "ok" if git else "warning", f"git {'at ' + git if git else 'is missing'}", "" if git else "install git"
    )


def _libraries() -> Iterator[Finding]:
    constraints = SOURCE_ROOT / "constraints.txt"
    pins = (
        dict(
            line.split("==", 1)
            for line in constraints.read_text().splitlines()
            if "==" in line and not line.startswith("#")
        )
        if constraints.is_file()
        else {}
    )
    different = []
    for name in sorted(pins):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if installed.split("+")[0] != pins[name]:
            different.append(f"{name} {installed} (pinned {pins[name]})")
    core = ("prefect", "mlflow", "dvc", "great-expectations", "scikit-learn", "torch", "duckdb")
    missing = [
        name for name in core if util.find_spec(name.replace("-", "_").replace("scikit_learn", "sklearn")) is None
    ]
    if missing:
        yield Finding("error", f"missing: {', '.join(missing)}", "make setup")
    if different:
        yield Finding("warning", f"not as pinned: {', '.join(different)}", "make setup")
    if not missing and not different:
        yield Finding("ok", "libraries as pinned: " + ", ".join(f"{name} {metadata.version(name)}" for name in core))


def _shadowing() -> Iterator[Finding]:
    for package in ("flows", "refit", "tasks", "feature_store", "registry"):
        spec = util.find_spec(package)
        where = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if where != SOURCE_ROOT / package:
            yield Finding(
                "error",
                f"package {package!r} comes from {where}",
                f"expected {SOURCE_ROOT / package}: run in Refit's own environment, without PYTHONPATH",
            )
            return
    yield Finding("ok", f"no package shadows ours in {SOURCE_ROOT}")


def _project(project: Path) -> Iterator[Finding]:
    if not (project / "params.yaml").is_file():
        yield Finding("warning", f"{project} is no project", "--project DIR names one, `refit init DIR` makes one")
        return
    try:
        params = run_file.params_of(project)
    except RefitError as error:
        yield Finding("error", error.sentence)
        return
    yield Finding("ok", f"params.yaml: project {params.project.name}, {len(params.train.learners)} learners")
    owner = lock.holder(project)
    if owner is None:
        yield Finding("ok", "no run holds the project")
    elif lock.is_held(project):
        yield Finding("warning", f"held by {owner}", "wait for it, or end that process; the lock frees itself")
    free = shutil.disk_usage(project).free
    yield Finding("ok" if free > 2e9 else "warning", f"{free / 1e9:.1f} GB of disk free")
    if not os.access(project, os.W_OK):
        yield Finding("error", f"{project} is read-only for this user", "give write access")
        return
    if not (project / STATE).is_dir():
        yield Finding("ok", "nothing has run here yet", "refit run")
        return
    yield from _answers(project, params)
    yield from _ledger(project)
    from refit.models.incumbent import check_champion

    try:
        version = check_champion(context_of(project))
        description = f"version {version}, its stored files are those registered" if version else "nobody yet"
        yield Finding("ok", f"in charge of {params.project.name}: {description}")
    except RefitError as error:
        yield Finding("error", f"the champion cannot be trusted: {error.sentence}")
        return
    try:
        if version and (champion := champion_summary(project)).since is None:
            yield Finding("warning", "; ".join(champion.why), "restore the file if there is a copy of it")
    except RefitError as error:
        yield Finding("error", error.sentence)


def _ledger(project: Path) -> Iterator[Finding]:
    from tasks import register

    try:
        path, chain = register.ledger_state(context_of(project))
    except RefitError as error:
        yield Finding("error", str(error))
        return
    if chain.problem:
        advice = (
            'restore the file from a copy, or `refit repair --accept-ledger --why "..."` goes on with what is there'
        )
        yield Finding("error", f"the ledger {path} is broken: {chain.problem}", advice)
    elif chain.unchained:
        lines = f"{chain.unchained} lines of an older Refit, which no digest covers yet"
        yield Finding("warning", f"the ledger has {lines}", "the next `refit run` takes them over")
    elif chain.lines:
        yield Finding("ok", f"the ledger is as it was written: {chain.lines} lines, chained by digests")


def _answers(project: Path, params: Params) -> Iterator[Finding]:
    """Check that the record of answered drift lets later drift be answered."""
    try:
        if reason := retrain_dedup.invalid_reason(project, params, utc_now()):
            yield Finding("warning", f"{reason}; no drift would be answered any more", "`refit run` forgets it")
    except RefitError as error:
        yield Finding("error", str(error))


def _services(project: Path) -> Iterator[Finding]:
    """Check that each process started by `refit up` is alive and answers."""
    for name, process in read_record(project).items():
        where = f"{name} (pid {process.pid}" + (f", port {process.port})" if process.port else ")")
        if process.answers():
            yield Finding("ok", f"up: {where}")
        else:
            state = "does not answer" if process.process() else "has ended"
            yield Finding("warning", f"{where} {state}; its log is {process.log}", "refit up")
