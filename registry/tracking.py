"""Writes MLflow runs from files; writing the same content again changes nothing."""

from __future__ import annotations

import getpass
import hashlib
import json
import re
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from registry import logged_models, mlflow_tables
from registry.client import client
from registry.locking import registry_lock
from registry.processes import is_running, process_identity
from registry.store import RegistryError, Store, missing
from registry.urls import folder_url, is_loopback, local_path

_ONE_DAY = 86_400.0  # seconds
_PROCESS = "refit.process"  # tag: which process of `refit.host` writes a run while it is shown as running
PART = "refit.logged."  # tag prefix: which parts of a run are complete, with the digest of their content
_KIND, _TRAINING = (
    "mlflow.experimentKind",
    "custom_model_development",
)  # or MLflow opens an experiment as traces of GenAI


@dataclass(frozen=True)
class Content:
    """The content of one part of a run. Metrics are (name, value, step)."""

    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Sequence[tuple[str, float, int]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str | None] = field(default_factory=dict)  # file or folder -> folder in the run
    texts: Mapping[str, str] = field(default_factory=dict)  # file in the run -> its text
    dataset: Mapping[str, str] | None = None  # name, digest, source, context
    model: Mapping[str, str] | None = None  # params of the model that the metrics are of, on the dataset; None: of none


def ensure_experiment(store: Store, name: str) -> str:
    """The id of the experiment `name`; creates it if it does not exist and restores it if it was deleted.

    MLflow shows it as model training, unless somebody chose another kind in its page.

    Raises:
        RegistryError: its models would be stored on this machine alone, see `artifact_folder`.
    """
    mlflow = client(store)
    with registry_lock(store):
        artifact_folder(store, name)
        if (experiment := mlflow.get_experiment_by_name(name)) is None:
            location = folder_url(store.artifacts / name) if store.artifacts else None
            created = str(mlflow.create_experiment(name, artifact_location=location, tags={_KIND: _TRAINING}))
            artifact_folder(store, name)
            return created
        if experiment.lifecycle_stage == "deleted":
            mlflow.restore_experiment(experiment.experiment_id)
        if _KIND not in experiment.tags:
            mlflow.set_experiment_tag(experiment.experiment_id, _KIND, _TRAINING)
        return str(experiment.experiment_id)


def artifact_folder(store: Store, name: str) -> Path | None:
    """The folder in which a registry that is no file has the models of an experiment.

    None if they are in an object store, or a server passes them on.

    Raises:
        RegistryError: this machine does not have the folder, or MLflow's client would choose it: its working directory,
            which other machines do not have and a worker may delete.
    """
    if not (store.has_no_server or store.server):
        return None
    experiment = client(store).get_experiment_by_name(name)
    folder = local_path(experiment.artifact_location) if experiment else None
    if experiment and folder is None:
        return None
    if store.server:
        # an experiment of a server on this machine begins without a folder of its own
        if folder is None or folder.is_dir() or (is_loopback(store.uri) and folder.parent.is_dir()):
            return folder
        raise RegistryError(
            f"the MLflow server at {store.shown} lets its clients write the models of {name} into {folder} themselves, "
            "which this machine does not have: start it with --artifacts-destination instead of "
            "--no-serve-artifacts (docs/team.md) and rename the experiment, which keeps its place, or mount the folder"
        )
    if folder and folder.is_dir():
        return folder
    where = f"are stored in {folder}, which this machine does not have" if folder else "would be stored here alone"
    raise RegistryError(
        f"the registry at {store.shown} is a database without a server, and the models of {name} {where}: name an "
        "MLflow server in registry.tracking_uri and the database in registry.ledger_uri (docs/team.md), or choose a "
        f"place for all machines by `mlflow experiments create -n {name} -l s3://...`"
    )


def find_experiment(store: Store, name: str) -> str | None:
    """The id of the experiment `name`; None if there is none. Changes nothing."""
    experiment = client(store).get_experiment_by_name(name) if store.exists else None
    return str(experiment.experiment_id) if experiment else None


def find_run(store: Store, experiment: str, identity: Mapping[str, str]) -> Any:
    """The oldest run of an experiment that carries all tags of `identity`; None if there is none."""
    conditions = " and ".join(f"tags.`{key}` = '{value}'" for key, value in sorted(identity.items()))
    runs = client(store).search_runs([experiment], conditions, order_by=["attributes.start_time ASC"], max_results=1)
    return runs[0] if runs else None


