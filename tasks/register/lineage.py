"""Traces versions to batches and batches to versions, and explains why a version is, or is not, the champion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from refit.errors import RefitError, UserError
from refit.models.incumbent import PARENT, PARENT_DIGEST, USES
from refit.runtime import environments, registry_store
from refit.runtime.context import Context
from refit.schemas.artifact import Part
from refit.schemas.snapshot import Snapshot, SnapshotBatch
from registry import versions
from registry.approval import LIFT, wait_of
from registry.champion import CHAMPION, PREVIOUS
from registry.ledger import MOVES, Entry, Ledger
from registry.store import Store
from registry.versions import Version
from tasks.register.promoting import decision_on

SNAPSHOT = "provenance/snapshot.json"
NAMED = re.compile(r"version ([1-9][0-9]*) of ([a-z][a-z0-9_]*)")  # a parent in the registry, in the tag PARENT


class UsedBatch(Part):
    """A batch that a version was made from."""

    source: str
    name: str
    sha256: str
    rows: int
    files: tuple[str, ...]


class RelatedVersion(Part):
    """A version whose weights another one was trained from, or one that was trained from it."""

    model: str
    version: str | None  # None if it was a folder
    model_digest: str
    generation: int  # 1 for parents and children, 2 for theirs
    state: Literal["registered", "deleted", "altered", "exported", "pretrained"]

    def __str__(self) -> str:
        name = f"version {self.version} of {self.model}" if self.version else self.model
        state = "" if self.state in ("registered", "exported", "pretrained") else f", {self.state} since"
        return f"{name}, model {self.model_digest[:12]}{state}"


class Lineage(Part):
    """What a version was made from, and what was made from it; None for what its tags do not say."""

    model: str
    version: str
    created: str
    run_id: str | None
    learner: str | None
    as_of: str | None
    seen_until: str | None
    snapshot: str | None
    git_commit: str | None
    git_patch: str | None
    params: str | None
    constraints: str | None
    candidate: str | None  # digest of all that it was made from; MLflow's run is named by its first characters
    model_digest: str | None
    manifest: str | None
    batches: tuple[UsedBatch, ...]
    parents: tuple[RelatedVersion, ...] = ()  # its own, then its parent's, and so on
    children: tuple[RelatedVersion, ...] = ()  # those that the registry knows, then theirs
    feature_models: tuple[RelatedVersion, ...] = ()  # versions of other models that compute its features
    used_by: tuple[RelatedVersion, ...] = ()  # versions, of which the registry knows, whose features it computes


class MadeVersion(Part):
    """A version that was made from some data."""

    version: str
    created: str
    batches: tuple[str, ...]  # those of the data, or "snapshot" for a whole snapshot


def lineage(context: Context, number: str) -> Lineage:
    """Return what a version was made from: batches, feature definitions, code, params, and its MLflow run.

    Raises:
        UserError: there is no such version.
    """
    with registry_store.opened(context) as store:
        version = _version(context, store, number)
        batches = _batches(store, version)
        parents, children = tuple(_parents(store, version)), tuple(_children(store, version))
        feature_models, used_by = tuple(_feature_models(store, version)), tuple(_used_by(store, version))
    tags = version.tags
    return Lineage(
        model=version.model,
        version=version.version,
        created=version.created,
        run_id=version.run_id,
        learner=tags.get("refit.learner"),
        as_of=tags.get("refit.as_of"),
        seen_until=tags.get("refit.seen_until"),
        snapshot=tags.get("refit.snapshot"),
        git_commit=tags.get("refit.git_commit"),
        git_patch=tags.get("refit.git_patch"),
        params=tags.get("refit.params"),
        constraints=tags.get("refit.constraints"),
        candidate=tags.get("refit.candidate"),
        model_digest=tags.get("refit.model_digest"),
        manifest=tags.get("refit.manifest"),
        batches=tuple(
            UsedBatch(source=each.source, name=each.name, sha256=each.sha256, rows=each.rows, files=each.files)
            for each in batches
        ),
        parents=parents,
        children=children,
        feature_models=feature_models,
        used_by=used_by,
    )


def _parents(store: Store, of: Version) -> Iterator[RelatedVersion]:
    """The parent of a version, then its own parent, as far as the registry knows them."""
    generation, seen = 1, {of.tags.get("refit.model_digest")}
    while (digest := of.tags.get(PARENT_DIGEST)) is not None and digest not in seen:
        seen.add(digest)
        match = NAMED.fullmatch(named := of.tags.get(PARENT, "an unnamed model"))
        if match is None:
            kind: Literal["exported", "pretrained"] = "pretrained" if named.startswith("pretrained ") else "exported"
            yield RelatedVersion(model=named, version=None, model_digest=digest, generation=generation, state=kind)
            return
        number, model = match.groups()
        parent = versions.version(store, model, number)
        state: Literal["registered", "deleted", "altered"] = "registered"
        if parent is None or parent.tags.get("refit.model_digest") != digest:
            state = "altered" if parent else "deleted"
        yield RelatedVersion(model=model, version=number, model_digest=digest, generation=generation, state=state)
        if parent is None or state == "altered":
            return
        of, generation = parent, generation + 1


def _feature_models(store: Store, of: Version) -> Iterator[RelatedVersion]:
    """The versions of other models that compute a version's features, as its tags name them."""
    for key, digest in sorted(of.tags.items()):
        if not key.startswith(f"{USES}."):
            continue
        model, _, number = key.removeprefix(f"{USES}.").rpartition(".")
        other = versions.version(store, model, number)
        state: Literal["registered", "deleted", "altered", "exported"] = "registered"
        if other is None:  # in another registry, or deleted: the model keeps its own copy
            state = "deleted" if versions.registered(store, model).aliases else "exported"
        elif other.tags.get("refit.model_digest") != digest:
            state = "altered"
        yield RelatedVersion(model=model, version=number, model_digest=digest, generation=1, state=state)


