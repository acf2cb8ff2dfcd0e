"""MLflow client of a store, created on first use; creating the tables is done under the registry lock."""

from __future__ import annotations

import glob
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from registry.locking import registry_lock
from registry.server_probe import require_answer
from registry.sqlite_files import unusable
from registry.store import RegistryError, Store
from registry.urls import folder_url, sqlite_url

ANSWER_SECONDS = 10  # to connect, and as long again to answer; a read and a write stay under a lost lock's 50


def client(store: Store) -> Any:
    """The store's MlflowClient; the first call in a process imports mlflow (over a second of work).

    Do not use `mlflow.set_tracking_uri` or an active run: both are global state of the process, and the former leaks
    into the environment of child processes.
    """
    if store.database and (problem := unusable(store.database)):  # MLflow would try for two minutes to open it
        raise RegistryError(f"the registry at {store.shown} failed: {problem}")
    require_answer(store)
    root = folder_url(store.artifacts) if store.artifacts else None
    if store.exists:
        return _client(store.uri, root)
    with registry_lock(store):  # two concurrent first runs would both create the tables
        if store.database and root and not store.exists:
            _create(store.database, root)
        return _client(store.uri, root)


def _create(database: Path, root: str) -> None:
    """Create MLflow's tables in a scratch file, and rename it to the database once it is complete.

    MLflow cannot continue with partially created tables: a full disk or a kill would leave the project unusable.
    """
    _prepare()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _remove_scratch(database)
    # MLflow caches the connections of a path: another attempt in this process needs another path.
    scratch = database.with_name(f"{database.name}.{secrets.token_hex(4)}.partial")
    try:
        with _artifact_root(root):
            SqlAlchemyStore(sqlite_url(scratch), root).engine.dispose()
        scratch.replace(database)
    finally:
        _remove_scratch(database)


def _remove_scratch(database: Path) -> None:
    """Remove the files of an earlier attempt, with SQLite's journals. The caller holds the lock."""
    for path in database.parent.glob(f"{glob.escape(database.name)}.*.partial*"):
        path.unlink(missing_ok=True)


@lru_cache(maxsize=8)
def _client(uri: str, root: str | None) -> Any:
    _prepare()
    from mlflow import MlflowClient

    with _artifact_root(root):
        mlflow_client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        mlflow_client.search_experiments(max_results=1)  # opens the store now, under the caller's lock
    return mlflow_client


def _prepare() -> None:
    """Turn off MLflow's telemetry and printing, and its tracebacks of errors that `faults` reports in one line."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    # Refit shows its own progress, and the last line of standard output belongs to `--json`.
    os.environ |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    import mlflow  # noqa: F401 - sets the levels of its loggers, and must come before ours

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@contextmanager
def sent_once(store: Store) -> Iterator[None]:
    """Let MLflow send each request of the block once and wait for its answer shorter than a lost lock stays locked.

    By default its client repeats a request for minutes, also one that creates something and whose answer was lost: a
    run would get two versions. A repeated one could also arrive after the lock went to another process, and set an
    alias back that this one has moved since.
    """
    if store.database:  # no network lies between
        yield
        return
    once = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS)}
    before = {name: os.environ.get(name) for name in once}
    os.environ |= once
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _artifact_root(url: str | None) -> Iterator[None]:
    """Set MLflow's artifact root while it creates its tables.

    It would otherwise write the working directory into SQL, where a quote is an error.
    """
    variable = "_MLFLOW_SERVER_ARTIFACT_ROOT"
    before = os.environ.get(variable)
    if url is not None:
        os.environ[variable] = url
    try:
        yield
    finally:
        if url is not None and before is None:
            del os.environ[variable]
        elif before is not None:
            os.environ[variable] = before
