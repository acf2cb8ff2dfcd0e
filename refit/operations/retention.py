"""Plans and carries out deletions; keeps all possible champions, and everything needed to reproduce kept versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from refit.errors import RefitError, counted
from refit.files import artifacts
from refit.files.artifacts import STATE
from refit.files.deletion import is_inside, remove
from refit.files.scratch_folders import abandoned
from refit.models import model_cache
from refit.models.incumbent import PARENT_DIGEST, USES
from refit.runtime import dvc_runner, lock, registry_store
from refit.runtime.context import Context
from refit.schemas.snapshot import Snapshot
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart
from refit.storage import drift_decisions
from refit.storage.prediction_log import LOG
from refit.storage.shared_log import SharedLog, day_named, day_of
from registry import approval, champion, deletion, studies, versions
from registry.deletion import Run
from registry.ledger import Ledger
from registry.locking import registry_lock
from registry.records import Records
from registry.store import RegistryError, Store
from registry.versions import Version

Kind = Literal[
    "version", "run", "local copy", "cache", "predictions", "decisions", "quarantine", "replay", "search", "leftover"
]
REPLAYS = STATE / "replay"  # what a replay keeps for the next one


@dataclass(frozen=True)
class Item:
    """One item to delete: files, or a version or run of MLflow with its artifacts."""

    kind: Kind
    what: str
    bytes: int
    why: str
    files: tuple[Path, ...] = ()
    version: Version | None = None
    runs: tuple[Run, ...] = ()
    predicted: tuple[str, ...] = ()  # files of the shared prediction log
    decided: tuple[str, ...] = ()  # recorded decisions on drift
    study: str | None = None  # of the database that all machines share


@dataclass(frozen=True)
class DeletionPlan:
    """All items to delete, in order; the versions that stay, with reasons; and notes on what is left alone."""

    items: tuple[Item, ...]
    stay: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


def collect(context: Context, *, delete: bool = False) -> DeletionPlan:
    """Plan what `params.yaml: retention` allows to delete, and delete it on request.

    The caller holds the project's lock. If interrupted, it can be called again: a version is deleted before its
    artifacts, and a mark on its run shows that they remain. The ledger is never changed.

    Raises:
        RefitError: the champion is lost, or a version that stays cannot be read, so that its needs are unknown.
    """
    with registry_store.opened(context) as store, registry_lock(store), dvc_runner.cache(context.project) as cache:
        if delete:
            champion.require_own_ledger(store, context.params.project.name)
        plan = _plan(context, store, cache)
        if delete:
            for item in plan.items:
                context.progress(f"deleting {item.kind}: {item.what}")
                _delete(context, store, item)
    return plan


def _delete(context: Context, store: Store, item: Item) -> None:
    if item.predicted and (log := SharedLog.of(context, store)):
        log.remove(list(item.predicted))
    if item.decided:
        Records(store, context.params.project.name).forget("drift", item.decided)
    if item.study and store.ledger_uri:
        studies.delete(store.ledger_uri, item.study)
    if item.version:
        deletion.delete_version(store, item.version)
    for run in item.runs:
        deletion.delete_run(store, run)
    for path in item.files:
        remove(path)


def _plan(context: Context, store: Store, cache: dvc_runner.Cache | None) -> DeletionPlan:
    model = context.params.project.name
    champion.current_champion(store, model)  # raises if it is lost: `refit repair` needs what would be deleted here
    every = versions.tagged_by_client(store, model, {}) if store.exists else []
    stay = _staying(context, store, every)
    replaying = lock.is_held(context.path(REPLAYS))
    items = [
        *_leftovers(context),
        *(() if replaying else _replays(context)),
        *(_models(context, store, every, stay) if store.exists else ()),
        *_local_copies(context, stay),
        *_predictions(context, store),
        *_decisions(context, store),
        *_quarantine(context),
    ]
    items, notes = _own(context.project, items)
    for path in _undated(context, store):
        notes.append(f"{path} is left alone: its name says no time; delete it there, if it is to go")
    if replaying:
        notes.append(f"{REPLAYS} is left alone: a replay is under way")
    try:
        items += _searches(context, store)
    except RegistryError as error:
        notes.append(f"stored searches are left alone: {error}")
    try:
        items += _cached(context, store, cache, [each for each in every if each.version in stay])
    except RefitError as error:
        notes.append(f"DVC's cache is left alone: {error}")
    return DeletionPlan(tuple(items), stay, tuple(notes))


def _own(project: Path, items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Split off what lies neither in the project nor in MLflow's folder of a run; return the rest, and notes on it."""
    own, elsewhere = list[Item](), dict[str, list[Item]]()
    for item in items:
        paths = () if item.kind == "cache" else item.files  # DVC's repository may be larger than the project
        outside = sorted({path.parent for path in paths if not is_inside(project, path)})
        reasons = [f"{path} leads to {path.resolve()}, outside of the project" for path in outside]
        reasons += [f"its files are said to be in {run.foreign_location}" for run in item.runs if run.foreign_location]
        (elsewhere.setdefault(reasons[0], []) if reasons else own).append(item)
    notes = []
    for reason, (first, *more) in elsewhere.items():
        others = f" (and {len(more):,} more)" if more else ""
        notes.append(f"{first.kind} {first.what}{others} is left alone: {reason}; delete it there, if it is to go")
    return own, notes


