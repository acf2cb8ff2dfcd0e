"""Registers the candidate; promotes it if the gate says so and the stored model is the one that was evaluated."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refit.errors import UserError
from refit.files.artifacts import DECISION, RECEIPT
from refit.models import incumbent, run_logging
from refit.runtime import registry_store, run_file
from refit.runtime.context import Context
from refit.schemas.artifact import utc_moment
from refit.schemas.gate_decision import Decision
from refit.schemas.receipt import Receipt
from registry import approval, logged_models, versions
from registry import champion as champions
from registry.chain import Chain
from registry.champion import CHALLENGER, CHAMPION
from registry.ledger import Entry, Ledger
from registry.locking import PATIENT_SECONDS, registry_lock
from registry.store import RegistryError, Store
from registry.versions import Version
from tasks.register import approving
from tasks.register.champion_summary import ChampionSummary, champion_summary
from tasks.register.lineage import gone
from tasks.register.packaging import Candidate, build
from tasks.register.promoting import (
    Prospects,
    carry_out,
    check_again,
    decision_key,
    previous_champion,
    promote_by_hand,
    prospects,
    roll_back,
    rollback_message,
)
from tasks.register.restoring import restore

__all__ = [
    "ChampionSummary",
    "Prospects",
    "approve",
    "champion_summary",
    "history",
    "ledger_state",
    "ledger_warnings",
    "lift_approval",
    "needs_rerun",
    "promote",
    "prospects",
    "reject",
    "repair",
    "rollback",
    "run",
]


def run(context: Context) -> None:
    """Register the candidate once, move the aliases that this run may move, and write the receipt.

    Raises:
        RefitError: the files belong to different runs, the registry fails, or the stored model does not pass its check.
    """
    candidate = Candidate.read(context)
    with registry_store.opened(context) as store, registry_lock(store, wait_seconds=PATIENT_SECONDS):
        if context.may_promote:
            incumbent.finish(context, store)
            approving.refuse_late(context, store)
        context.progress("logging the run")
        run_id = run_logging.log_evaluation(context, required=True)
        assert run_id is not None
        version = _ensure_version(context, store, candidate, run_id)
        versions.set_alias(store, version.model, CHALLENGER, version.version)
        outcome = carry_out(context, store, version, candidate.decision)
        champion_number = versions.registered(store, version.model).aliases.get(CHAMPION)
    Receipt(
        model=version.model,
        version=version.version,
        alias="champion" if champion_number == version.version else "challenger",
        run_id=version.run_id,
        candidate=candidate.training.inputs,
        model_digest=candidate.training.model_digest,
        decision=candidate.decision,
        outcome=outcome,
        registered_at=utc_moment(version.created),
    ).write(context.path(RECEIPT))


def needs_rerun(context: Context) -> str | None:
    """Return why `register` must run with unchanged inputs: registry and receipt differ. None if they agree.

    Imports nothing heavy where the registry is an SQLite file.
    """
    if not context.path(RECEIPT).is_file():
        return f"{RECEIPT} is missing"
    receipt, decision = Receipt.read(context.path(RECEIPT)), Decision.read(context.path(DECISION))
    model, number = receipt.model, receipt.version
    with registry_store.opened(context) as store:
        if versions.version(store, model, number) is None:
            return f"version {number} of {model} is no longer in the registry"
        aliases = versions.registered(store, model).aliases
        if CHALLENGER not in aliases:
            return f"{model} has lost its alias {CHALLENGER}"
        is_champion = aliases.get(CHAMPION) == number
        if is_champion != (receipt.alias == CHAMPION):
            return f"version {number} of {model} is {'the champion now' if is_champion else 'no longer the champion'}"
        if is_champion or not context.may_promote:
            return None
        ledger = Ledger.of(store)
        if ledger.pending(model):
            return "a promotion was cut off"
        if (line := ledger.find(decision_key(model, number, decision))) is None:
            return f"the decision on version {number} of {model} was not carried out yet"
        if receipt.outcome.action == approval.AWAIT:
            if approval.outcome_of(ledger.entries(model), line).action != approval.AWAIT:
                return f"the approval of version {number} of {model} was answered"
            if approval.Wait(line).until <= registry_store.now(context, store):
                return f"nobody approved version {number} of {model} in time"
    return None


@contextmanager
def _settled(context: Context) -> Iterator[Store]:
    """The project's registry for the changes of a block: locked, and with no promotion left half-done."""
    with registry_store.opened(context) as store, registry_lock(store):
        incumbent.finish(context, store)
        yield store


def promote(context: Context, version: str, why: str | None = None) -> str:
    """Promote a version by hand, if the gate's checks allow it or a reason `why` is given. Returns a message.

    In both cases the stored model must pass its check, and the ledger records the promotion.

    Raises:
        UserError: there is no such version, or the checks refuse it and no reason is given.
        RefitError: the stored model does not pass its check.
    """
    model = context.params.project.name
    with _settled(context) as store:
        if (registered := versions.version(store, model, version)) is None:
            raise UserError(f"{gone(store, model, version)}; `refit history` names those that were judged")
        approving.refuse_late(context, store)
        return promote_by_hand(context, store, registered, why)


