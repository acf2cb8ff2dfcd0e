"""Registered versions of a model, with their tags, aliases and stored files."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import logged_models, mlflow_tables
from registry.client import client, sent_once
from registry.locking import registry_lock, require_lock
from registry.refusals import refusal
from registry.secrets import first_line
from registry.store import RegistryError, Store, faults, missing
from registry.urls import local_path

if TYPE_CHECKING:
    from pydantic import JsonValue

ARTIFACT = "model"  # folder of the model in a run
ANCHOR = "refit.anchor"
_NUMBER = re.compile("[1-9][0-9]{0,17}")  # as MLflow writes it; `07` would be read as 7
SPARE_BYTES = 4_000_000  # with less space than this left, a failed copy is blamed on a full disk


class Unavailable(RegistryError):
    """The stored files of a version could not be copied here, which says nothing about the model in them."""


@dataclass(frozen=True)
class Version:
    """One registered version, as stored in the registry."""

    model: str
    version: str
    run_id: str | None
    created: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registered:
    """A registered model: its aliases (alias -> version) and tags. Both are empty if it was never registered."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def registered(store: Store, model: str) -> Registered:
    """The aliases and tags of a model, without importing mlflow if the store is an SQLite file."""
    if not store.exists:
        return Registered()
    if store.database:
        try:
            return Registered(
                mlflow_tables.aliases(store.database, model), mlflow_tables.model_tags(store.database, model)
            )
        except sqlite3.OperationalError:
            pass  # tables of another MLflow version, or a journal to roll back: use the client
    return registered_by_client(store, model)


def registered_by_client(store: Store, model: str) -> Registered:
    """The same as `registered`, through the MLflow client."""
    try:
        entity = client(store).get_registered_model(model)
    except Exception as error:
        if missing(error):
            return Registered()
        raise
    return Registered({alias: str(version) for alias, version in entity.aliases.items()}, dict(entity.tags))


def version(store: Store, model: str, number: str) -> Version | None:
    """One version with its tags, without importing mlflow if the store is an SQLite file."""
    if not store.exists or not _NUMBER.fullmatch(number):
        return None
    if store.database:
        try:
            return _read_version(store.database, model, number)
        except sqlite3.OperationalError:
            pass
    return version_by_client(store, model, number)


def version_by_client(store: Store, model: str, number: str) -> Version | None:
    """The same as `version`, through the MLflow client."""
    try:
        return _from_client(client(store).get_model_version(model, number))
    except Exception as error:
        if missing(error):
            return None
        raise


def tags_of_deleted(store: Store, model: str, number: str) -> dict[str, str]:
    """The tags of a deleted version, which MLflow keeps in its tables; empty if they cannot be read."""
    if not store.exists or not store.database or not _NUMBER.fullmatch(number):
        return {}
    try:
        return mlflow_tables.version_tags(store.database, model, number)
    except sqlite3.OperationalError:
        return {}


def tagged(store: Store, model: str, key: str, value: str) -> list[Version]:
    """Every version with this tag, without importing mlflow if the store is an SQLite file."""
    if not store.exists:
        return []
    if store.database:
        try:
            numbers = mlflow_tables.versions_tagged(store.database, model, key, value)
            matches = [_read_version(store.database, model, number) for number in numbers]
            return sorted((each for each in matches if each), key=lambda each: int(each.version))
        except sqlite3.OperationalError:
            pass
    return tagged_by_client(store, model, {key: value})


def tagged_by_client(store: Store, model: str, tags: Mapping[str, str]) -> list[Version]:
    """The versions with all of `tags`, oldest first, through the MLflow client."""
    conditions = "".join(f" and tags.`{key}` = '{value}'" for key, value in sorted(tags.items()))
    search, matches, token = client(store).search_model_versions, [], None
    while True:
        page = search(f"name = '{model}'{conditions}", order_by=["version_number ASC"], page_token=token)
        matches += [_from_client(each) for each in page]
        if not (token := page.token):
            return matches


