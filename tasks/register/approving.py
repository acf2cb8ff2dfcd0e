"""A person's answer to a version that the gate would promote, where `register.approval` requires one."""

from __future__ import annotations

from dataclasses import replace

from refit.errors import UserError
from refit.models.incumbent import record_by_person, require_ledgers_champion
from refit.runtime import registry_store
from refit.runtime.context import Context, person
from refit.schemas.artifact import utc_text
from registry import approval
from registry import champion as champions
from registry.approval import Wait
from registry.ledger import Ledger
from registry.store import Store
from registry.versions import Version
from tasks.register.promoting import anchor_after, decision_on, entry_of, objections_to, refusal_of, verify


def approve(context: Context, store: Store, version: Version, why: str) -> str:
    """Promote a version that waits for approval. Returns a message.

    The champion must still be the one that it was judged against, and the stored model must pass its check again.

    Raises:
        UserError: it does not wait, waited too long, was judged again, or was compared with another champion.
        RefitError: the stored model does not pass its check; the champion is unchanged.
    """
    model, number = version.model, version.version
    wait = _open_wait(context, store, number)
    champion = champions.current_champion(store, model)
    champions.claim(store, model)
    require_ledgers_champion(context, store)
    decision = decision_on(version)
    if decision.digest != wait.line.digests.get("decision"):
        raise UserError(
            f"version {number} of {model} was judged again since it began to wait, and that decision was not carried "
            "out; `refit run` carries it out, and asks again where the gate still says yes"
        )
    before = champion.version if champion else None
    entry = entry_of(context, version, decision, "promote", wait.answer_key, (f"approved: {why}",), before)
    entry = replace(entry, reasons=(*entry.reasons, *decision.reasons))
    if objections := objections_to(store, version, decision, champion):
        champions.record(store, refusal_of(entry, [*objections, f"{approval.OVERTAKEN}{why}"]))
        raise UserError(
            f"version {number} of {model} may not be promoted: {'; '.join(objections)}; `refit run` judges it again"
        )
    verify(context, store, version, entry)
    champions.set_champion(store, replace(entry, anchor=anchor_after(store, version, before, decision)))
    instead = f" in place of version {before}" if before else ""
    return f"{model} version {number} is champion{instead}, as the gate said and you approved"


def reject(context: Context, store: Store, number: str, why: str) -> str:
    """Refuse a version that waits for approval. Returns a message.

    Raises:
        UserError: it does not wait, or waited too long.
    """
    wait = _open_wait(context, store, number)
    _refuse(context, store, wait, f"rejected: {why}")
    return f"{wait.line.model} version {number} is refused; the champion stays"


def refuse_late(context: Context, store: Store) -> None:
    """Refuse every version of the model that waited too long."""
    model = context.params.project.name
    waits = approval.waits(Ledger.of(store).entries(model))
    now = registry_store.now(context, store) if waits else None
    for wait in waits:
        if now and wait.until <= now:
            _refuse(context, store, wait, _late(wait))
            context.progress(f"version {wait.version} is refused: {_late(wait)}")


def lift(context: Context, store: Store, why: str) -> str:
    """Let promotions of the model need no approval any more, by a line in the ledger. Returns a message.

    Raises:
        UserError: params.yaml requires approval, or none was required.
    """
    model = context.params.project.name
    if context.params.register_.approval == "required":
        raise UserError("params.yaml says `register.approval: required`; set it to none there first")
    if not approval.is_required(Ledger.of(store).entries(model)):
        raise UserError(f"the ledger requires no approval for {model}; there is nothing to lift")
    record_by_person(context, store, "lift", why)
    return f"promotions of {model} need no approval any more; versions that wait already still wait"


def _open_wait(context: Context, store: Store, number: str) -> Wait:
    """The wait of a version, which a person can still answer; one that took too long is refused now.

    Raises:
        UserError: the version does not wait, or not any more.
    """
    model = context.params.project.name
    entries = champions.verified_ledger(store, model).entries(model)
    if (wait := approval.wait_of(entries, number)) is None:
        last = next((each for each in reversed(entries) if each.to_version == number), None)
        since = f": {last.action} at {last.at} by {last.who}" if last else ""
        others = ", ".join(each.version for each in approval.waits(entries)) or "none"
        raise UserError(f"version {number} of {model} does not wait for approval{since}; waiting: {others}")
    if wait.until <= registry_store.now(context, store):
        _refuse(context, store, wait, _late(wait))
        raise UserError(
            f'version {number} of {model} is refused: {_late(wait)}; `refit promote {number} --why "..."` promotes it '
            "against that, on the record"
        )
    return wait


def _late(wait: Wait) -> str:
    return f"nobody approved it before {utc_text(wait.until)}"


def _refuse(context: Context, store: Store, wait: Wait, why: str) -> None:
    """End a wait; what was judged is on its line already, so that this works even where the version was deleted."""
    digests = {name: value for name, value in wait.line.digests.items() if name != approval.UNTIL}
    answer = {"at": utc_text(context.now(), "seconds"), "who": person(), "trigger": context.trigger}
    line = replace(wait.line, key=wait.answer_key, action="refuse", reasons=(why,), digests=digests, **answer)
    champions.record(store, line)
