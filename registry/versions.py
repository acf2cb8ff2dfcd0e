"""Registered versions of a model, their tags and aliases, and the stored files behind them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry.client import client
from registry.locking import registry_lock
from registry.sqlite_files import select_read_only
from registry.store import RegistryError, Store, faults, missing

ARTIFACT = "model"  # the folder of a run in which its model lies
ANCHOR = "refit.anchor"
SPARE_BYTES = 4_000_000  # with less than this left, a copy that failed is a full disk's


@dataclass(frozen=True)
class Version:
    """One registered version, as the registry knows it."""

    model: str
    version: str
    run_id: str | None
    created: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registered:
    """A registered model: alias -> version, and the model's own tags. A model never registered has neither."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def registered(store: Store, model: str) -> Registered:
    """The model's aliases and tags, without importing mlflow where the store is an SQLite file."""
    if not store.exists:
        return Registered()
    if store.database:
        try:
            return Registered(
                _pairs(store.database, "registered_model_aliases", "alias", "version", model),
                _pairs(store.database, "registered_model_tags", "key", "value", model),
            )
        except sqlite3.OperationalError:
            pass  # tables of another MLflow, or a journal to roll back: the client knows
    return registered_by_client(store, model)


def registered_by_client(store: Store, model: str) -> Registered:
    """The same, asked the official way."""
    try:
        found = client(store).get_registered_model(model)
    except Exception as error:
        if missing(error):
            return Registered()
        raise
    return Registered({alias: str(version) for alias, version in found.aliases.items()}, dict(found.tags))


def version(store: Store, model: str, number: str) -> Version | None:
    """One version with its tags, without importing mlflow where the store is an SQLite file."""
    if not store.exists or not number.isdecimal():
        return None
    if store.database:
        try:
            return _read_version(store.database, model, number)
        except sqlite3.OperationalError:
            pass
    return version_by_client(store, model, number)


def version_by_client(store: Store, model: str, number: str) -> Version | None:
    """The same, asked the official way."""
    try:
        return _from_client(client(store).get_model_version(model, number))
    except Exception as error:
        if missing(error):
            return None
        raise


def tags_of_deleted(store: Store, model: str, number: str) -> dict[str, str]:
    """The tags of a version that was deleted: MLflow keeps them in its tables. Empty where nobody can tell."""
    if not store.exists or not store.database or not number.isdecimal():
        return {}
    sql = "select key, value from model_version_tags where name = :model and version = :version"
    try:
        rows = select_read_only(store.database, sql, {"model": model, "version": int(number)})
    except sqlite3.OperationalError:
        return {}
    return {row["key"]: row["value"] for row in rows}


def tagged(store: Store, model: str, key: str, value: str) -> list[Version]:
    """Every version that carries a tag, without importing mlflow where the store is an SQLite file."""
    if not store.exists:
        return []
    if store.database:
        try:
            sql = "select version from model_version_tags where name = :model and key = :key and value = :value"
            rows = select_read_only(store.database, sql, {"model": model, "key": key, "value": value})
            found = [_read_version(store.database, model, str(row["version"])) for row in rows]
            return sorted((each for each in found if each), key=lambda each: int(each.version))
        except sqlite3.OperationalError:
            pass
    return tagged_by_client(store, model, {key: value})


def tagged_by_client(store: Store, model: str, tags: Mapping[str, str]) -> list[Version]:
    """The versions that carry all of `tags`, asked the official way; oldest first."""
    conditions = "".join(f" and tags.`{key}` = '{value}'" for key, value in sorted(tags.items()))
    search, found, token = client(store).search_model_versions, [], None
    while True:
        page = search(f"name = '{model}'{conditions}", order_by=["version_number ASC"], page_token=token)
        found += [_from_client(each) for each in page]
        if not (token := page.token):
            return found


def find(store: Store, model: str, tags: Mapping[str, str]) -> Version | None:
    """The oldest version that carries all of `tags`."""
    found = tagged_by_client(store, model, tags)
    return found[0] if found else None


