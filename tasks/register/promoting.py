"""Carries a decision out, once: the last checks, the move of the aliases, and the line in the ledger that tells it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from refit.errors import RefitError, UserError, machine_fault
from refit.files.artifacts import digest
from refit.models import model_cache, verification
from refit.models.incumbent import check_trusted, downloaded, is_stand_in, required_tag
from refit.runtime.context import Context, person
from registry import champion as charge
from registry import versions
from registry.champion import CHAMPION
from registry.ledger import Action, Entry, Ledger
from registry.store import Store
from registry.versions import Version

RESTORED = "refit.restored_from"  # tag: the number that the same model had before it was deleted in MLflow
_DECISION: Mapping[str, type] = {"promote": bool, "mode": str, "reasons": list, "comparand": dict}
NOT_HERE = "aliases move only under `refit run`, a deployment or `refit promote`"


def carry_out(context: Context, store: Store, version: Version) -> dict[str, Any]:
    """Do what the decision on a version says, unless it was done: one line in the ledger, and the aliases with it.

    A decision that has its line is never acted upon again, whoever took charge since, and a version that a person
    replaced stays replaced: else no rollback would outlast the next scheduled run.

    Raises:
        RefitError: the stored model does not pass its check; nobody took charge.
    """
    champion = charge.champion(store, version.model)
    ledger, decision = Ledger.beside(store), decision_on(version)
    before = champion.version if champion else None
    if before == version.version:
        line = ledger.last_move(version.model)
        return _outcome(line if line and line.to_version == before else None, "it is in charge already")
    key = decision_key(version.model, version.version, decision)
    if (line := ledger.find(key)) or not context.may_promote:
        return _outcome(line, NOT_HERE)
    obstacles = _refusals(decision, champion)
    if not obstacles and (line := ledger.taken_out(version.model, version.version)):
        obstacles = [
            f"it was replaced by hand at {line.at} ({'; '.join(line.reasons)}); `refit promote {version.version}` "
            "puts it back"
        ]
    entry = entry_of(context, version, "promote", key, decision["reasons"], before)
    if obstacles:
        entry = _refusal(entry, obstacles)
        charge.record(store, entry)
    else:
        _verify(context, store, version, entry)
        context.progress(f"version {version.version} takes charge")
        charge.take_charge(store, replace(entry, anchor=_anchor(store, version, before, decision)))
    return _outcome(entry, "")


def promote_by_hand(context: Context, store: Store, version: Version, why: str | None) -> str:
    """Put a version in charge at someone's wish, if the checks let it, or against them for the reason `why`."""
    model = version.model
    before = versions.registered(store, model).aliases.get(CHAMPION)
    if before == version.version:
        return f"{model} version {before} is in charge already"
    champion = versions.version(store, model, before) if before else None
    decision = decision_on(version)
    obstacles = _refusals(decision, champion)
    key = f"{model}:{version.version}:by hand:{secrets.token_hex(8)}"
    reasons = [*([why] if why else []), *(obstacles or decision["reasons"])]
    entry = entry_of(context, version, "overrule" if obstacles else "promote", key, reasons, before)
    if obstacles and not why:
        charge.record(store, _refusal(entry, obstacles))
        raise UserError(
            f"version {version.version} of {model} may not take charge: {'; '.join(obstacles)}; "
            '--why "REASON" overrules, and the ledger keeps the reason'
        )
    _verify(context, store, version, entry)
    charge.take_charge(store, replace(entry, anchor=_anchor(store, version, before, None if obstacles else decision)))
    return f"{model} version {version.version} is in charge" + (f" in place of version {before}" if before else "")


def roll_back(context: Context, store: Store, target: Version, why: str | None) -> str:
    """Put an earlier version back in charge, once its stored model has passed its check; says what was done.

    Where the anchor is the version that goes, the one that comes back takes its place.

    Raises:
        UserError: nobody is in charge, or the version is in charge already, or never was: that is for the gate.
        RefitError: the stored model does not pass its check; nobody lost charge.
    """
    model, registered = target.model, versions.registered(store, target.model)
    before = registered.aliases.get(CHAMPION)
    if before is None:
        raise UserError(
            f"no version of {model} is in charge, so there is nothing to roll back; `refit promote VERSION`"
        )
    if before == target.version:
        raise UserError(f"{model} version {before} is in charge already; --to names another")
    if not Ledger.beside(store).was_in_charge(model, target.version):
        raise UserError(
            f"version {target.version} of {model} was never in charge, so there is no going back to it; "
            f"`refit promote {target.version}` asks whether it may take charge"
        )
    if is_stand_in(target) and (now := versions.version(store, model, before)) and not is_stand_in(now):
        raise UserError(
            f"version {target.version} of {model} was made from a GENERATED stand-in, version {before} from real data; "
            "--to names another"
        )
    key = f"{model}:{target.version}:rollback:{secrets.token_hex(8)}"
    entry = entry_of(context, target, "rollback", key, [why or "rolled back by hand"], before)
    _verify(context, store, target, entry)
    anchor = registered.tags.get(versions.ANCHOR, before)
    charge.take_charge(store, replace(entry, anchor=target.version if anchor == before else anchor))
    return f"{model} version {target.version} is back in charge in place of version {before}"


