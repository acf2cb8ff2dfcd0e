"""Carries out a decision once: last checks, move of the aliases, and line in the ledger."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from refit.errors import RefitError, UserError, machine_fault
from refit.files.artifacts import TRAINING, digest
from refit.models import model_cache, verification
from refit.models.incumbent import (
    check_trusted,
    downloaded,
    from_tag,
    is_stand_in,
    judged_meanwhile,
    require_ledgers_champion,
    required_tag,
)
from refit.runtime import environments, registry_store
from refit.runtime.context import Context, person
from refit.schemas.artifact import utc_text
from refit.schemas.gate_decision import Decision
from refit.schemas.receipt import Outcome
from refit.schemas.training import Training
from registry import approval, versions
from registry import champion as champions
from registry.champion import CHAMPION
from registry.ledger import MOVES, Action, Entry, Ledger
from registry.store import RegistryError, Store
from registry.versions import Version

RESTORED = "refit.restored_from"  # tag: the version number before the deletion in MLflow
NOT_HERE = "aliases move only under `refit run`, a deployment, or a person's `refit promote`, `approve` or `rollback`"


def carry_out(context: Context, store: Store, version: Version, decision: Decision) -> Outcome:
    """Carry out the decision on a version unless that was done: move the aliases and write a line in the ledger.

    A decision that has its line is never carried out again, whichever version was promoted since, and a version that
    a person replaced or refused stays so: otherwise no rollback would outlast the next scheduled run. One that waits
    for approval still waits, with the time that it had, once promotions need none any more.

    Raises:
        RefitError: the stored model does not pass its check; the champion is unchanged.
    """
    champion = champions.current_champion(store, version.model)
    ledger = Ledger.of(store)
    before = champion.version if champion else None
    if before == version.version:
        line = ledger.last_move(version.model)
        return _outcome(line if line and line.to_version == before else None, "it is the champion already")
    key = decision_key(version.model, version.version, decision)
    model_digest = version.tags.get("refit.model_digest")
    if (line := ledger.find(key)) or not context.may_promote:
        outcome = _outcome(line and approval.outcome_of(ledger.entries(version.model), line), NOT_HERE)
        return _followed(outcome, ledger, version, model_digest) if outcome.action in MOVES else outcome
    champions.claim(store, version.model)
    require_ledgers_champion(context, store)
    objections = objections_to(store, version, decision, champion)
    objections = objections or objections_of_people(ledger, version.model, version.version, model_digest)
    entries = ledger.entries(version.model)
    entry = entry_of(context, version, decision, "promote", key, decision.reasons, before)
    wait, required = approval.wait_of(entries, version.version), needs_approval(context, ledger)
    if objections:
        entry = refusal_of(entry, objections)
        champions.record(store, entry)
    elif wait or required:
        verify(context, store, version, entry)
        end = registry_store.now(context, store) + context.params.register_.approval_time
        until = utc_text(wait.until if wait and not required else end, "seconds")
        entry = replace(entry, action="await", digests={**entry.digests, approval.UNTIL: until})
        champions.record(store, entry)
        context.progress(environments.addressed(str(approval.Wait(entry))))
    else:
        verify(context, store, version, entry)
        context.progress(f"promoting version {version.version}")
        champions.set_champion(store, replace(entry, anchor=anchor_after(store, version, before, decision)))
        context.progress(f"version {version.version} is champion")
    return _outcome(entry, "")


def objections_of_people(ledger: Ledger, model: str, number: str | None, model_digest: str | None) -> list[str]:
    """Return why people's decisions about a version, or the same model under another number, forbid its promotion.

    Args:
        number: of the version; None if the model is not registered now.
    """
    if line := ledger.demotion(model, number or "", model_digest):
        it = "it" if line.from_version == number else f"the same model, version {line.from_version},"
        puts_back = f"`refit promote {number or line.from_version}` puts it back"
        return [f"{it} was replaced by hand at {line.at} ({'; '.join(line.reasons)}); {puts_back}"]
    if line := approval.rejection(ledger.entries(model), number or "", model_digest):
        return [f'{_refused_before(line)}; `refit promote {number or line.to_version} --why "..."` overrules that']
    return []


@dataclass(frozen=True)
class Prospects:
    """What keeps a candidate that the gate would promote from it: objections, or the wait for a person's approval."""

    objections: tuple[str, ...] = ()
    waits: bool = False


