"""Whom a candidate is judged against: who is in charge, written to a file before `evaluate`, so that DVC can see it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refit.errors import RefitError
from refit.files.artifacts import COMPARAND, FEATURE_SET, TRAINING, digest, read_json, write_json
from refit.models import model_cache, run_logging
from refit.models.verification import MODEL, check_stored
from refit.runtime import run_file
from refit.runtime.context import Context, person
from registry import champion as charge
from registry import signing, versions
from registry.ledger import MOVES, Entry, Ledger
from registry.store import RegistryError, Store
from registry.versions import Version

TAG = "refit.comparand"
STAND_IN = "refit.stand_in"  # the sources of which a version saw generated rows only
CHAMPION, CANDIDATE = "champion", "candidate"  # which of the two was made from them, where the other was not
TEST_TAG = "refit.test"  # digest of the test window that a version was judged on


def refresh(context: Context) -> dict[str, Any]:
    """Write `comparand.json` from the registry, if it says something else by now; returns its content.

    A promotion that was cut off is finished first, if this run may promote.

    Raises:
        RefitError: the ledger says that someone is in charge and the registry has lost it.
    """
    with run_logging.opened(context) as store:
        if context.may_promote:
            finish(context, store)
    content = expected(context)
    path = context.path(COMPARAND)
    if not _says(path, content):
        write_json(path, content)
    return content


def _says(path: Path, content: dict[str, Any]) -> bool:
    """Whether the file holds just this; a torn one does not, and is written anew."""
    try:
        return bool(read_json(path) == content)
    except RefitError:
        return False


def ensure(project: Path) -> None:
    """Write a `comparand.json` that says "nobody", where there is none: on a fresh clone DVC needs the file."""
    if not (project / COMPARAND).is_file():
        write_json(project / COMPARAND, _nobody(run_file.params_of(project).project.name))


def check(context: Context) -> dict[str, Any]:
    """The content of `comparand.json`, once the registry agrees with it on who is in charge.

    The looks may have become more since: another checkout that shares the registry judged a candidate meanwhile.

    Raises:
        RefitError: it does not: someone else took charge since it was written.
    """
    written, content = read_json(context.path(COMPARAND)), expected(context)
    if {**written, "looks": None} != {**content, "looks": None}:
        raise RefitError(
            f"{COMPARAND} names {_named(written)}, the registry {_named(content)}; `refit run` writes it anew"
        )
    result: dict[str, Any] = written
    return result


def expected(context: Context) -> dict[str, Any]:
    """What `comparand.json` has to say now.

    Where the champion *is* the candidate, that is the comparand of the decision that put it in charge: a candidate is
    not judged against itself, and a second run is unchanged.
    """
    model = context.params.project.name
    with run_logging.opened(context) as store:
        champion = charge.champion(store, model)
        looks = _looks(context, store, model)
        if champion is None:
            return _nobody(model) | {"looks": looks}
        if is_candidate(context, champion) and TAG in champion.tags:
            return versions.read_tag(champion, TAG) or {}
        found = {"model": model, **_entry(champion), "anchor": _anchor(store, champion), "looks": looks}
        generated = is_stand_in(champion), _from_stand_in(context)
        return found if generated[0] == generated[1] else {**found, "stand_in": CHAMPION if generated[0] else CANDIDATE}


def fetch_model(context: Context, version: str) -> Path:
    """A checked local copy of a version's candidate folder; made once, kept in `.refit/models/`.

    Raises:
        RefitError: there is no such version, its files are gone, or they are not those that were registered.
    """
    model = context.params.project.name
    with run_logging.opened(context) as store:
        of = versions.version(store, model, version)
        if of is None:
            raise RefitError(f"{model} has no version {version} in the registry at {store.shown}")
        copy = model_cache.place(context, version, required_tag(of, "refit.model_digest"))
        if copy.is_dir():
            try:
                check_trusted(context, store, of, copy)
                model_cache.note(context, of)
                return copy / MODEL
            except RefitError as error:
                context.progress(f"the local copy of version {version} is damaged and is fetched again: {error}")
        with downloaded(context, store, of) as folder:
            check_trusted(context, store, of, folder)
            return model_cache.keep(context, of, folder) / MODEL


def check_champion(context: Context) -> str | None:
    """The champion's version, once its stored files are shown to be those registered; none where nobody is in charge.

    Where it has no local copy yet, they become it.

    Raises:
        RefitError: naming the file that is gone or differs: it could not be put back in charge.
    """
    with run_logging.opened(context) as store:
        of = charge.champion(store, context.params.project.name)
        if of is None:
            return None
        try:
            with downloaded(context, store, of) as folder:
                check_trusted(context, store, of, folder)
                if not model_cache.place(context, of.version, required_tag(of, "refit.model_digest")).is_dir():
                    model_cache.keep(context, of, folder)
        except (RefitError, RegistryError) as error:
            raise RefitError(f"{error}; {_what_it_means(context, store, of)}") from error
    return str(of.version)


def _what_it_means(context: Context, store: Store, of: Version) -> str:
    """What goes on, and what to do, where the files that the artifact store has of the champion are not its own."""
    copy = model_cache.place(context, of.version, required_tag(of, "refit.model_digest"))
    try:
        check_trusted(context, store, of, copy)
    except (RefitError, RegistryError):
        return "nothing is scored with it"
    return (
        f"`refit score` goes on here with the checked copy in {copy.relative_to(context.project)}; restore the stored "
        "files, which only MLflow would load, from a copy, or from that one"
    )


def check_trusted(context: Context, store: Store, of: Version, folder: Path) -> None:
    """Check that a stored folder is the version that was registered, before anything in it is loaded, and that it is
    signed, where `registry.signing` asks for that.

    Raises:
        RefitError: naming the file that differs, or who disagrees.
        RegistryError: it is not signed as it has to be.
    """
    check_registered(store, of, folder)
    if signer := signer_of(context):
        signing.verify(folder, of.tags.get(signing.TAG), signer, f"version {of.version} of {of.model}")


def check_registered(store: Store, of: Version, folder: Path) -> None:
    """Check every file of a stored folder against its manifest, and that against the registry, and against the ledger
    where it has a line about the version.

    Raises:
        RefitError: naming the file that differs, or who disagrees.
    """
    manifest = required_tag(of, "refit.manifest")
    check_stored(folder, manifest)
    for line in Ledger.beside(store).entries(of.model):
        recorded = line.digests.get("manifest")
        if line.to_version == of.version and recorded is not None and recorded != manifest:
            raise RefitError(
                f"version {of.version} of {of.model} is not the one that was judged: the ledger recorded manifest "
                f"{recorded[:12]} ({line.action}, {line.at}), the registry has {manifest[:12]}; restore the registry "
                "from a copy"
            )


def signer_of(context: Context) -> signing.Signer | None:
    """Who signs the project's versions; None where they need no signature."""
    asked = context.params.registry.signing
    if asked is None:
        return None
    return signing.Signer(context.path(asked.public_key) if asked.public_key else None, asked.identity, asked.issuer)