def decision_on(version: Version) -> dict[str, Any]:
    """The decision that the registry keeps with a version.

    Raises:
        RefitError: the version has none.
        RegistryError: it is not as Refit wrote it.
    """
    required_tag(version, "refit.decision")
    decision = versions.read_tag(version, "refit.decision") or {}
    for key, kind in _DECISION.items():
        if not isinstance(decision.get(key), kind):
            raise versions.changed(version, "the tag refit.decision", f"{key} is {decision.get(key)!r}")
    return decision


def decision_key(model: str, number: str, decision: Mapping[str, Any]) -> str:
    """Names the ledger's one line for a decision on a version."""
    return f"{model}:{number}:{digest(decision)}"


def _outcome(line: Entry | None, otherwise: str) -> dict[str, Any]:
    """What the receipt says of a decision: its line in the ledger, or why it has none."""
    if line is None:
        return {"action": None, "reasons": [otherwise]}
    return {"action": line.action, "reasons": list(line.reasons)}


def _refusals(decision: Mapping[str, Any], champion: Version | None) -> list[str]:
    """Why a decision does not put its candidate in charge; empty: it does."""
    if not decision["promote"]:
        return list(decision["reasons"])
    judged = decision["comparand"]
    against = (judged.get("version"), judged.get("model_digest"))
    now = (champion.version, champion.tags.get("refit.model_digest")) if champion else (None, None)
    if against == now or (champion and against == (champion.tags.get(RESTORED), now[1])):
        return []
    names = [f"version {number}" if number else "nobody" for number in (against[0], now[0])]
    return [f"it was judged against {names[0]}, but {names[1]} is in charge now"]


def _anchor(store: Store, version: Version, before: str | None, decision: Mapping[str, Any] | None) -> str:
    """The anchor once `version` is in charge: itself if it is the first or proved superior, else the one that was."""
    superior = decision is not None and decision["mode"] == "superiority"
    predecessor = versions.version(store, version.model, before) if before else None
    if predecessor is None or superior or is_stand_in(predecessor):
        return version.version
    return versions.registered(store, version.model).tags.get(versions.ANCHOR, predecessor.version)


def check_again(context: Context, store: Store, version: Version) -> None:
    """Load the stored model in a fresh process and compare its golden predictions; what passed is kept here as well.

    Raises:
        RefitError: it does not load, or predicts otherwise.
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
        model_cache.keep(context, version, folder)


def _verify(context: Context, store: Store, version: Version, entry: Entry) -> None:
    """Check the stored model once more; a model that fails is refused in the ledger.

    A disk that is full, or fails, says nothing of the model: no line is written for it.
    """
    try:
        check_again(context, store, version)
    except Exception as error:
        if fault := machine_fault(error):
            raise RefitError(
                f"version {version.version} of {version.model} could not be checked: {fault}; nothing was decided, and "
                "no alias moved: mend that, then run again"
            ) from error
        said = re.sub(r"\S*/\.copy-[^/]*/", "", str(error))  # a scratch folder's name tells nobody anything
        why = f"the stored model did not pass its check: {said}"
        key = f"{entry.key}:{digest(why)[:16]}"  # not the decision's own line: repaired, it may be tried again
        charge.record(store, replace(_refusal(entry, [why]), key=key))
        raise RefitError(f"version {version.version} of {version.model} does not take charge: {why}") from error


def entry_of(
    context: Context, version: Version, action: Action, key: str, reasons: list[str], before: str | None
) -> Entry:
    digests = {
        name: version.tags.get(f"refit.{name}") for name in ("candidate", "model_digest", "manifest", "snapshot")
    }
    return Entry(
        key=key,
        at=context.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        who=person(),
        trigger=context.trigger,
        action=action,
        model=version.model,
        from_version=before,
        to_version=version.version,
        reasons=tuple(reasons),
        digests=digests | {"decision": digest(decision_on(version))},
    )


def _refusal(entry: Entry, reasons: list[str]) -> Entry:
    return replace(entry, action="refuse", reasons=tuple(reasons), anchor=None)
