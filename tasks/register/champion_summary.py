"""Describes the champion: since when and why it is champion, and what the registry stores about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from refit.errors import UserError
from refit.models import incumbent, run_logging
from refit.models.run_content import Kpis
from refit.runtime import environments, registry_store
from refit.runtime.context import Context
from refit.schemas.artifact import Part, UtcTime, omitted
from refit.schemas.gate_decision import Decision
from registry import approval, versions
from registry import champion as champions
from registry.ledger import Entry, Ledger

__all__ = ["ChampionSummary", "champion_summary"]


class Waiting(Part):
    """A version that the gate would promote, and that waits for a person's approval."""

    version: str
    until: UtcTime
    against: str | None  # the champion that it was judged against
    sentence: str


class ChampionSummary(Part):
    """The champion; None for what the registry does not store about it, as Refit did not register it."""

    model: str
    version: str
    aliases: tuple[str, ...]
    learner: str | None
    metrics: Mapping[str, JsonValue] | None
    snapshot: str | None
    as_of: str | None
    seen_until: str | None
    started_from: str | None = omitted(None)  # the model whose weights its training started from
    stand_in: str | None
    git_commit: str | None
    decision: Decision | None
    run_id: str | None
    kpis: Kpis
    since: str | None
    why: tuple[str, ...]
    action: str | None
    trigger: str | None
    previous: str | None
    anchor: str | None
    waiting: tuple[Waiting, ...] = omitted(())


def champion_summary(context: Context) -> ChampionSummary:
    """Describe the champion.

    Raises:
        RefitError: there is no champion, or the registry has lost the one that the ledger names.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        champion = champions.current_champion(store, model)
        entries = Ledger.of(store).entries(model)
        waits = approval.waits(entries)
        if champion is None:
            next_step = "; ".join(map(str, waits)) or _next_step(entries)
            raise UserError(f"no version of {model} is champion yet; {next_step}")
        registered, tags = versions.registered(store, model), champion.tags
        ledger = Ledger.of(store)
        line = ledger.last_move(model)
        promotion = line if line and line.to_version == champion.version else None
        decided = "refit.decision" in tags
        return ChampionSummary(
            model=model,
            version=champion.version,
            aliases=tuple(sorted(alias for alias, number in registered.aliases.items() if number == champion.version)),
            learner=tags.get("refit.learner"),
            metrics=versions.read_tag(champion, "refit.metrics"),
            snapshot=tags.get("refit.snapshot"),
            as_of=tags.get("refit.as_of"),
            seen_until=tags.get("refit.seen_until"),
            started_from=tags.get(incumbent.PARENT),
            stand_in=tags.get(incumbent.STAND_IN),
            git_commit=tags.get("refit.git_commit"),
            decision=incumbent.from_tag(champion, "refit.decision", Decision) if decided else None,
            run_id=champion.run_id,
            kpis=run_logging.kpis(store, champion.run_id),
            since=promotion.at if promotion else None,
            why=tuple(promotion.reasons) if promotion else (_missing_promotion(line, ledger.location),),
            action=promotion.action if promotion else None,
            trigger=promotion.trigger if promotion else None,
            previous=registered.aliases.get(champions.PREVIOUS),
            anchor=registered.tags.get(versions.ANCHOR),
            waiting=tuple(
                Waiting(
                    version=each.version,
                    until=each.until,
                    against=each.line.from_version,
                    sentence=environments.addressed(str(each)),
                )
                for each in waits
            ),
        )


def _next_step(entries: Sequence[Entry]) -> str:
    """Say how there will be a champion, and first which version was refused."""
    refused = next((line.to_version for line in reversed(entries) if line.action == "refuse"), None)
    if refused is None:
        return "`refit run` trains and judges one"
    return f"version {refused} was refused, `refit explain {refused}` says why; `refit run` trains and judges another"


def _missing_promotion(line: Entry | None, ledger: str) -> str:
    """Explain why the ledger has no promotion of the champion."""
    if line is None:
        return f"the ledger {ledger} has no promotion: it was lost or moved away, or the alias was set by hand"
    return f"the alias was set outside of Refit: by the ledger {ledger}, version {line.to_version} is champion"