def create(store: Store, model: str, *, run_id: str, folder: Path, tags: Mapping[str, str], above: int = 0) -> Version:
    """Store `folder` with the run and register it as a new version; the version appears last, whole, with its tags.

    Cut off before its end it leaves files in the run but no version, and a second call writes the same files again.
    Its number is greater than `above`: where a whole model was deleted, MLflow counts from 1 again.
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
        source = f"{mlflow.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
        while True:
            made = _from_client(mlflow.create_model_version(model, source=source, run_id=run_id, tags=dict(tags)))
            if int(made.version) > above:
                return made
            mlflow.delete_model_version(model, made.version)


def set_alias(store: Store, model: str, alias: str, number: str) -> None:
    """Point an alias at a version, if it does not already."""
    if registered(store, model).aliases.get(alias) != number:
        client(store).set_registered_model_alias(model, alias, number)


def set_tags(store: Store, of: Version, tags: Mapping[str, str]) -> None:
    """Set those tags of a version that differ."""
    for key, value in tags.items():
        if of.tags.get(key) != value:
            client(store).set_model_version_tag(of.model, of.version, key, value)


def set_model_tag(store: Store, model: str, key: str, value: str) -> None:
    """Set a tag of the registered model itself, if it differs."""
    if registered(store, model).tags.get(key) != value:
        client(store).set_registered_model_tag(model, key, value)


def download(store: Store, of: Version, destination: Path) -> Path:
    """A copy of a version's stored folder, made under `destination`.

    Raises:
        RegistryError: its files are not there; a version may be READY without them. Or the disk is full, which is then
            the cause: MLflow itself keeps to itself why a copy failed, and a full disk must be no verdict on a model.
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
            raise RegistryError(f"{what} copied: the disk is full ({destination.parent}); free some space") from full
        raise RegistryError(
            f"{what} read: {str(error).splitlines()[0]}; restore the artifact store, or put another version in charge"
        ) from error
    (folder / "registered_model_meta").unlink(missing_ok=True)  # mlflow leaves it beside a model that it has loaded
    return folder


def read_file(store: Store, of: Version, name: str) -> bytes | None:
    """One file of a version's stored folder; None where the version has no such file.

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
    """Write `data` as an MLflow pyfunc model into the new `folder`: signature, example and requirements, no pickle.

    Args:
        outputs: names of the columns that it predicts; none: one without a name.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    # MLflow refuses an int64, which pandas reads from a CSV, for a double; the loader of ours converts what can be
    # converted exactly and refuses the rest.
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


def _pairs(file: Path, table: str, key: str, value: str, model: str) -> dict[str, str]:
    sql = f"select {key} as k, {value} as v from {table} where name = :model and workspace = 'default'"
    return {row["k"]: str(row["v"]) for row in select_read_only(file, sql, {"model": model})}


def _read_version(file: Path, model: str, number: str) -> Version | None:
    where = "where name = :model and version = :version and workspace = 'default'"
    values = {"model": model, "version": int(number)}
    rows = select_read_only(file, f"select * from model_versions {where}", values)
    if not rows or rows[0]["current_stage"] == "Deleted_Internal":
        return None
    tags = select_read_only(file, f"select key, value from model_version_tags {where}", values)
    return Version(
        model,
        str(rows[0]["version"]),
        rows[0]["run_id"],
        _time(rows[0]["creation_time"]),
        {tag["key"]: tag["value"] for tag in tags},
    )


def _from_client(found: Any) -> Version:
    return Version(
        found.name, str(found.version), found.run_id, _time(found.creation_timestamp), dict(sorted(found.tags.items()))
    )


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_tag(of: Version, key: str) -> dict[str, Any] | None:
    """The JSON object in a version's tag; None where it has none.

    Raises:
        RegistryError: the tag is not as Refit wrote it: somebody changed it in MLflow.
    """
    return json_object(of, f"the tag {key}", of.tags[key]) if key in of.tags else None


def json_object(of: Version, what: str, text: str | bytes) -> dict[str, Any]:
    """The JSON object in what the registry keeps of a version.

    Raises:
        RegistryError: it is none, or is nested without end.
    """
    with suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(text), dict):
            return value
    raise changed(of, what, "it holds no JSON object")


def changed(of: Version, what: str, problem: str) -> RegistryError:
    """The error that refuses what somebody changed in MLflow."""
    return RegistryError(
        f"{what} of version {of.version} of {of.model} is not as Refit wrote it: {problem}; restore the registry from "
        "a copy, or put another version in charge"
    )
