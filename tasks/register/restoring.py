"""Registers a champion again that was deleted in MLflow: the same files and tags under a new version number."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from refit.errors import RefitError, UserError
from refit.models import model_cache
from refit.models.incumbent import TAG as COMPARAND_TAG
from refit.models.incumbent import TEST_TAG, downloaded
from refit.models.verification import check_stored
from refit.runtime.context import Context
from registry import champion, tracking, versions
from registry.champion import CHALLENGER
from registry.ledger import Entry, Ledger
from registry.store import RegistryError, Store
from registry.versions import Version
from tasks.register.packaging import VERDICT
from tasks.register.promoting import RESTORED, check_again, decision_on, entry_of

_JUDGEMENT = (VERDICT, "refit.decision", "refit.metrics", COMPARAND_TAG, TEST_TAG)
_INSTEAD = 'or promote another one with `refit promote VERSION --why "..."`'


def restore(context: Context, store: Store, line: Entry) -> str:
    """Register the version that the ledger's line promoted again, and promote it. Returns a message.

    MLflow never reuses a number, so it gets a new one, and the tag `refit.restored_from` names the old one. If a call
    is interrupted, the next one continues with what was registered.

    Raises:
        UserError: too little of it is stored, or what is stored is not the former champion; says what to do instead.
        RefitError: the registered model does not pass its check in a fresh process; no alias moved.
    """
    lost = _deleted_version(context, store, line)
    version = _registered_again(context, store, lost)
    check_again(context, store, version)
    model, number = version.model, version.version
    why = f"version {lost.version} was deleted in MLflow; this is the same model, registered again"
    key = f"{model}:{number}:restore:{secrets.token_hex(8)}"
    entry = entry_of(context, version, decision_on(version), "restore", key, [why, *line.reasons], lost.version)
    champion.set_champion(store, replace(entry, anchor=number if line.anchor == lost.version else line.anchor))
    if CHALLENGER not in versions.registered(store, model).aliases:
        versions.set_alias(store, model, CHALLENGER, number)
    return (
        f"{model} version {lost.version}, champion since {line.at}, was deleted in MLflow; the same model is "
        f"champion again as version {number}"
    )


def _deleted_version(context: Context, store: Store, line: Entry) -> Version:
    """Return the deleted version with its tags, from the local record or from MLflow's tables."""
    local = model_cache.record(context, line.to_version)
    tags = local.tags if local else versions.tags_of_deleted(store, line.model, line.to_version)
    recorded = {f"refit.{key}": value for key, value in line.digests.items() if key in ("manifest", "model_digest")}
    if not tags or any(tags.get(key) != value for key, value in recorded.items()):
        raise UserError(
            f"version {line.to_version} of {line.model}, champion since {line.at}, was deleted in MLflow, and "
            f"{model_cache.RECORDS}/{line.to_version}.json, which would tell its tags, is "
            f"{'about another model' if tags else 'not there'}: try in the checkout that promoted it, restore the "
            f"registry from a copy, {_INSTEAD}"
        )
    return Version(line.model, line.to_version, local.run_id if local else None, local.created if local else "", tags)


def _registered_again(context: Context, store: Store, lost: Version) -> Version:
    """Return the version that replaces the lost one; registers it unless an earlier call or a later run did."""
    identity = {key: lost.tags[key] for key in ("refit.candidate", "refit.model_digest")}
    replacement = versions.find(store, lost.model, identity)
    if replacement is None:
        with _stored(context, store, lost, identity) as folder:
            run_id = _run(context, store, lost, identity)
            context.progress("registering the model again")
            newest = Ledger.of(store).newest_number(lost.model)
            tags = {**lost.tags, RESTORED: lost.version}
            return versions.create(store, lost.model, run_id=run_id, folder=folder, tags=tags, above=newest)
    judged = {key: lost.tags[key] for key in _JUDGEMENT if key in lost.tags}
    versions.set_tags(store, replacement, {**judged, RESTORED: lost.version})
    return versions.version(store, lost.model, replacement.version) or replacement


@contextmanager
def _stored(context: Context, store: Store, lost: Version, identity: dict[str, str]) -> Iterator[Path]:
    """Provide the lost version's folder with unchanged files: the local copy, or else the artifacts of its run."""
    manifest = lost.tags["refit.manifest"]
    copy = model_cache.copy_path(context, lost.version, lost.tags["refit.model_digest"])
    try:
        check_stored(copy, manifest)
    except RefitError as error:
        damaged = str(error) if copy.is_dir() else f"{copy} is not there"
    else:
        yield copy
        return
    with ExitStack() as stack:
        try:
            source = replace(lost, run_id=_run(context, store, lost, identity))
            folder = stack.enter_context(downloaded(context, store, source))
            check_stored(folder, manifest)
        except (RegistryError, RefitError) as error:
            raise UserError(
                f"version {lost.version} of {lost.model} was deleted in MLflow and cannot be registered again: its "
                f"local copy is lost ({damaged}), and so are the files of its run ({error}); restore one of them from "
                f"a copy, {_INSTEAD}"
            ) from error
        yield folder


def _run(context: Context, store: Store, lost: Version, identity: dict[str, str]) -> str:
    """Return the lost version's run: undeleted if MLflow still has it, created again if it is gone."""
    if lost.run_id is not None and tracking.restore_run(store, lost.run_id):
        return lost.run_id
    experiment = tracking.ensure_experiment(store, lost.model)
    name = f"{lost.tags.get('refit.learner', 'model')} {identity['refit.candidate'][:8]}"
    return tracking.ensure_run(store, experiment, name, identity | {"refit.role": "candidate"})
