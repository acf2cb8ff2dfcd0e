"""The incumbent that a candidate is compared with, written to a file before `evaluate`, so that DVC tracks it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from refit.errors import RefitError, counted
from refit.files.artifacts import COMPARAND, FEATURE_SET, TRAINING, digest
from refit.files.scratch_folders import scratch_folder
from refit.models import model_cache
from refit.models.verification import MODEL, check_stored
from refit.runtime import project_requirements, registry_store, run_file
from refit.runtime.context import Context, person
from refit.schemas.artifact import Artifact, utc_moment, utc_text
from refit.schemas.feature_table import FeatureTable
from refit.schemas.incumbent import CANDIDATE, CHAMPION, Incumbent, RegisteredModel
from refit.schemas.training import Training
from registry import signing, versions
from registry.champion import CHAMPION as CHAMPION_ALIAS
from registry.champion import alias_mismatch, current_champion, examine_ledger, finish_pending, record, warnings
from registry.ledger import MOVES, NO_VERSION, Entry, Ledger
from registry.store import RegistryError, Store
from registry.versions import Version

TAG = "refit.comparand"
PARENT = "refit.parent"  # tag: the model whose weights a training started from, such as `version 3 of digits_base`
USES = "refit.uses"  # tag, with `.MODEL.VERSION`: the digest of a version of another model that computes features
PARENT_DIGEST = "refit.parent_digest"  # tag: the digest of that model
RECIPE = "refit.recipe"  # tag: digest of the code and params that a version was made by
STAND_IN = "refit.stand_in"  # tag: the sources whose rows were generated when a version was trained
TEST_TAG = "refit.test"  # tag: digest of the test window on which a version was evaluated

A = TypeVar("A", bound=Artifact)
Identity: TypeAlias = tuple[str | None, str | None]  # digests of a candidate's inputs and of its model


def refresh(context: Context) -> Incumbent:
    """Write `comparand.json` from the registry if it is out of date. Returns its content.

    An interrupted promotion is finished first, if this run may promote.

    Raises:
        RefitError: the ledger names a champion that the registry has lost.
    """
    with registry_store.opened(context) as store:
        if context.may_promote:
            finish(context, store)
    content = expected(context)
    path = context.path(COMPARAND)
    if not _holds(path, content):
        content.write(path)
    return content


def _holds(path: Path, content: Incumbent) -> bool:
    """Whether the file holds exactly this content; False if it is damaged."""
    try:
        return Incumbent.read(path) == content
    except RefitError:
        return False


def ensure(project: Path) -> None:
    """Write a `comparand.json` without a champion if there is none: DVC needs the file on a fresh clone."""
    if not (project / COMPARAND).is_file():
        Incumbent(model=run_file.params_of(project).project.name).write(project / COMPARAND)


def check(context: Context) -> Incumbent:
    """The content of `comparand.json`, after checking that the registry names the same champion.

    The number of looks may differ: another checkout that shares the registry may have evaluated a candidate since.

    Raises:
        RefitError: another version was promoted since the file was written.
    """
    written, content = Incumbent.read(context.path(COMPARAND)), expected(context)
    if written.model_copy(update={"looks": content.looks}) != content:
        raise RefitError(f"{COMPARAND} names {written}, the registry {content}; `refit run` writes it again")
    return written


def expected(context: Context) -> Incumbent:
    """The content that `comparand.json` should have now.

    If the champion *is* the candidate, the content comes from the decision that promoted it: a candidate is not
    compared with itself, and a second run stays unchanged.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        champion = current_champion(store, model)
        looks = _looks(context, store, model)
        if champion is None:
            return Incumbent(model=model, looks=looks)
        if is_candidate(context, champion) and TAG in champion.tags:
            return from_tag(champion, TAG, Incumbent)
        content = Incumbent(model=model, **dict(_entry(champion)), anchor=_anchor(store, champion), looks=looks)
        generated = is_stand_in(champion), _from_stand_in(context)
        if generated[0] == generated[1]:
            return content
        return content.model_copy(update={"stand_in": CHAMPION if generated[0] else CANDIDATE})