def prospects(context: Context) -> Prospects:
    """Return what `register` would do with the candidate in the project's files. Registers and writes nothing."""
    model, training = context.params.project.name, Training.read(context.path(TRAINING))
    with registry_store.opened(context) as store:
        ledger, identity = Ledger.of(store), training.identity
        same = versions.tagged(store, model, "refit.model_digest", training.model_digest)
        numbers = [each.version for each in same if identity.items() <= dict(each.tags).items()]
        number = numbers[0] if numbers else None
        mismatch = champions.alias_mismatch(store, model)
        objections = [mismatch] if mismatch else objections_of_people(ledger, model, number, training.model_digest)
        waits = number is not None and approval.wait_of(ledger.entries(model), number) is not None
        return Prospects(tuple(objections), waits or needs_approval(context, ledger))


def needs_approval(context: Context, ledger: Ledger) -> bool:
    """Whether a person has to approve a promotion: by the params, or by the ledger, whatever the params say."""
    required = context.params.register_.approval == "required"
    return required or approval.is_required(ledger.entries(context.params.project.name))


def promote_by_hand(context: Context, store: Store, version: Version, why: str | None) -> str:
    """Promote a version on request, if the checks allow it, or against them for the reason `why`.

    Where a person has to approve promotions, `why` is needed in any case. The ledger's champion, whose alias was set to
    another version outside of Refit, needs neither: nothing is decided.
    """
    model, ledger = version.model, Ledger.of(store)
    before = versions.registered(store, model).aliases.get(CHAMPION)
    outside = champions.alias_mismatch(store, model)
    if before == version.version and not outside:
        return f"{model} version {before} is the champion already"
    if outside and (last := ledger.last_move(model)) and last.to_version == version.version:
        return _put_back(context, store, version, before, why)
    champion = versions.version(store, model, before) if before else None
    decision = decision_on(version)
    if outside and before == version.version:
        objections = [outside]
    else:
        objections = objections_to(store, version, decision, champion)
    if champion is None:
        try:
            champions.current_champion(store, model)
        except RegistryError as error:
            objections.append(str(error))
    if line := approval.rejection(ledger.entries(model), version.version, version.tags.get("refit.model_digest")):
        objections.append(_refused_before(line))
    if not objections and not why and needs_approval(context, ledger):
        answer = "approve" if approval.wait_of(ledger.entries(model), version.version) else "promote"
        raise UserError(
            f"a person approves what becomes champion of {model}, with a reason that the ledger keeps: "
            f'`refit {answer} {version.version} --why "..."`'
        )
    key = f"{model}:{version.version}{approval.BY_HAND}{secrets.token_hex(8)}"
    reasons = [*([why] if why else []), *(objections or decision.reasons)]
    entry = entry_of(context, version, decision, "overrule" if objections else "promote", key, reasons, before)
    if objections and not why:
        champions.record(store, refusal_of(entry, objections))
        raise UserError(
            f"version {version.version} of {model} may not be promoted: {'; '.join(objections)}; "
            '--why "REASON" overrules, and the ledger keeps the reason'
        )
    verify(context, store, version, entry)
    anchor = anchor_after(store, version, before, None if objections else decision)
    champions.set_champion(store, replace(entry, anchor=anchor))
    instead = f" in place of version {before}" if before not in (None, version.version) else ""
    return f"{model} version {version.version} is champion{instead}"


def _put_back(context: Context, store: Store, version: Version, before: str | None, why: str | None) -> str:
    """Make the ledger's champion champion again, in place of a version whose alias was set outside of Refit."""
    model = version.model
    reasons = [*([why] if why else []), f"the alias of version {before} was set outside of Refit"]
    key = f"{model}:{version.version}{approval.BY_HAND}{secrets.token_hex(8)}"
    entry = entry_of(context, version, decision_on(version), "promote", key, reasons, before)
    verify(context, store, version, entry)
    anchor = versions.registered(store, model).tags.get(versions.ANCHOR)
    champions.set_champion(store, replace(entry, anchor=anchor))
    return f"{model} version {version.version} is champion again in place of version {before}"