@contextmanager
def downloaded(context: Context, store: Store, of: Version) -> Iterator[Path]:
    """A copy of a version's stored folder, fresh from the artifact store; what a killed run left behind goes too."""
    home = context.path(model_cache.MODELS)
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(".copy-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".copy-", dir=home) as scratch:
        yield versions.download(store, of, Path(scratch))


def required_tag(of: Version, key: str) -> str:
    """A tag that every version registered by Refit has."""
    if key not in of.tags:
        raise RefitError(
            f"version {of.version} of {of.model} has no tag {key}: Refit did not register it; "
            'put one of its own in charge with `refit promote VERSION --why "..."`'
        )
    return of.tags[key]


def finish(context: Context, store: Store) -> None:
    """Finish the promotion that a killed process left half-done, and say so; chain a ledger of an older Refit.

    Raises:
        RegistryError: the ledger is not as it was written.
    """
    now = context.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    if entry := charge.finish_pending(store, context.params.project.name, at=now):
        done = "finished" if entry.action in MOVES else "gave up"
        context.progress(f"{done} the promotion of version {entry.to_version} that was cut off")
    if older := charge.examine_ledger(store, context.params.project.name).unchained:
        why = (
            f"taken over with {older} line{'s' if older > 1 else ''} of an older Refit; from here on digests chain them"
        )
        accept_ledger(context, store, why)
        context.progress(f"the ledger is {why}")


def accept_ledger(context: Context, store: Store, why: str) -> None:
    """Take the ledger's lines over as they stand: one line that covers them all says who did so and why."""
    model = context.params.project.name
    in_charge = versions.registered(store, model).aliases.get(charge.CHAMPION)
    charge.record(
        store,
        Entry(
            key=f"{model}:accept:{secrets.token_hex(8)}",
            at=context.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            who=person(),
            trigger=context.trigger,
            action="accept",
            model=model,
            from_version=in_charge,
            to_version=in_charge or "0",
            reasons=(why,),
        ),
    )


def is_candidate(context: Context, champion: Version) -> bool:
    """Whether a version is the candidate that lies in the project's files."""
    if not context.path(TRAINING).is_file():
        return False
    return all(
        champion.tags.get(key) == value
        for key, value in run_logging.identity(read_json(context.path(TRAINING))).items()
    )


def is_stand_in(of: Version) -> bool:
    """Whether a version was made from generated rows."""
    return STAND_IN in of.tags


def _from_stand_in(context: Context) -> bool:
    """Whether the candidate in the project's files was."""
    path = context.path(FEATURE_SET)
    return path.is_file() and bool(read_json(path).get("stand_in"))


def _looks(context: Context, store: Store, model: str) -> int:
    """How many other candidates were judged on the candidate's test window: each look makes a false gain likelier."""
    if not (context.path(FEATURE_SET).is_file() and context.path(TRAINING).is_file()):
        return 0
    window = read_json(context.path(FEATURE_SET))["windows"]["test"]
    judged = versions.tagged(store, model, TEST_TAG, digest({key: window[key] for key in ("start", "end")}))
    generated = _from_stand_in(context)
    return sum(is_stand_in(each) == generated and not is_candidate(context, each) for each in judged)


def _anchor(store: Store, champion: Version) -> dict[str, Any] | None:
    number = versions.registered(store, champion.model).tags.get(versions.ANCHOR)
    found = versions.version(store, champion.model, number) if number else None
    return _entry(found or champion)


def _entry(of: Version) -> dict[str, Any]:
    return {
        "version": of.version,
        "model_digest": required_tag(of, "refit.model_digest"),
        "seen_until": required_tag(of, "refit.seen_until"),
        "split": of.tags.get("refit.split"),
    }


def _nobody(model: str) -> dict[str, Any]:
    return {"model": model, "version": None, "model_digest": None, "seen_until": None, "anchor": None, "looks": 0}


def _named(content: dict[str, Any]) -> str:
    return f"version {content['version']}" if content.get("version") else "nobody"