def restore_run(store: Store, run_id: str) -> bool:
    """Whether a run exists; a deleted run that MLflow still keeps is restored."""
    mlflow = client(store)
    with registry_lock(store):
        try:
            run = mlflow.get_run(run_id)
        except Exception as error:
            if missing(error):
                return False
            raise
        if run.info.lifecycle_stage == "deleted":
            mlflow.restore_run(run_id)
        return True


def ensure_run(
    store: Store,
    experiment: str,
    name: str,
    identity: Mapping[str, str],
    *,
    parent: str | None = None,
    origin: Mapping[str, str] | None = None,
    seconds: float = 0,
) -> str:
    """The id of the run with the tags `identity`, created if it does not exist; it is finished at once.

    Args:
        origin: more tags of a new run, see `origin_tags`.
        seconds: how long the work took that the run shows; it has just ended.
    """
    mlflow = client(store)
    if parent is not None:
        identity = {**identity, "mlflow.parentRunId": parent}
    with registry_lock(store):
        if (run := find_run(store, experiment, identity)) is None:
            tags = {**(origin or {}), **identity, "refit.host": socket.gethostname()}
            run = mlflow.create_run(experiment, start_time=_started(seconds), run_name=name, tags=tags)
        if run.info.status == "RUNNING":
            mlflow.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)