def approve(context: Context, version: str, why: str) -> str:
    """Promote a version that waits for a person's approval. Returns a message.

    Raises:
        UserError: there is no such version, it does not wait (any more), or the champion is another one by now.
        RefitError: the stored model does not pass its check.
    """
    model = context.params.project.name
    with _settled(context) as store:
        if (registered := versions.version(store, model, version)) is None:
            raise UserError(f"{gone(store, model, version)}; `refit show` names those that wait")
        return approving.approve(context, store, registered, why)


def reject(context: Context, version: str, why: str) -> str:
    """Refuse a version that waits for a person's approval. Returns a message.

    Raises:
        UserError: it does not wait, or not any more.
    """
    with _settled(context) as store:
        return approving.reject(context, store, version, why)


def lift_approval(context: Context, why: str) -> str:
    """Let promotions of the model need no approval any more. Returns a message.

    Raises:
        UserError: the params require it, or the ledger does not.
    """
    with _settled(context) as store:
        return approving.lift(context, store, why)


def rollback(context: Context, to: str | None = None, why: str | None = None) -> str:
    """Make the previous champion, or version `to`, the champion again. Returns a message.

    The stored model must load and give its golden predictions; then the aliases move, and the ledger records it. The
    replaced version becomes champion again only if a person names it, to `promote` or here. So a rollback that was cut
    off is only finished by the next one, and one that was made already is refused.

    Raises:
        UserError: there is no such version, no previous one, or the previous one was itself rolled back.
        RefitError: the stored model does not pass its check; the champion is unchanged.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store, registry_lock(store):
        finished = incumbent.finish(context, store)
        if finished and finished.action == "rollback" and to in (None, finished.to_version):
            return rollback_message(finished)
        number = previous_champion(store, model) if to is None else to
        if (target := versions.version(store, model, number)) is None:
            raise UserError(f"{gone(store, model, number)}; `refit history` names those that were champions")
        return roll_back(context, store, target, why)


def repair(context: Context, *, accept_ledger: str | None = None) -> str:
    """Restore the champion that the ledger names, if the registry has lost it. Returns a message.

    A lost alias is set again; a deleted version is registered again from its local copy.

    Args:
        accept_ledger: the reason for accepting a ledger that was changed outside of Refit.

    Raises:
        UserError: its version is gone, and too little of it is stored.
        RefitError: its stored model does not pass its check.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store, registry_lock(store):
        if accept_ledger is not None:
            return _accept_ledger(context, store, accept_ledger)
        champions.require_own_ledger(store, model)
        incumbent.finish(context, store)
        if (line := champions.move_without_alias(store, model)) is None:
            return f"{model}: the registry has the champion that it should have; nothing to repair"
        if (registered := versions.version(store, model, line.to_version)) is None:
            return restore(context, store, line)
        check_again(context, store, registered)
        champions.put_back(store, line)
        return f"{model} version {registered.version} has its alias {CHAMPION} back, as the ledger says since {line.at}"


def _accept_ledger(context: Context, store: Store, why: str) -> str:
    """Accept a broken ledger as it is. Returns a message."""
    state = champions.examine_ledger(store, context.params.project.name)
    try:
        Ledger.of(store).pending(context.params.project.name)
        problem = state.problem or champions.other_ledger(store, context.params.project.name)
    except RegistryError as error:
        problem = str(error)
    if problem is None:
        raise UserError(f"the ledger {Ledger.of(store).location} is whole: there is nothing to accept")
    incumbent.accept_ledger(context, store, f"{why}; what was wrong: {problem}")
    return f"the ledger goes on with its {state.lines} lines as they stand; a line says so, and why"


def ledger_state(context: Context) -> tuple[str, Chain]:
    """Return the ledger's location, and whether it is unchanged since it was written."""
    with registry_store.opened(context) as store:
        return Ledger.of(store).location, champions.examine_ledger(store, context.params.project.name)


def ledger_warnings(context: Context) -> list[str]:
    """Return what people should know who read the ledger: it is not the model's, or another alias was set."""
    with registry_store.opened(context) as store:
        return champions.warnings(store, context.params.project.name)


def history(context: Context) -> list[Entry]:
    """Return every promotion, refusal, overruling and rollback of the project's model, oldest first."""
    with registry_store.opened(context) as store:
        return Ledger.of(store).entries(context.params.project.name)


def _ensure_version(context: Context, store: Store, candidate: Candidate, run_id: str) -> Version:
    """Return the candidate's version, looked up by name and digest; create it if there is none."""
    model = context.params.project.name
    version = versions.find(store, model, candidate.identity)
    if version is None:
        context.progress("storing the model")
        with tempfile.TemporaryDirectory() as scratch:
            tags = build(context, candidate, Path(scratch) / "model", run_id=run_id)
            newest = champions.verified_ledger(store, model).newest_number(model)
            return versions.create(store, model, run_id=run_id, folder=Path(scratch) / "model", tags=tags, above=newest)
    logged_models.link(store, run_id, model, version.version)  # a call that was killed may not have come so far
    if version.tags.get(incumbent.RECIPE) != (recipe := run_file.recipe_digest(context.project, context.params)):
        versions.set_tags(store, version, {incumbent.RECIPE: recipe})  # other code or params made the same model
    if versions.registered(store, model).aliases.get(CHAMPION) != version.version:
        versions.set_tags(store, version, candidate.judgement)
        version = versions.version(store, model, version.version)
    assert version is not None
    return version
