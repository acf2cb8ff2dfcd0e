"""Finds, checks and copies the model that networks start from (`train.start_from`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from refit.config.section import Name, first_complaint
from refit.config.train import PACKAGED, REGISTERED
from refit.errors import RefitError, UserError
from refit.files.artifacts import FEATURE_SET, STATE, atomic_folder, sha256
from refit.files.yaml_files import YamlTree
from refit.models.incumbent import check_trusted, downloaded, required_tag, signer_of
from refit.models.verification import MODEL, check_stored
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.schemas.artifact import utc_moment
from refit.schemas.feature_table import FeatureTable
from refit.schemas.warm_start import Parent
from registry import signing, versions
from registry.champion import CHAMPION, current_champion
from registry.store import RegistryError, Store
from registry.versions import Version

__all__ = ["FOLDER", "fetched", "fetched_again"]

FOLDER = STATE / "parents"  # checked copies of stored folders
ADVICE = "restore it from a copy, or name another one in train.start_from"


def fetched(context: Context, source: str, recorded: Parent | None = None) -> Parent:
    """The model that `train.start_from` names, with the only local copy of a parent, after checking the files.

    Args:
        recorded: the parent of the last training.

    Raises:
        UserError: there is no such model.
        RefitError: its files are not those that were registered or exported, or the same version was another model
            when it was `recorded`.
    """
    parent = _fetched(context, source, recorded)
    for other in context.path(FOLDER).iterdir():
        if other != context.path(parent.folder):
            shutil.rmtree(other, ignore_errors=True)
    return parent


def fetched_again(context: Context, parent: Parent) -> Path:
    """The checked local copy of the very parent that a version was trained from; other copies stay.

    Raises:
        UserError: it was deleted.
        RefitError: it was altered.
    """
    source = f"models:/{parent.model}/{parent.version}" if parent.version else parent.source
    return context.path(_fetched(context, source, parent).folder)


def _fetched(context: Context, source: str, recorded: Parent | None) -> Parent:
    """The model that `train.start_from` names, with a local copy of its stored folder."""
    match = REGISTERED.fullmatch(source)
    if match is None:
        folder = _folder_of(context, source)
        return (_exported if (folder / "manifest.json").exists() else _pretrained)(context, source, folder, recorded)
    name, alias, number = match.groups()
    with registry_store.opened(context) as store:
        of = _version(store, source, name, alias, number)
        manifest = required_tag(of, "refit.manifest")
        parent = Parent(
            source=source,
            model=name,
            version=of.version,
            model_digest=required_tag(of, "refit.model_digest"),
            manifest=manifest,
            seen_until=utc_moment(required_tag(of, "refit.seen_until")),
            folder=_copy_of(f"{name}-{of.version}", manifest),
        )
        with _naming(parent):
            _require_same(parent, recorded)
            check = partial(check_trusted, context, store, of)
            if _holds(context.path(parent.folder), check):
                _require_stored(store, of, context.path(parent.folder))
            else:
                with downloaded(context, store, of) as stored:
                    check(stored)
                    _take(context, parent, partial(shutil.copytree, stored, dirs_exist_ok=True))
    return parent


def _version(store: Store, source: str, name: str, alias: str | None, number: str | None) -> Version:
    where = f"in the registry at {store.shown}"
    if alias == CHAMPION:
        try:
            of = current_champion(store, name)
        except RegistryError as error:
            raise RefitError(
                f"train.start_from: {source}: {error} (with --project DIR, the project of {name})"
            ) from error
    else:
        number = number or versions.registered(store, name).aliases.get(alias or "")
        of = versions.version(store, name, number) if number else None
    if of is not None:
        return of
    if number and versions.tags_of_deleted(store, name, number):
        raise UserError(f"train.start_from: version {number} of {name} was deleted {where}; {ADVICE}")
    if not versions.registered(store, name).aliases:
        raise UserError(
            f"train.start_from: {source}: there is no model {name!r} {where}; the two projects must name the same "
            "registry.tracking_uri, and the other one must have run"
        )
    what = f"version {number}" if number else f"version with the alias {alias}"
    raise UserError(f"train.start_from: {source}: {name} has no {what} {where}; name another one")


def _folder_of(context: Context, source: str) -> Path:
    """The folder that a path names, or `package:NAME/PATH`: a folder of an installed package, which is not imported."""
    match = PACKAGED.fullmatch(source)
    if match is None:
        return context.project / source
    name, inner = match.groups()
    package = find_spec(name)
    if package is None or not package.submodule_search_locations:
        raise UserError(
            f"train.start_from: {source}: there is no package {name} in this environment; install the distribution "
            "that holds it, or name a folder"
        )
    return Path(package.submodule_search_locations[0], *inner.split("/"))


def _pretrained(context: Context, source: str, path: Path, recorded: Parent | None) -> Parent:
    """The model in a Hugging Face folder, with a local copy of the files that are read of it."""
    from refit.learners.networks.transformer.folder import Folder, unaltered  # only here, as above

    if not (path / "config.json").is_file():
        raise UserError(
            f"train.start_from: {path} is not a folder that `refit export` wrote, nor a Hugging Face folder, which "
            f"has a config.json; {ADVICE}"
        )
    try:
        folder = Folder.read(path)
    except UserError as error:
        raise UserError(f"train.start_from: {error}") from None
    where = path.resolve()
    cached = where.parent.name == "snapshots"  # of Hugging Face's own cache: models--ORGANISATION--NAME/snapshots/...
    name = where.parent.parent.name.removeprefix("models--").replace("--", "/") if cached else where.name
    parent = Parent(
        source=source,
        model=name,
        version=None,
        model_digest=folder.digest,
        manifest=folder.digest,
        seen_until=None,
        folder=_copy_of(name.replace("/", "-"), folder.digest),
        pretrained=True,
    )
    _require_same(parent, recorded)

    def fill(scratch: Path) -> None:
        for each in folder.files:
            (scratch / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / each, scratch / each)
        unaltered(scratch, folder.digest, str(parent))

    if not _holds(context.path(parent.folder), lambda copy: unaltered(copy, folder.digest, str(parent))):
        _take(context, parent, fill)
    return parent


def _exported(context: Context, source: str, folder: Path, recorded: Parent | None) -> Parent:
    """The model in a folder that `refit export` wrote; its signature is checked if the project requires them."""
    from refit import learners  # only here: `refit run` of an unchanged project imports none of their libraries

    if not (folder / MODEL).is_dir():
        raise UserError(f"train.start_from: {folder} is not a folder that `refit export` wrote; {ADVICE}")
    manifest = sha256(folder / "manifest.json")
    try:
        check_stored(folder, manifest)
        if signer := signer_of(context):
            path = folder.with_name(f"{folder.name}.sig")
            signing.verify(folder, path.read_text("utf-8") if path.is_file() else None, signer, str(folder))
        params = yaml.safe_load((folder / "provenance/params.yaml").read_bytes())
        model, features = _name_in(params), FeatureTable.read(folder / MODEL / FEATURE_SET.name)
    except (RefitError, RegistryError, OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise RefitError(f"train.start_from: {folder} is not as `refit export` wrote it: {error}; {ADVICE}") from error
    if recorded and (recorded.source, recorded.manifest) == (source, manifest):
        model_digest = recorded.model_digest
    else:
        with _naming(folder):
            model_digest = learners.load(folder / MODEL, trusted_types=context.params.registry.trusted_types).digest()
    parent = Parent(
        source=source,
        model=model,
        version=None,
        model_digest=model_digest,
        manifest=manifest,
        seen_until=features.windows.validation.seen_until,
        folder=_copy_of(model, manifest),
    )
    _require_same(parent, recorded)
    if not _holds(context.path(parent.folder), lambda copy: check_stored(copy, manifest)):
        _take(context, parent, partial(shutil.copytree, folder, dirs_exist_ok=True))
    return parent


def _name_in(params: YamlTree) -> str:
    """The name of the model in params that are not ours; it becomes a part of the name of a folder."""
    try:
        return TypeAdapter(Name).validate_python(params["project"]["name"])
    except ValidationError as error:
        raise RefitError(f"provenance/params.yaml: project.name: {first_complaint(error)}") from None


def _require_same(parent: Parent, recorded: Parent | None) -> None:
    """Refuse a version or folder that is another model than when it was trained from.

    Raises:
        RefitError: it is.
    """
    if recorded is None or str(recorded) != str(parent) or recorded.manifest == parent.manifest:
        return
    raise RefitError(
        f"train.start_from: {parent} was altered since a training started from it: its manifest was "
        f"{recorded.manifest[:12]} and is {parent.manifest[:12]}; {ADVICE}"
    )


@contextmanager
def _naming(parent: Parent | Path) -> Iterator[None]:
    """Name the parent in errors about its files."""
    try:
        yield
    except (RefitError, RegistryError) as error:
        if str(error).startswith("train.start_from"):
            raise
        raise RefitError(f"train.start_from: {parent} cannot be used: {error}") from error


def _copy_of(name: str, manifest: str) -> str:
    return (FOLDER / f"{name}-{manifest[:12]}").as_posix()


def _holds(copy: Path, check: Callable[[Path], object]) -> bool:
    """Whether there is an intact local copy."""
    try:
        check(copy)
    except (RefitError, RegistryError):
        return False
    return True


def _require_stored(store: Store, of: Version, copy: Path) -> None:
    """Refuse a version whose stored files on this machine are no longer those of the checked copy.

    A store on another machine is not read again.

    Raises:
        RefitError: one is missing or differs.
    """
    stored = versions.stored_at(store, of) if store.database else None
    if not isinstance(stored, Path) or not stored.is_dir():
        return
    for path in sorted(each for each in copy.rglob("*") if each.is_file()):
        original = stored / path.relative_to(copy)
        if not original.is_file() or sha256(original) != sha256(path):
            raise RefitError(f"{original} is missing or is not the file that was registered; {ADVICE}")


def _take(context: Context, parent: Parent, fill: Callable[[Path], object]) -> None:
    """Make the local copy of a parent by a function that fills its folder."""
    with atomic_folder(context.path(parent.folder)) as scratch:
        fill(scratch)