def fetch_model(context: Context, version: str) -> Path:
    """A checked local copy of the candidate folder of a version, cached in `.refit/models/`.

    Raises:
        RefitError: there is no such version, its files are missing, they are not those that were registered, or it
            was trained with a package of the project that is not installed here.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:
        of = versions.version(store, model, version)
        if of is None:
            raise RefitError(f"{model} has no version {version} in the registry at {store.shown}")
        copy = model_cache.copy_path(context, version, required_tag(of, "refit.model_digest"))
        stored: Path | None = None
        if copy.is_dir():
            try:
                check_trusted(context, store, of, copy)
                model_cache.note(context, of)
                stored = copy
            except RefitError as error:
                context.progress(f"the local copy of version {version} is damaged and is fetched again: {error}")
        if stored is None:
            with downloaded(context, store, of) as folder:
                check_trusted(context, store, of, folder)
                stored = model_cache.add(context, of, folder)
    for difference in project_requirements.check_recorded(stored, f"version {version} of {model}"):
        context.progress(difference)
    return stored / MODEL


def check_champion(context: Context) -> str | None:
    """The champion's version, after checking its stored files; None if there is no champion.

    The files become its local copy if it has none yet.

    Raises:
        RefitError: a file is missing or differs, so that a rollback to it would fail; the message names the file.
    """
    with registry_store.opened(context) as store:
        of = current_champion(store, context.params.project.name)
        if of is None:
            return None
        try:
            with downloaded(context, store, of) as folder:
                check_trusted(context, store, of, folder)
                if not model_cache.copy_path(context, of.version, required_tag(of, "refit.model_digest")).is_dir():
                    model_cache.add(context, of, folder)
        except (RefitError, RegistryError) as error:
            raise RefitError(f"{error}; {_advice(context, store, of)}") from error
    return str(of.version)


def _advice(context: Context, store: Store, of: Version) -> str:
    """What still works and what to do when the champion's files in the artifact store are not those registered."""
    copy = model_cache.copy_path(context, of.version, required_tag(of, "refit.model_digest"))
    try:
        check_trusted(context, store, of, copy)
    except (RefitError, RegistryError):
        return "nothing is scored with it"
    return (
        f"`refit score` goes on here with the checked copy in {copy.relative_to(context.project)}; restore the stored "
        "files, which only MLflow would load, from a copy, or from that one"
    )


def check_trusted(context: Context, store: Store, of: Version, folder: Path) -> None:
    """Check that a stored folder is the registered version, before anything in it is loaded.

    Its signature is checked too if `registry.signing` requires one.

    Raises:
        RefitError: a file differs, or the registry and the ledger disagree; the message says which.
        RegistryError: it lacks the required signature.
    """
    check_registered(store, of, folder)
    if signer := signer_of(context):
        signing.verify(folder, of.tags.get(signing.TAG), signer, f"version {of.version} of {of.model}")


def check_registered(store: Store, of: Version, folder: Path) -> None:
    """Check a stored folder against its manifest, and the manifest against the registry and the ledger.

    Raises:
        RefitError: a file differs, or the registry and the ledger disagree; the message says which.
    """
    manifest = required_tag(of, "refit.manifest")
    check_stored(folder, manifest)
    for line in Ledger.of(store).entries(of.model):
        recorded = line.digests.get("manifest")
        if line.to_version == of.version and recorded is not None and recorded != manifest:
            raise RefitError(
                f"version {of.version} of {of.model} is not the one that was judged: the ledger recorded manifest "
                f"{recorded[:12]} ({line.action}, {line.at}), the registry has {manifest[:12]}; restore the registry "
                "from a copy"
            )


def signer_of(context: Context) -> signing.Signer | None:
    """The accepted signer of the project's versions; None if they need no signature."""
    settings = context.params.registry.signing
    if settings is None:
        return None
    return signing.Signer(
        context.path(settings.public_key) if settings.public_key else None,
        settings.identity,
        settings.issuer,
    )


@contextmanager
def downloaded(context: Context, store: Store, of: Version) -> Iterator[Path]:
    """A fresh copy of the stored folder of a version; also removes copies left by killed processes.

    Errors within the block name the stored files in place of the copies.
    """
    with scratch_folder(context.path(model_cache.MODELS), model_cache.COPY) as scratch:
        folder = versions.download(store, of, scratch)
        try:
            yield folder
        except (RefitError, RegistryError) as error:
            if str(folder) not in str(error):
                raise
            raise type(error)(str(error).replace(str(folder), str(versions.stored_at(store, of)))) from error


def required_tag(of: Version, key: str) -> str:
    """The value of a tag that every version registered by Refit has."""
    if key not in of.tags:
        raise RefitError(
            f"version {of.version} of {of.model} has no tag {key}: Refit did not register it, so that nothing can be "
            'compared with it; promote one of its own with `refit promote VERSION --why "..."`, or, where there is '
            "none yet, remove the alias in MLflow: the next `refit run` then compares with the naive baseline"
        )
    return of.tags[key]


def from_tag(of: Version, key: str, kind: type[A]) -> A:
    """The stored file that a tag of a version repeats.

    Raises:
        RefitError: there is no such tag, or a newer Refit wrote it.
        RegistryError: the tag was changed in MLflow since Refit wrote it.
    """
    content = versions.json_object(of, f"the tag {key}", required_tag(of, key))
    try:
        return kind.parse(content, f"the tag {key} of version {of.version} of {of.model}")
    except ValueError as error:
        raise versions.changed(of, f"the tag {key}", str(error)) from None