def _used_by(store: Store, of: Version) -> Iterator[RelatedVersion]:
    """The versions of any model whose features a version computes."""
    digest = of.tags.get("refit.model_digest")
    for user in versions.with_tag(store, f"{USES}.{of.model}.{of.version}", digest) if digest else ():
        own = user.tags.get("refit.model_digest", "")
        yield RelatedVersion(model=user.model, version=user.version, model_digest=own, generation=1, state="registered")


def _children(store: Store, of: Version) -> Iterator[RelatedVersion]:
    """The versions of any model that were trained from a version, then those trained from them."""
    waiting, seen = [(of, 1)], {(of.model, of.version)}
    while waiting:
        parent, generation = waiting.pop(0)
        digest = parent.tags.get("refit.model_digest")
        for child in versions.with_tag(store, PARENT_DIGEST, digest) if digest else ():
            if (child.model, child.version) in seen:
                continue
            seen.add((child.model, child.version))
            waiting.append((child, generation + 1))
            yield RelatedVersion(
                model=child.model,
                version=child.version,
                model_digest=child.tags.get("refit.model_digest", ""),
                generation=generation,
                state="registered",
            )


def made_from(context: Context, digest: str) -> list[MadeVersion]:
    """Return the versions that were made from a batch or a snapshot, given its digest or the start of it.

    Raises:
        UserError: the digest is too short, or no version was made from such data.
    """
    if len(digest) < 6:
        raise UserError(f"--data {digest}: give at least 6 characters of a batch's or a snapshot's digest")
    model, made = context.params.project.name, []
    with registry_store.opened(context) as store:
        for version in versions.tagged_by_client(store, model, {}):
            names = tuple(each.title for each in _batches(store, version) if each.sha256.startswith(digest))
            if names or version.tags.get("refit.snapshot", "").startswith(digest):
                made.append(
                    MadeVersion(version=version.version, created=version.created, batches=names or ("snapshot",))
                )
    if not made:
        raise UserError(f"no version of {model} was made from data with a digest that begins with {digest}")
    return made