def origin_tags(source: str, *, job: bool, commit: str | None) -> dict[str, str]:
    """The tags from which MLflow fills its columns User, Source and Version.

    Args:
        source: what started the run, as a command.
        job: whether a schedule or an event started it, not a person.
        commit: of git; None outside of a repository.
    """
    tags = {"mlflow.source.name": source, "mlflow.source.type": "JOB" if job else "LOCAL"}
    with suppress(OSError, KeyError):  # in a container, a user need not have a name
        tags["mlflow.user"] = getpass.getuser()
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def start_run(store: Store, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of a new run that is shown as running until `end_run`, or until the next training ends abandoned ones."""
    own = {"refit.host": socket.gethostname(), _PROCESS: process_identity() or ""}
    run = client(store).create_run(experiment, run_name=name, tags={**tags, **own})
    return str(run.info.run_id)


def log_points(store: Store, run_id: str, points: Sequence[tuple[str, float, int]]) -> None:
    """Log points of curves, (name, value, step), with the current time."""
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    for batch in _chunks([Metric(_key(name), float(value), now, step) for name, value, step in points], 800):
        client(store).log_batch(run_id, batch)


def end_run(store: Store, run_id: str, status: str) -> None:
    """End a run as FINISHED or FAILED."""
    client(store).set_terminated(run_id, status)


def log_children(
    store: Store, experiment: str, parent: str, role: str, children: Sequence[tuple[str, float, Content]]
) -> None:
    """Write a child run of `parent` for each name, duration in seconds and content, if it is not complete yet.

    Can be resumed.
    """
    mlflow = client(store)
    with registry_lock(store):
        below = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`refit.role` = '{role}'"
        existing = mlflow.search_runs([experiment], below, max_results=5000)
        complete = {run.info.run_name for run in existing if run.info.status == "FINISHED"}
        for run in existing:
            if run.info.status != "FINISHED":
                mlflow.delete_run(run.info.run_id)
        for name, seconds, content in children:
            if name not in complete:
                tags = {**content.tags, "refit.role": role, "refit.host": socket.gethostname()}
                tags["mlflow.parentRunId"] = parent
                run = mlflow.create_run(experiment, start_time=_started(seconds), run_name=name, tags=tags)
                _log_batches(mlflow, run, content)
                mlflow.set_terminated(run.info.run_id, "FINISHED")


def end_abandoned(store: Store, experiment: str) -> None:
    """End the runs that a killed process of this machine left running, which is seen after a day if in a container."""
    mlflow = client(store)
    with registry_lock(store):
        here = f"attributes.status = 'RUNNING' and tags.`refit.host` = '{socket.gethostname()}'"
        for run in mlflow.search_runs([experiment], here):
            is_alive = is_running(run.data.tags.get(_PROCESS, ""))
            if is_alive is False or (is_alive is None and run.info.start_time < _started(_ONE_DAY)):
                mlflow.set_terminated(run.info.run_id, "KILLED")


def is_logged(store: Store, run_id: str, part: str) -> bool:
    """Whether a part of a run was written, with any content."""
    return PART + part in client(store).get_run(run_id).data.tags


def numbers_of(store: Store, run_id: str | None) -> tuple[dict[str, float], dict[str, str]]:
    """The newest value of each metric of a run, and its params; both empty if there is no such run.

    Does not import mlflow if the store is an SQLite file.
    """
    if run_id and store.database and store.exists:
        try:
            return mlflow_tables.run_numbers(store.database, run_id)
        except sqlite3.OperationalError:
            pass  # tables of another MLflow version, or a journal to roll back: use the client
    return numbers_by_client(store, run_id)


def numbers_by_client(store: Store, run_id: str | None) -> tuple[dict[str, float], dict[str, str]]:
    """The same as `numbers_of`, through the MLflow client."""
    try:
        data = client(store).get_run(run_id).data if run_id else None
    except Exception as error:
        if missing(error):
            return {}, {}
        raise
    return (dict(data.metrics), dict(data.params)) if data else ({}, {})


def log(store: Store, run_id: str, part: str, content: Content) -> None:
    """Write a part of a run, unless exactly this content is logged already. Can be repeated if interrupted."""
    mlflow = client(store)
    with registry_lock(store):
        run = mlflow.get_run(run_id)
        digest = _digest(content)
        if run.data.tags.get(PART + part) == digest:
            return
        model = None if content.model is None else logged_models.ensure(mlflow, run, content.model)
        _log_batches(mlflow, run, content, model)
        for path, folder in content.files.items():
            (mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact)(run_id, str(path), folder)
        for name, text in content.texts.items():
            mlflow.log_text(run_id, text, name)
        if content.dataset:
            _log_dataset(mlflow, run_id, content.dataset)
        mlflow.set_tag(run_id, PART + part, digest)


def _log_batches(mlflow: Any, run: Any, content: Content, model: str | None = None) -> None:
    """Log params, metrics and tags to a run that was just read; the metrics to a logged model as well.

    All points of a curve share the time of the run's start, so that writing a point twice changes nothing. A single
    number gets the current time, so that MLflow shows the newest one.
    """
    from mlflow.entities import Metric, Param, RunTag

    logged, started = run.data.params, run.info.start_time
    now = time.time_ns() // 1_000_000
    params = [Param(_key(key), _value(value)) for key, value in content.params.items() if _key(key) not in logged]
    of = {"model_id": model}
    if model and content.dataset:
        of |= {"dataset_name": content.dataset["name"], "dataset_digest": _column(content.dataset["digest"])}
    metrics = [
        Metric(_key(key), float(value), started if step else now, step, **of) for key, value, step in content.metrics
    ]
    tags = [RunTag(key, value) for key, value in content.tags.items()]
    for batch in zip_longest(_chunks(metrics, 800), _chunks(params, 100), _chunks(tags, 100), fillvalue=()):
        mlflow.log_batch(run.info.run_id, *batch)


def _started(seconds: float) -> int:
    """When work of this duration, which has just ended, began: in milliseconds since 1970."""
    return int(1000 * (time.time() - seconds))


def _chunks(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Split `values` into chunks of `size`, the most that MLflow accepts at once."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def _log_dataset(mlflow: Any, run_id: str, dataset: Mapping[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=dataset["name"],
        digest=_column(dataset["digest"]),
        source_type="local",
        source=json.dumps({"uri": dataset["source"]}),
        profile=json.dumps({"digest": dataset["digest"]}),
    )
    mlflow.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", dataset["context"])])])


def _column(digest: str) -> str:
    """A digest cut to the length of MLflow's column."""
    return digest[:36]


def _digest(content: Content) -> str:
    """Digest of everything that would be written, including the bytes of files."""
    hasher = hashlib.sha256()
    plain = [dict(content.params), list(content.metrics), dict(content.tags), dict(content.texts), content.dataset]
    plain += [dict(content.model)] if content.model is not None else []
    hasher.update(json.dumps(plain, sort_keys=True, default=str).encode())
    for path, folder in sorted(content.files.items()):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                hasher.update(f"\n{folder}/{file.name}\n".encode())
                hasher.update(hashlib.sha256(file.read_bytes()).digest())
    return hasher.hexdigest()


def _key(name: str) -> str:
    """A name that MLflow accepts: letters, digits, `_-. /`."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


def _value(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str))[:6000]
