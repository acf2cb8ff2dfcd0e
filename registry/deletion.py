"""Deletes versions and runs with their artifacts; an interrupted deletion is detected and finished later."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from registry import logged_models
from registry.client import client
from registry.locking import registry_lock
from registry.store import RegistryError, Store, missing
from registry.urls import local_path
from registry.versions import Version

MARK = "refit.to_be_deleted"  # tag of a run whose version is deleted, or about to be: its artifacts must be deleted too


@dataclass(frozen=True)
class Run:
    """A run of the model's experiment, with its nested runs."""

    run_id: str
    name: str
    started: datetime
    tags: Mapping[str, str]
    bytes: int
    nested: tuple[str, ...] = ()
    foreign_location: str | None = None  # a location of artifacts that is not the run's own folder: nothing there goes


def runs(store: Store, experiment: str) -> list[Run]:
    """The top-level runs of the experiment with this name, oldest first."""
    mlflow = client(store)
    if (entity := mlflow.get_experiment_by_name(experiment)) is None:
        return []
    every, token = [], None
    while True:
        page = mlflow.search_runs([entity.experiment_id], order_by=["attributes.start_time ASC"], page_token=token)
        every += page
        if not (token := page.token):
            break
    nested: dict[str, list[Any]] = {}
    for run in every:
        nested.setdefault(run.data.tags.get("mlflow.parentRunId", ""), []).append(run)
    alive = {run.info.run_id for run in every}
    top = [run for run in every if run.data.tags.get("mlflow.parentRunId", "") not in alive]
    return [_run(mlflow, run, nested.get(run.info.run_id, [])) for run in top]


def delete_version(store: Store, version: Version) -> None:
    """Delete a version. Its run is marked first, so that a later process can finish an interrupted deletion."""
    mlflow = client(store)
    with registry_lock(store):
        if version.run_id and _is_of(mlflow, version.run_id, version.model):
            mlflow.set_tag(version.run_id, MARK, f"version {version.version}")
        mlflow.delete_model_version(version.model, version.version)


def _is_of(mlflow: Any, run_id: str, experiment: str) -> bool:
    """Whether a run is one of the experiment with this name, and not deleted."""
    entity = mlflow.get_experiment_by_name(experiment)
    try:
        info = mlflow.get_run(run_id).info
    except Exception as error:
        if missing(error):
            return False
        raise
    return entity is not None and (info.experiment_id, info.lifecycle_stage) == (entity.experiment_id, "active")


def delete_run(store: Store, run: Run) -> None:
    """Delete the artifacts of a run, its logged model and the run, nested runs first.

    MLflow keeps the rows until `mlflow gc`.

    Raises:
        RegistryError: its artifacts are not in a folder of its own.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    mlflow = client(store)
    with registry_lock(store):
        mlflow.set_tag(run.run_id, MARK, run.tags.get(MARK, "run"))
        for run_id in (*run.nested, run.run_id):
            uri = mlflow.get_run(run_id).info.artifact_uri
            if not _is_own(run_id, uri):
                raise RegistryError(f"run {run_id} is left alone: {uri} is not a folder of its own; delete it by hand")
            get_artifact_repository(uri, tracking_uri=store.uri).delete_artifacts()
            if (folder := local_path(uri)) and folder.parent.is_dir():
                shutil.rmtree(folder.parent)  # the run's own folder, which held the artifacts
            logged_models.delete(mlflow, run_id)
            mlflow.delete_run(run_id)


def _is_own(run_id: str, uri: str) -> bool:
    """Whether an artifact location is the run's own, `.../RUN_ID/artifacts`, and neither of the two is a link.

    Anyone who may write MLflow's database can change it.

    >>> _is_own("4f2", "s3://bucket/demo/4f2/artifacts"), _is_own("4f2", "file:///home"), _is_own("4f2", "s3://bucket/")
    (True, False, False)
    """
    folder = local_path(uri)
    if folder is not None and (folder.is_symlink() or folder.parent.is_symlink()):
        return False
    return PurePosixPath(folder or urlsplit(uri).path).parts[-2:] == (run_id, "artifacts")


def _run(mlflow: Any, run: Any, nested: list[Any]) -> Run:
    locations = {each.info.run_id: each.info.artifact_uri for each in (run, *nested)}
    return Run(
        run.info.run_id,
        run.info.run_name or run.info.run_id,
        datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        dict(run.data.tags),
        sum(_size(mlflow, each) for each in (run, *nested)),
        tuple(each.info.run_id for each in nested),
        next((uri for run_id, uri in locations.items() if not _is_own(run_id, uri)), None),
    )


def _size(mlflow: Any, run: Any, folder: str = "") -> int:
    """Bytes of a run's artifacts."""
    if not _is_own(run.info.run_id, run.info.artifact_uri):
        return 0
    if local := local_path(run.info.artifact_uri):
        return sum(path.stat().st_size for path in local.rglob("*") if path.is_file())
    entries = mlflow.list_artifacts(run.info.run_id, folder or None)
    return sum(_size(mlflow, run, each.path) if each.is_dir else each.file_size or 0 for each in entries)