def _staying(context: Context, store: Store, every: Sequence[Version]) -> dict[str, str]:
    """The versions that stay, each with its reason."""
    model, limit = context.params.project.name, context.params.retention.versions
    registered, pending = versions.registered(store, model), Ledger.of(store).pending(model)
    there = {each.version: each for each in every}
    reasons = (
        {number: "a move to or from it is under way" for number in (pending.to_version, pending.from_version) if number}
        if pending
        else {}
    )
    waits = approval.waits(Ledger.of(store).entries(model))
    reasons |= {each.version: "waits for approval" for each in waits}
    newest = sorted(there, key=int, reverse=True)
    reasons |= dict.fromkeys(newest[:limit], "among the newest")
    if anchor := registered.tags.get(versions.ANCHOR):
        reasons |= {anchor: "anchor"}
    for number in set(registered.aliases.values()):
        reasons[number] = ", ".join(sorted(alias for alias, named in registered.aliases.items() if named == number))
    reasons = {number: why for number, why in reasons.items() if number in there}
    name = artifacts.WARM_START.name
    for number in list(reasons):  # a warm start can only be reproduced from its own start model
        content = _provenance(store, there[number], name)
        stored = versions.json_object(there[number], name, content) if content else {"version": None}
        if (start := WarmStart.from_json(stored, name).version) in there:
            reasons.setdefault(start, f"version {number} was trained on from it")
    for each in every:  # the same holds for a version of another project
        digest = each.tags.get("refit.model_digest")
        if each.version in reasons or digest is None:
            continue
        for child in versions.with_tag(store, PARENT_DIGEST, digest):
            reasons.setdefault(each.version, f"version {child.version} of {child.model} was trained from it")
        for user in versions.with_tag(store, f"{USES}.{model}.{each.version}", digest):
            reasons.setdefault(each.version, f"it computes features of version {user.version} of {user.model}")
    return dict(sorted(reasons.items(), key=lambda entry: int(entry[0])))


def _provenance(store: Store, of: Version, name: str) -> bytes | None:
    return versions.read_file(store, of, f"provenance/{name}")


def _models(context: Context, store: Store, every: Sequence[Version], stay: Mapping[str, str]) -> Iterator[Item]:
    """Versions that do not stay, and runs that led to no version, each with its artifacts."""
    retention, name = context.params.retention, context.params.project.name
    runs = {run.run_id: run for run in deletion.runs(store, name)}
    needed = {each.run_id for each in every if each.version in stay}
    claimed: set[str | None] = set()
    for each in every:
        if each.version in stay:
            continue
        own = [runs[each.run_id]] if each.run_id in runs and each.run_id not in needed | claimed else []
        watched = [run for run in runs.values() if run.tags.get("refit.drift") == each.version]
        claimed |= {run.run_id for run in (*own, *watched)}
        learner = each.tags.get("refit.learner", "of an unknown learner")
        why = f"older than the newest {retention.versions}"
        size = sum(run.bytes for run in (*own, *watched))
        yield Item("version", f"{each.version} ({learner})", size, why, version=each, runs=(*own, *watched))
    present = _present(context)
    oldest = _before(context.now(), retention.runs_days)
    versioned = {each.run_id for each in every} | claimed
    for run in runs.values():
        if run.run_id in versioned:
            continue
        if deletion.MARK in run.tags:
            yield Item("run", run.name, run.bytes, "its deletion was cut off", runs=(run,))
        elif "refit.candidate" in run.tags and run.started < oldest and run.tags["refit.candidate"] != present:
            why = f"no version came of it, and it is older than {retention.runs_days:g} days"
            yield Item("run", run.name, run.bytes, why, runs=(run,))


def _present(context: Context) -> str | None:
    """The candidate in the project's files, which a run may be about to register."""
    path = context.path(artifacts.TRAINING)
    return Training.read(path).inputs if path.is_file() else None


def _local_copies(context: Context, stay: Mapping[str, str]) -> Iterator[Item]:
    for folder in sorted(context.path(model_cache.MODELS).glob("[0-9]*-*")):
        if folder.name.partition("-")[0] not in stay:
            yield _files("local copy", f"version {folder.name.partition('-')[0]}", "the version does not stay", folder)
    for note in sorted(context.path(model_cache.RECORDS).glob("[0-9]*.json")):
        if note.stem not in stay:
            yield _files("local copy", f"note of version {note.stem}", "the version does not stay", note)


def _cached(
    context: Context, store: Store, cache: dvc_runner.Cache | None, staying: Sequence[Version]
) -> Iterator[Item]:
    if cache is None or not context.params.retention.cache:
        return
    if cache.shared:
        raise RefitError("it lies outside of the repository, and other checkouts may use it; `dvc gc` knows how")
    contents = {f"version {each.version}": _provenance(store, each, "dvc.lock") for each in staying}
    locks = {owner: content for owner, content in contents.items() if content}
    if unused := cache.unused(locks):
        why = "no commit, no version that stays and no present stage refers to it"
        yield _files("cache", f"{counted(len(unused), 'object')} of DVC's cache", why, *unused)