def with_tag(store: Store, key: str, value: str) -> list[Version]:
    """The versions of any model with this tag, by model and number; none if the value is no plain word."""
    if not store.exists or not value.isalnum():
        return []
    search, matches, token = client(store).search_model_versions, [], None
    while True:
        page = search(f"tags.`{key}` = '{value}'", page_token=token)
        matches += [_from_client(each) for each in page]
        if not (token := page.token):
            return sorted(matches, key=lambda each: (each.model, int(each.version)))


def find(store: Store, model: str, tags: Mapping[str, str]) -> Version | None:
    """The oldest version with all of `tags`."""
    matches = tagged_by_client(store, model, tags)
    return matches[0] if matches else None


def create(store: Store, model: str, *, run_id: str, folder: Path, tags: Mapping[str, str], above: int = 0) -> Version:
    """Store `folder` with the run and register it as a new version, complete with its tags.

    The version is created last: an interrupted call leaves files in the run but no version, and a second call writes
    the same files again. If only the answer was lost, there is a version, and `find` finds it: the request is never
    sent twice. Its number is greater than `above`, even if MLflow counts from 1 again because the whole model was
    deleted.
    """
    mlflow = client(store)
    with registry_lock(store):
        try:
            mlflow.get_registered_model(model)
        except Exception as error:
            if not missing(error):
                raise
            mlflow.create_registered_model(model)
        mlflow.log_artifacts(run_id, str(folder), ARTIFACT)
        require_lock(store, "no version was made")  # an upload is long: another process may have made it since
        source = f"{mlflow.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
        while True:
            with sent_once(store):
                entity = mlflow.create_model_version(model, source=source, run_id=run_id, tags=dict(tags))
            made = _from_client(entity)
            if int(made.version) > above:
                logged_models.link(store, run_id, model, made.version)
                return made
            mlflow.delete_model_version(model, made.version)


def set_alias(store: Store, model: str, alias: str, number: str) -> None:
    """Point an alias at a version, if it does not already."""
    with sent_once(store):
        if registered(store, model).aliases.get(alias) != number:
            client(store).set_registered_model_alias(model, alias, number)


def set_tags(store: Store, of: Version, tags: Mapping[str, str]) -> None:
    """Set the tags of a version that differ."""
    for key, value in tags.items():
        if of.tags.get(key) != value:
            client(store).set_model_version_tag(of.model, of.version, key, value)


def set_model_tag(store: Store, model: str, key: str, value: str) -> None:
    """Set a tag of the registered model itself, if it differs."""
    with sent_once(store):
        if registered(store, model).tags.get(key) != value:
            client(store).set_registered_model_tag(model, key, value)


def identity(store: Store) -> str | None:
    """When the registry's database was created, which tells it from others; None if it does not say.

    It is the creation time of MLflow's first experiment, which stays with a database that is moved or restored.
    """
    if not store.exists:
        return None
    try:
        created = client(store).get_experiment("0").creation_time
    except Exception as error:
        if missing(error):
            return None
        raise
    return _precise_time(created) if created else None


def download(store: Store, of: Version, destination: Path) -> Path:
    """Copy the stored folder of a version to `destination`, and return the copy.

    Raises:
        Unavailable: its files are missing, which is possible for a READY version, their store does not answer, or the
            disk is full. A full disk is the error's cause: MLflow hides why a copy failed.
    """
    if of.run_id is None:
        raise RegistryError(f"version {of.version} of {of.model} names no run: it was not registered by Refit")
    destination.mkdir(parents=True, exist_ok=True)
    with faults(store):
        mlflow = client(store)
    try:
        folder = Path(mlflow.download_artifacts(of.run_id, ARTIFACT, str(destination)))
    except Exception as error:
        what = f"the files of version {of.version} of {of.model} cannot be"
        if shutil.disk_usage(destination).free < SPARE_BYTES:
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(destination.parent))
            raise Unavailable(f"{what} copied: the disk is full ({destination.parent}); free some space") from full
        advice = "restore the artifact store, or promote another version"
        raise Unavailable(f"{what} read: {refusal(error) or f'{first_line(error)}; {advice}'}") from error
    (folder / "registered_model_meta").unlink(missing_ok=True)  # written by mlflow when it loads a model
    return folder


