"""Commands that only read: stale stages, champion, ledger, lineage and quarantine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table

from flows.session import check, context_of, context_of_run, prepare
from flows.summary_display import format_cost, format_latency
from refit.config import STAGES
from refit.errors import counted
from refit.plain_text import number
from refit.runtime import dvc_runner, environments, run_file
from refit.runtime.terminal import Terminal, line, say
from refit.schemas.snapshot import stand_in_notice
from refit.schemas.training import short_candidate
from registry.approval import AWAIT, Wait, waits
from registry.ledger import NO_VERSION
from tasks.stages import unseen_by_dvc

NAMED_REASONS = 3  # of one kind, in `refit status`; --json has them all

if TYPE_CHECKING:
    from refit.models.run_content import Kpis
    from refit.operations.retention import DeletionPlan
    from refit.storage.quarantine import ListedRefusal
    from registry.ledger import Entry
    from tasks.register import ChampionSummary
    from tasks.register.lineage import Lineage, MadeVersion


def status(project: Path) -> dict[str, list[str]]:
    """Return the stages that `refit run` would run now, each with its reasons."""
    would_run = replace(context_of_run(project), may_promote=True)  # params first: their errors are clearer than DVC's
    check(project, run_file.read(project))
    if os.access(project, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        prepare(project)
    reasons = dvc_runner.stale(project)
    ran = dvc_runner.recorded(project)
    reasons = {stage: each if stage in ran else ["it has not run yet"] for stage, each in reasons.items()}
    for stage in STAGES:
        if stage not in reasons and (unseen := unseen_by_dvc(stage, would_run)):
            reasons[stage] = [unseen]
    earlier_is_stale = False
    for stage in STAGES:
        if earlier_is_stale and stage not in reasons:
            reasons[stage] = ["may follow from an earlier stage"]
        earlier_is_stale = earlier_is_stale or stage in reasons
    return reasons


def format_status(stale: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each stage: why it would run now, or that it is up to date."""
    return [f"{stage:<10} {format_reasons([*stale.get(stage, ())]) or 'up to date'}" for stage in STAGES]


def format_reasons(reasons: list[str]) -> str:
    """Join a stage's reasons on one line for people: those of one kind together, the first of them by name.

    >>> format_reasons(["input a.py: modified", "input b.py: modified", "output models: not in cache"])
    '2 inputs modified: a.py, b.py; output models: not in cache'
    >>> format_reasons([f"input {name}.py: modified" for name in "abcde"])
    '5 inputs modified: a.py, b.py, c.py and 2 more'
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for reason in reasons:
        what, _, state = reason.rpartition(": ")
        kind, _, name = what.partition(" ")
        alike.setdefault((kind, state) if kind in ("input", "output") else (reason, ""), []).append(name)
    texts = []
    for (kind, state), names in alike.items():
        more = f" and {len(names) - NAMED_REASONS} more" if len(names) > NAMED_REASONS else ""
        if not state:
            texts.append(kind)
        elif len(names) == 1:
            texts.append(f"{kind} {names[0]}: {state}")
        else:
            texts.append(f"{len(names)} {kind}s {state}: {', '.join(names[:NAMED_REASONS])}{more}")
    return "; ".join(texts)


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
    else:
        for warning in register.ledger_warnings(context_of(project)):
            say(environments.addressed(f"warning: {warning}"), stderr=True)
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
        if name not in ("batches", "parents", "children", "feature_models", "used_by") and value is not None:
            console.print(line((f"{name.replace('_', ' '):<13}", "bold"), f" {value}"))
    related = {"parent": lineage.parents, "child": lineage.children}
    related |= {"features by": lineage.feature_models, "used by": lineage.used_by}
    for name, relatives in related.items():
        for each in relatives:
            generation = f" (generation {each.generation})" if each.generation > 1 else ""
            console.print(line((f"{name:<13}", "bold"), f" {each}{generation}"))
    for batch in lineage.batches:
        files = ", ".join(batch.files)
        text = f" {batch.source} {batch.name}, {batch.rows:,} rows of {files}, sha256 {batch.sha256[:12]}"
        console.print(line((f"{'batch':<13}", "bold"), text))


def print_history(entries: list[Entry]) -> None:
    """Print the ledger's entries, the newest last."""
    console = Terminal()
    if not entries:
        console.print(
            environments.addressed("Nothing was promoted or refused yet; `refit run` trains and judges a model.")
        )
        return
    for entry in entries:
        versions = "no version" if entry.to_version == NO_VERSION else f"version {entry.to_version}"
        if entry.from_version not in (None, entry.to_version):
            versions += f" {'against' if entry.action == 'refuse' else 'for'} version {entry.from_version}"
        style = "yellow" if entry.action in ("refuse", "await") else "green"
        console.print(line((entry.at, "bold"), "  ", (f"{entry.action:<9}", style), f" {versions}"))
        candidate = entry.digests.get("candidate")
        named = f", candidate {short_candidate(candidate)}" if candidate else ""
        console.print(f"    by {entry.who}, trigger: {entry.trigger}{named}", style="dim")
        for reason in entry.reasons:
            console.print(Padding(f"• {reason}", (0, 0, 0, 4)))
        if entry.action == AWAIT:
            state = (
                environments.addressed(str(Wait(entry)))
                if entry in (each.line for each in waits(entries))
                else "it was answered"
            )
            console.print(Padding(f"• {state}", (0, 0, 0, 4)))


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
    total = f"{counted(count, 'thing')}, {format_size(plan.bytes)}"
    if deleted or not plan.items:
        console.print(f"Deleted: {total}." if plan.items else "There is nothing to delete.")
    else:
        console.print(f"{total} may go; {environments.command('gc --delete')} deletes them.")


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
        f"{name} {number(value)}" for name, value in metrics.items() if not name.endswith(("_lower", "_upper"))
    )
    trained_on = "not recorded: Refit did not register it"
    if champion.snapshot:
        trained_on = f"data before {champion.seen_until}, snapshot {champion.snapshot[:12]}, as of {champion.as_of}"
    since = f"{champion.since} ({champion.action}; trigger: {champion.trigger})" if champion.since else "not recorded"
    rows = {
        "champion": f"{champion.model} version {champion.version} ({champion.learner})",
        **({"data": stand_in_notice(champion.stand_in)} if champion.stand_in else {}),
        "since": since,
        "why": "; ".join(champion.why),
        "test metrics": score,
        **_format_costs(champion.kpis),
        "trained on": trained_on,
        **({"started from": champion.started_from} if champion.started_from else {}),
        "code": f"git commit {champion.git_commit or 'none: the project was not in git, or had no commit yet'}",
        "previous": champion.previous or "none",
        "anchor": f"version {champion.anchor}",
        "MLflow run": champion.run_id,
        **{f"waiting {each.version}": each.sentence for each in champion.waiting},
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
    console.print(f"Let rows back in: {environments.command('quarantine release')} SOURCE BATCH ROW... --why TEXT")