def roll_back(context: Context, store: Store, target: Version, why: str | None) -> str:
    """Make an earlier champion the champion again, once its stored model has passed its check. Returns a message.

    If the anchor is the version that is replaced, the restored version becomes the anchor.

    Raises:
        UserError: there is no champion, or the version is the champion already, or never was: the gate decides then.
        RefitError: the stored model does not pass its check; the champion is unchanged.
    """
    model, registered = target.model, versions.registered(store, target.model)
    before = registered.aliases.get(CHAMPION)
    if before is None:
        champions.current_champion(store, model)  # where the alias is lost, the error says how to repair that
        raise UserError(f"no version of {model} is champion, so there is nothing to roll back; `refit promote VERSION`")
    if before == target.version:
        raise UserError(f"{model} version {before} is the champion already; --to names another")
    if not Ledger.of(store).was_champion(model, target.version):
        raise UserError(
            f"version {target.version} of {model} was never champion, so there is no going back to it; "
            f"`refit promote {target.version}` asks whether it may be promoted"
        )
    if is_stand_in(target) and (now := versions.version(store, model, before)) and not is_stand_in(now):
        raise UserError(
            f"version {target.version} of {model} was made from a GENERATED stand-in, version {before} from real data; "
            "--to names another"
        )
    key = f"{model}:{target.version}:rollback:{secrets.token_hex(8)}"
    entry = entry_of(context, target, decision_on(target), "rollback", key, [why or "rolled back by hand"], before)
    verify(context, store, target, entry)
    anchor = registered.tags.get(versions.ANCHOR, before)
    champions.set_champion(store, replace(entry, anchor=target.version if anchor == before else anchor))
    return rollback_message(entry)


def rollback_message(line: Entry) -> str:
    """Return the message about a rollback, from its line in the ledger."""
    return f"{line.model} version {line.to_version} is champion again in place of version {line.from_version}"


def previous_champion(store: Store, model: str) -> str:
    """Return the number of the version that a rollback goes back to if none is named.

    Raises:
        UserError: there is none; it was rolled back itself, so that going back to it would undo that rollback; or the
            champion is not the ledger's, so that it is not the one before the champion.
    """
    if problem := champions.alias_mismatch(store, model):
        raise UserError(f"{problem}; `refit rollback --to VERSION` names the version to go back to")
    if (number := versions.registered(store, model).aliases.get(champions.PREVIOUS)) is None:
        raise UserError(f"{model} has no previous version to go back to; --to names one, `refit history` shows them")
    if line := Ledger.of(store).rolled_back(model, number):
        raise UserError(
            f"{model} was rolled back already, from version {number} to version {line.to_version} at {line.at} by "
            f"{line.who} ({'; '.join(line.reasons)}); --to names the version to go back to, `refit promote {number}` "
            f"makes version {number} champion again"
        )
    return number


def decision_on(version: Version) -> Decision:
    """Return the decision that the registry stores with a version, for those that are not the project's candidate.

    Raises:
        RefitError: the version has no decision.
        RegistryError: the decision was changed outside of Refit.
    """
    return from_tag(version, "refit.decision", Decision)


def decision_key(model: str, number: str, decision: Decision) -> str:
    """Return the key of the ledger's line for a decision on a version."""
    return f"{model}:{number}:{decision.digest}"


def _refused_before(line: Entry) -> str:
    """The objection to a version that a person refused, or did not approve in time."""
    return f"it was refused at {line.at} by {line.who}: {'; '.join(line.reasons)}"


def _outcome(line: Entry | None, otherwise: str) -> Outcome:
    """Return the receipt's outcome of a decision: from its line in the ledger, or why it has no line."""
    if line is None:
        return Outcome(action=None, reasons=(otherwise,))
    if line.action == approval.AWAIT:
        return Outcome(action=line.action, reasons=(environments.addressed(str(approval.Wait(line))),))
    return Outcome(action=line.action, reasons=tuple(line.reasons))


def _followed(outcome: Outcome, ledger: Ledger, version: Version, model_digest: str | None) -> Outcome:
    """The outcome of a decision that made a version champion which is none any more, with what became of it."""
    objections = objections_of_people(ledger, version.model, version.version, model_digest)
    later = f"it was champion by this decision, and another one is now; `refit promote {version.version}` puts it back"
    return Outcome(action=outcome.action, reasons=tuple(objections or [later]))