def explain(context: Context, number: str) -> list[str]:
    """Explain why a version is, or is not, the champion: one sentence per event, oldest first.

    Raises:
        UserError: there is no such version.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        lines = [line for line in Ledger.of(store).entries(model) if number in _named(line)]
        if (version := versions.version(store, model, number)) is None and lines:
            return [*map(_format_line, lines), f"It is in the registry no more: {gone(store, model, number)}."]
        version = _version(context, store, number)
        aliases = versions.registered(store, version.model).aliases
        origin = list(_origin(version))
        rolled_back = Ledger.of(store).rolled_back(model, number) is not None
    return [*origin, *map(_format_line, lines), _current_state(version, aliases, lines, rolled_back)]


def gone(store: Store, model: str, number: str) -> str:
    """Say that a model has no version of this number, and under which number it was registered again if it was."""
    if line := Ledger.of(store).restored(model, number):
        return f"version {number} of {model} was deleted in MLflow, version {line.to_version} is the same model"
    return f"{model} has no version {number!r}"


def _version(context: Context, store: Store, number: str) -> Version:
    model = context.params.project.name
    if (version := versions.version(store, model, number)) is None:
        raise UserError(f"{gone(store, model, number)}; `refit history` names those that were judged")
    return version


def _batches(store: Store, version: Version) -> tuple[SnapshotBatch, ...]:
    """Return the batches that a version was made from; none if that is not stored."""
    content = versions.read_file(store, version, SNAPSHOT)
    if not content:
        return ()
    try:
        return Snapshot.from_json(versions.json_object(version, SNAPSHOT, content), "it").batches
    except RefitError as error:
        raise versions.changed(version, SNAPSHOT, str(error).partition("; ")[0]) from None


def _named(line: Entry) -> tuple[str | None, ...]:
    """Return the versions that a line of the ledger is about; a refusal is only about the refused version."""
    return (line.to_version,) if line.action not in MOVES else (line.to_version, line.from_version)


def _origin(of: Version) -> Iterator[str]:
    tags = of.tags
    yield (
        f"Version {of.version} of {of.model} ({tags.get('refit.learner', 'of an unknown learner')}) was registered at "
        f"{of.created}, made from data before {tags.get('refit.seen_until', 'an unknown time')}."
    )
    if PARENT in tags:
        yield f"Its training started from the weights of {tags[PARENT]} (model {tags.get(PARENT_DIGEST, '')[:12]})."
    if "refit.decision" in tags:
        decision = decision_on(of)
        judged = decision.incumbent.version
        against = f"version {judged}" if judged else "the naive baseline, as there was no champion"
        verdict = "promote it" if decision.promote else "refuse it"
        yield f"The gate compared it with {against} and said: {verdict} ({'; '.join(decision.reasons)})."
        yield from (f"It noted: {note}." for note in decision.notes)


def _format_line(line: Entry) -> str:
    why = f"({'; '.join(line.reasons)}; by {line.who}, trigger: {line.trigger})"
    if line.action == "refuse":
        return f"{line.at}: version {line.to_version} was refused {why}."
    if line.action == LIFT:
        return f"{line.at}: promotions need no approval from here on {why}."
    verb = {
        "accept": "was champion when the ledger was accepted as it was",
        "await": "passed the gate and began to wait for a person's approval",
        "promote": "was promoted",
        "overrule": "was promoted against the gate",
        "rollback": "was put back",
        "restore": "was registered again",
    }
    instead = f" in place of version {line.from_version}" if line.from_version not in (None, line.to_version) else ""
    return f"{line.at}: version {line.to_version} {verb[line.action]}{instead} {why}."


def _current_state(version: Version, aliases: Mapping[str, str], lines: list[Entry], rolled_back: bool) -> str:
    champion = aliases.get(CHAMPION)
    if champion == version.version:
        return "It is the champion now."
    if wait := wait_of(lines, version.version):
        return environments.addressed(f"It {wait.state}.")
    if rolled_back:
        state = (
            f"It was the champion and was rolled back; {environments.command(f'promote {version.version}')} makes it "
            "champion again."
        )
    elif aliases.get(PREVIOUS) == version.version:
        state = f"It was the champion before, and can be restored: {environments.command('rollback')}."
    else:
        state = "It is not the champion."
    ever = any(line.action in MOVES and line.to_version == version.version for line in lines)
    return f"{state} Version {champion} is." if ever or champion else f"{state} No version is."