def stored_at(store: Store, of: Version) -> Path | str:
    """Where the files of a version are: a folder of this machine, or a URL."""
    uri = None
    if store.database and of.run_id:
        with suppress(sqlite3.OperationalError):
            uri = mlflow_tables.run_folder(store.database, of.run_id)
    if uri is None:
        with faults(store):
            uri = client(store).get_run(of.run_id).info.artifact_uri
    folder = local_path(uri)
    return folder / ARTIFACT if folder else f"{uri}/{ARTIFACT}"


def read_file(store: Store, of: Version, name: str) -> bytes | None:
    """One file of the stored folder of a version; None if there is no such file.

    Raises:
        RegistryError: the artifact store cannot be read.
    """
    if of.run_id is None:
        return None
    with faults(store), tempfile.TemporaryDirectory() as scratch:
        mlflow = client(store)
        folder, _, wanted = f"{ARTIFACT}/{name}".rpartition("/")
        if not any(entry.path == f"{folder}/{wanted}" for entry in mlflow.list_artifacts(of.run_id, folder)):
            return None
        return Path(mlflow.download_artifacts(of.run_id, f"{folder}/{wanted}", scratch)).read_bytes()


def save_pyfunc(
    folder: Path,
    data: Path,
    *,
    run_id: str,
    loader: str,
    features: list[str],
    example: Any,
    requirements: list[str],
    outputs: Sequence[str] = (),
) -> None:
    """Write `data` as an MLflow pyfunc model to the new `folder`: signature, example and requirements, no pickle.

    Args:
        outputs: names of the predicted columns; if empty, one column without a name.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    # MLflow refuses an int64, which pandas reads from a CSV, for a double; Refit's loader converts what it can convert
    # exactly and refuses the rest.
    inputs = [ColSpec(AnyType(), name, required=False) for name in features]
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=loader,
        data_path=str(data),
        mlflow_model=Model(artifact_path=ARTIFACT, run_id=run_id),
        signature=ModelSignature(
            inputs=Schema(inputs), outputs=Schema([ColSpec("double", name) for name in outputs] or [ColSpec("double")])
        ),
        input_example=example,
        pip_requirements=requirements,
    )


def _read_version(file: Path, model: str, number: str) -> Version | None:
    row = mlflow_tables.version(file, model, number)
    return None if row is None else Version(model, row.version, row.run_id, _time(row.created_ms), row.tags)


def _from_client(entry: Any) -> Version:
    return Version(
        entry.name, str(entry.version), entry.run_id, _time(entry.creation_timestamp), dict(sorted(entry.tags.items()))
    )


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _precise_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def read_tag(of: Version, key: str) -> dict[str, JsonValue] | None:
    """The JSON object in a tag of a version; None if it has no such tag.

    Raises:
        RegistryError: the tag was changed in MLflow since Refit wrote it.
    """
    return json_object(of, f"the tag {key}", of.tags[key]) if key in of.tags else None


def json_object(of: Version, what: str, text: str | bytes) -> dict[str, JsonValue]:
    """The JSON object in a text that the registry stores for a version.

    Raises:
        RegistryError: it is not a JSON object, or is nested too deeply.
    """
    with suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(text), dict):
            return value
    raise changed(of, what, "it holds no JSON object")


def changed(of: Version, what: str, problem: str) -> RegistryError:
    """The error for something that was changed in MLflow."""
    return RegistryError(
        f"{what} of version {of.version} of {of.model} is not as Refit wrote it: {problem}; restore the registry from "
        "a copy, or promote another version"
    )