def objections_to(store: Store, version: Version, decision: Decision, champion: Version | None) -> list[str]:
    """Return why a decision does not promote the version that it is about; empty if it does."""
    against = (decision.incumbent.version, decision.incumbent.model_digest)
    now = (champion.version, champion.tags.get("refit.model_digest")) if champion else (None, None)
    replaced = against != now and not (champion and against == (champion.tags.get(RESTORED), now[1]))
    names = [f"version {number}" if number else "no version" for number in (against[0], now[0])]
    if not decision.promote:
        then = (
            f"it was refused against {names[0]}, which was champion then"
            if against[0]
            else "it was refused when none was champion"
        )
        return [f"{then}: {'; '.join(decision.reasons)}"] if replaced else [*decision.reasons]
    if replaced:
        return [f"it was judged against {names[0]}, but {names[1]} is the champion now"]
    if judged_meanwhile(store, version, decision.looks):
        return ["another candidate was judged on its test window meanwhile; `refit run` judges it as a later look"]
    return []


def anchor_after(store: Store, version: Version, before: str | None, decision: Decision | None) -> str:
    """Return the anchor after a promotion: the version itself if it is the first or superior, else the old anchor."""
    superior = decision is not None and decision.mode == "superiority"
    predecessor = versions.version(store, version.model, before) if before else None
    if predecessor is None or superior or is_stand_in(predecessor):
        return version.version
    return versions.registered(store, version.model).tags.get(versions.ANCHOR, predecessor.version)


def check_again(context: Context, store: Store, version: Version) -> None:
    """Load the stored model in a fresh process, compare its golden predictions, and cache a model that passes.

    Raises:
        RefitError: it does not load, or its predictions differ.
    """
    context.progress("checking the stored model in a fresh process")
    with downloaded(context, store, version) as folder:
        check_trusted(context, store, version, folder)
        verification.in_fresh_process(
            folder,
            manifest=required_tag(version, "refit.manifest"),
            tolerance=context.params.register_.golden_tolerance,
            trusted_types=context.params.registry.trusted_types,
            project=context.project,
        )
        model_cache.add(context, version, folder)


def verify(context: Context, store: Store, version: Version, entry: Entry) -> None:
    """Check the stored model again; a model that fails is recorded as refused in the ledger.

    Only what its files show counts: no line is written where a disk, the network or the store failed, or where the
    check was too slow or was killed.
    """
    try:
        check_again(context, store, version)
    except Exception as error:
        unread = str(error) if isinstance(error, OSError | versions.Unavailable) else None
        if fault := machine_fault(error) or unread:
            raise RefitError(
                f"version {version.version} of {version.model} could not be checked: {fault}; nothing was decided, and "
                "no alias moved: mend that, then run again"
            ) from error
        message = re.sub(r"\S*/\.copy-[^/]*/", "", str(error))  # the name of a scratch folder means nothing to a reader
        why = f"the stored model did not pass its check: {message}"
        key = f"{entry.key}:{digest(why)[:16]}"  # not the decision's key: a repaired model can be tried again
        champions.record(store, replace(refusal_of(entry, [why]), key=key))
        raise RefitError(f"version {version.version} of {version.model} is not promoted: {why}") from error


def entry_of(
    context: Context,
    version: Version,
    decision: Decision,
    action: Action,
    key: str,
    reasons: Sequence[str],
    before: str | None,
) -> Entry:
    """Return a line for the ledger about a version, with its digests and that of the decision on it."""
    digests = {
        name: version.tags.get(f"refit.{name}") for name in ("candidate", "model_digest", "manifest", "snapshot")
    }
    if not is_stand_in(version):
        digests["test"] = decision.test.digest  # a look at this window counts when the version is gone, too
    return Entry(
        key=key,
        at=utc_text(context.now(), "seconds"),
        who=person(),
        trigger=context.trigger,
        action=action,
        model=version.model,
        from_version=before,
        to_version=version.version,
        reasons=tuple(reasons),
        digests=digests | {"decision": decision.digest},
    )


def refusal_of(entry: Entry, reasons: list[str]) -> Entry:
    return replace(entry, action="refuse", reasons=tuple(reasons), anchor=None)