def finish(context: Context, store: Store) -> Entry | None:
    """Finish the move that a killed process left half-done, and report it; chain a ledger of an older Refit.

    Returns the line of that move; None if none was left half-done.

    Raises:
        RegistryError: the ledger was changed.
    """
    now = utc_text(context.now(), "seconds")
    if entry := finish_pending(store, context.params.project.name, at=now):
        done = "finished" if entry.action in MOVES else "gave up"
        move = "rollback to" if entry.action == "rollback" else "promotion of"
        context.progress(f"{done} the {move} version {entry.to_version} that was cut off")
    for warning in warnings(store, context.params.project.name):
        context.progress(f"warning: {warning}")
    if older := examine_ledger(store, context.params.project.name).unchained:
        why = f"taken over with {counted(older, 'line')} of an older Refit; from here on digests chain them"
        accept_ledger(context, store, why)
        context.progress(f"the ledger is {why}")
    return entry


def require_ledgers_champion(context: Context, store: Store) -> None:
    """Refuse to replace a champion that Refit did not promote: nothing judged it, so beating it shows nothing.

    Raises:
        RegistryError: the champion's alias was set outside of Refit.
    """
    if problem := alias_mismatch(store, context.params.project.name):
        raise RegistryError(f"{problem}; until then no run promotes")


def accept_ledger(context: Context, store: Store, why: str) -> None:
    """Accept the ledger as it is, with one line that covers all lines and records the person and the reason."""
    record_by_person(context, store, "accept", why)


def record_by_person(context: Context, store: Store, action: Literal["accept", "lift"], why: str) -> None:
    """Add a line to the ledger that says what a person decided, and leaves the champion as it is."""
    model = context.params.project.name
    champion = versions.registered(store, model).aliases.get(CHAMPION_ALIAS)
    record(
        store,
        Entry(
            key=f"{model}:{action}:{secrets.token_hex(8)}",
            at=utc_text(context.now(), "seconds"),
            who=person(),
            trigger=context.trigger,
            action=action,
            model=model,
            from_version=champion,
            to_version=champion or NO_VERSION,
            reasons=(why,),
        ),
    )


def champion_that_is_candidate(context: Context) -> str | None:
    """The champion's version if the champion is the candidate in the project's files."""
    with registry_store.opened(context) as store:
        champion = current_champion(store, context.params.project.name)
    return champion.version if champion and is_candidate(context, champion) else None


def is_candidate(context: Context, champion: Version) -> bool:
    """Whether a version is the candidate in the project's files."""
    if not context.path(TRAINING).is_file():
        return False
    return all(champion.tags.get(key) == value for key, value in Training.read(context.path(TRAINING)).identity.items())


def is_stand_in(of: Version) -> bool:
    """Whether a version was trained on generated rows."""
    return STAND_IN in of.tags


def _from_stand_in(context: Context) -> bool:
    """Whether the candidate in the project's files was trained on generated rows."""
    path = context.path(FEATURE_SET)
    return path.is_file() and bool(FeatureTable.read(path).stand_in)


def _looks(context: Context, store: Store, model: str) -> int:
    """How many other candidates were judged on the same test window, also those deleted or judged again since."""
    if not (context.path(FEATURE_SET).is_file() and context.path(TRAINING).is_file()):
        return 0
    window = digest(FeatureTable.read(context.path(FEATURE_SET)).windows.test.bounds)
    generated = _from_stand_in(context)
    judged = _judged(store, model, window, generated)
    return len(judged - {_identity(Training.read(context.path(TRAINING)).identity)})


def judged_meanwhile(store: Store, of: Version, looks: int) -> bool:
    """Whether more than `looks` other candidates were registered with the version's test window before it."""
    earlier = _judged(store, of.model, of.tags.get(TEST_TAG, ""), is_stand_in(of), up_to=int(of.version))
    return len(earlier - {_identity(of.tags)}) > looks


def _judged(store: Store, model: str, window: str, generated: bool, *, up_to: float = math.inf) -> set[Identity]:
    """The candidates that were judged on a test window, by versions and, for those of real rows, the ledger's lines."""
    there = versions.tagged(store, model, TEST_TAG, window)
    found = {_identity(each.tags) for each in there if is_stand_in(each) == generated and int(each.version) <= up_to}
    if not generated:
        found |= {
            (line.digests.get("candidate"), line.digests.get("model_digest"))
            for line in Ledger.of(store).entries(model)
            if line.digests.get("test") == window and int(line.to_version) <= up_to
        }
    return found


def _identity(tags: Mapping[str, str]) -> Identity:
    return tags.get("refit.candidate"), tags.get("refit.model_digest")


def _anchor(store: Store, champion: Version) -> RegisteredModel:
    number = versions.registered(store, champion.model).tags.get(versions.ANCHOR)
    version = versions.version(store, champion.model, number) if number else None
    return _entry(version or champion)


def _entry(of: Version) -> RegisteredModel:
    return RegisteredModel(
        version=of.version,
        model_digest=required_tag(of, "refit.model_digest"),
        seen_until=_moment(of, "refit.seen_until"),
        split=of.tags.get("refit.split"),
    )


def _moment(of: Version, key: str) -> datetime:
    """The time in a tag of a version."""
    try:
        moment = utc_moment(required_tag(of, key))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise versions.changed(of, f"the tag {key}", f"{of.tags[key][:80]!r} is no time in UTC")
    return moment