def _predictions(context: Context, store: Store) -> Iterator[Item]:
    log = SharedLog.of(context, store)
    shared = log.names() if log else []
    days = {day: path for path in context.path(LOG).glob("day=*") if (day := day_named(path.name))}
    days |= {day_of(Path(name)): context.path(LOG) / Path(name).parent for name in shared}
    keep = context.params.retention.predictions_days
    if keep is None or not days:
        return
    for day, path in sorted(days.items()):
        if day < max(days) - timedelta(days=keep):
            item = _files("predictions", f"{day}", f"more than {keep:g} days before the newest", path)
            yield replace(item, predicted=tuple(name for name in shared if day_of(Path(name)) == day))


def _decisions(context: Context, store: Store) -> Iterator[Item]:
    stored = drift_decisions.names(context, store)
    keep = context.params.retention.decisions_days
    if keep is None or not stored:
        return
    moments = {name: moment for name in stored if (moment := _moment(name))}
    for name, moment in sorted(moments.items(), key=lambda each: (each[1], each[0])):
        if moment < max(moments.values()) - timedelta(days=keep):
            file = context.path(drift_decisions.DECISIONS) / f"{name}.json"
            item = _files("decisions", file.name, f"more than {keep:g} days before the newest", file)
            yield replace(item, decided=(name,))


def _moment(name: str) -> datetime | None:
    """The time that the name of a recorded decision says; None for a file of another name."""
    try:
        return datetime.strptime(name.partition(".")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _undated(context: Context, store: Store) -> list[Path]:
    """What lies among predictions and decisions under a name without a time, of which no age is known."""
    days = [path for path in sorted(context.path(LOG).glob("day=*")) if day_named(path.name) is None]
    decisions = [name for name in drift_decisions.names(context, store) if _moment(name) is None]
    paths = [*days, *(context.path(drift_decisions.DECISIONS) / f"{name}.json" for name in decisions)]
    return [path.relative_to(context.project) for path in paths]


def _quarantine(context: Context) -> Iterator[Item]:
    """Refused rows of batches outside the snapshot; those of other batches would be written again at once."""
    keep, folder = context.params.retention.quarantine_days, context.path(artifacts.QUARANTINE)
    if keep is None or not context.path(artifacts.SNAPSHOT).is_file():
        return
    seen = {(batch.source, batch.name) for batch in Snapshot.read(context.path(artifacts.SNAPSHOT)).batches}
    for path in sorted(folder.glob("*/*.parquet")):
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if (path.parent.name, path.stem) not in seen and written < _before(context.now(), keep):
            why = f"the snapshot has no such batch, and it is older than {keep:g} days"
            yield _files("quarantine", f"{path.parent.name} {path.stem}", why, path)


def _searches(context: Context, store: Store) -> Iterator[Item]:
    """Trials of searches in the shared database, of which only a run with the same data, code and params makes use."""
    keep = context.params.retention.runs_days
    if store.ledger_uri is None or keep is None:
        return
    for name, last in sorted(studies.last_used(store.ledger_uri, context.params.project.name).items()):
        if last < _before(context.now(), keep):
            yield Item("search", name, 0, f"nothing was stored in it for more than {keep:g} days", study=name)


def _leftovers(context: Context) -> Iterator[Item]:
    state = context.path(STATE)
    left = [
        *artifacts.scraps(context.project),
        *abandoned(context.path(model_cache.MODELS), model_cache.COPY),
        *state.glob("reproduce/*"),
        *(each for name in ("moving", "moved-*") for each in state.glob(name)),
        *state.glob("dvc.lock.torn-*"),
    ]
    for path in sorted(left):
        yield _files("leftover", str(path.relative_to(context.project)), "a run that was killed left it", path)


def _replays(context: Context) -> Iterator[Item]:
    if (replays := context.path(REPLAYS)).is_dir():
        yield _files("replay", str(REPLAYS), "models and features that the next replay would make again", replays)


def _files(kind: Kind, what: str, why: str, *paths: Path) -> Item:
    inside = [file for path in paths for file in ([path] if path.is_symlink() or path.is_file() else path.rglob("*"))]
    return Item(kind, what, sum(file.lstat().st_size for file in inside if not file.is_dir()), why, files=paths)


def _before(now: datetime, days: float | None) -> datetime:
    """The time so many days ago; None means the earliest possible time."""
    return datetime.min.replace(tzinfo=UTC) if days is None else now - timedelta(days=days)


def as_json(plan: DeletionPlan, *, deleted: bool) -> dict[str, object]:
    """A plan as `refit gc --json` prints it."""
    return {
        "deleted": deleted,
        "bytes": plan.bytes,
        "items": [{"kind": item.kind, "what": item.what, "bytes": item.bytes, "why": item.why} for item in plan.items],
        "versions_kept": dict(plan.stay),
        "left_alone": list(plan.notes),
    }
