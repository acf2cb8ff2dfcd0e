"""Where a version comes from and where a batch went, both ways; and in words why a version is, or is not, in charge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refit.errors import UserError
from refit.models import run_logging
from refit.runtime.context import Context
from registry import versions
from registry.champion import CHAMPION, PREVIOUS
from registry.ledger import MOVES, Entry, Ledger
from registry.store import Store
from registry.versions import Version
from tasks.register.promoting import decision_on

SNAPSHOT = "provenance/snapshot.json"
_BATCH: dict[str, type] = {"source": str, "name": str, "sha256": str, "rows": int, "files": list}


def lineage(context: Context, number: str) -> dict[str, Any]:
    """What a version was made from: batches, feature definitions, code, params, and the run that shows it.

    Raises:
        UserError: there is no such version.
    """
    with run_logging.opened(context) as store:
        found = _version(context, store, number)
        snapshot = _snapshot(store, found)
    tags = found.tags
    return {
        "model": found.model,
        "version": found.version,
        "created": found.created,
        "run_id": found.run_id,
        "learner": tags.get("refit.learner"),
        "as_of": tags.get("refit.as_of"),
        "seen_until": tags.get("refit.seen_until"),
        "snapshot": tags.get("refit.snapshot"),
        "git_commit": tags.get("refit.git_commit"),
        "git_patch": tags.get("refit.git_patch"),
        "params": tags.get("refit.params"),
        "constraints": tags.get("refit.constraints"),
        "model_digest": tags.get("refit.model_digest"),
        "manifest": tags.get("refit.manifest"),
        "batches": [{key: batch[key] for key in _BATCH} for batch in (snapshot or {}).get("batches", [])],
    }


def made_from(context: Context, digest: str) -> list[dict[str, Any]]:
    """The versions that were made from data of this digest (its first characters do): a batch's, or a snapshot's.

    Raises:
        UserError: it is too short to name anything, or no version was made from such data.
    """
    if len(digest) < 6:
        raise UserError(f"--data {digest}: give at least 6 characters of a batch's or a snapshot's digest")
    model, found = context.params.project.name, []
    with run_logging.opened(context) as store:
        for version in versions.tagged_by_client(store, model, {}):
            snapshot = _snapshot(store, version) or {}
            batches = [batch for batch in snapshot.get("batches", []) if batch["sha256"].startswith(digest)]
            if batches or version.tags.get("refit.snapshot", "").startswith(digest):
                named = [f"{batch['source']} {batch['name']}" for batch in batches]
                found.append({"version": version.version, "created": version.created, "batches": named or ["snapshot"]})
    if not found:
        raise UserError(f"no version of {model} was made from data with a digest that begins with {digest}")
    return found


def explain(context: Context, number: str) -> list[str]:
    """Why a version is, or is not, in charge: a sentence for each thing that decided it, oldest first.

    Raises:
        UserError: there is no such version.
    """
    model = context.params.project.name
    with run_logging.opened(context) as store:
        lines = [line for line in Ledger.beside(store).entries(model) if number in _named(line)]
        if (found := versions.version(store, model, number)) is None and lines:
            return [*map(_told, lines), f"It is in the registry no more: {gone(store, model, number)}."]
        found = _version(context, store, number)
        aliases = versions.registered(store, found.model).aliases
        made = list(_made(found))
    return [*made, *map(_told, lines), _now(found, aliases, lines)]


def gone(store: Store, model: str, number: str) -> str:
    """That a model has no version of this number; where it was deleted and registered again, under which one."""
    if line := Ledger.beside(store).restored(model, number):
        return f"version {number} of {model} was deleted in MLflow, version {line.to_version} is the same model"
    return f"{model} has no version {number!r}"


def _version(context: Context, store: Store, number: str) -> Version:
    model = context.params.project.name
    if (found := versions.version(store, model, number)) is None:
        raise UserError(f"{gone(store, model, number)}; `refit history` names those that were judged")
    return found


def _snapshot(store: Store, of: Version) -> dict[str, Any] | None:
    content = versions.read_file(store, of, SNAPSHOT)
    if not content:
        return None
    snapshot = versions.json_object(of, str(SNAPSHOT), content)
    batches = snapshot.get("batches", [])
    for batch in batches if isinstance(batches, list) else [None]:
        if not isinstance(batch, dict) or any(not isinstance(batch.get(key), kind) for key, kind in _BATCH.items()):
            raise versions.changed(of, str(SNAPSHOT), "its list of batches is none")
    return snapshot


def _named(line: Entry) -> tuple[str | None, ...]:
    """The versions that a line of the ledger is about: a refusal is about the one refused alone."""
    return (line.to_version,) if line.action not in MOVES else (line.to_version, line.from_version)


def _made(of: Version) -> Iterator[str]:
    tags = of.tags
    yield (
        f"Version {of.version} of {of.model} ({tags.get('refit.learner', 'of an unknown learner')}) was registered at "
        f"{of.created}, made from data before {tags.get('refit.seen_until', 'an unknown time')}."
    )
    if "refit.decision" in tags:
        decision = decision_on(of)
        judged = decision["comparand"].get("version")
        against = f"version {judged}" if judged else "the naive baseline, as nobody was in charge"
        verdict = "promote it" if decision["promote"] else "refuse it"
        yield f"The gate compared it with {against} and said: {verdict} ({'; '.join(decision['reasons'])})."


def _told(line: Entry) -> str:
    why = f"({'; '.join(line.reasons)}; by {line.who}, trigger: {line.trigger})"
    if line.action == "refuse":
        return f"{line.at}: version {line.to_version} was refused {why}."
    verb = {
        "promote": "took charge",
        "overrule": "was put in charge against the gate",
        "rollback": "was put back",
        "restore": "was registered again",
    }
    instead = f" in place of version {line.from_version}" if line.from_version else ""
    return f"{line.at}: version {line.to_version} {verb[line.action]}{instead} {why}."


def _now(of: Version, aliases: dict[str, str] | Any, lines: list[Entry]) -> str:
    champion = aliases.get(CHAMPION)
    if champion == of.version:
        return "It is in charge now."
    state = (
        "It was the one in charge before, and can be put back: refit rollback."
        if (aliases.get(PREVIOUS) == of.version)
        else "It is not in charge."
    )
    ever = any(line.action in MOVES and line.to_version == of.version for line in lines)
    return f"{state} Version {champion} is." if ever or champion else f"{state} Nobody is."
