"""Prefect's pull steps for a worker that has no folder of the project: a clone at the deployed commit, or an image.

The folder may be deleted after the run. So the registry and the ledger must be elsewhere, and DVC's remote, where there
is one, gets what the run made (`flows.shared_data`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from flows import shared_data
from flows.deployed_run import end_as_not_started, require_declared
from flows.heartbeat import heartbeats
from refit.config import Params
from refit.errors import RefitError, UserError, message_of
from refit.files.artifacts import SNAPSHOT
from refit.plain_text import one_line
from refit.runtime import dvc_runner, lock, run_file
from refit.runtime.context import Context
from refit.runtime.registry_store import store_of
from refit.runtime.terminal import say

if TYPE_CHECKING:
    from registry.store import Store

FOLDER = "checkout"
_RUN = "PREFECT__FLOW_RUN_ID"


def clone(repository: str, commit: str, project: str = ".", access_token: str | None = None) -> dict[str, str]:
    """Clone a commit into a new folder, bring what DVC remembers of it, and work there.

    Args:
        project: the project's folder in the repository.
        access_token: to read the repository by https; in the deployment it is a reference to a Prefect block.

    Raises:
        UserError: the project does not declare this deployment, or keeps its state in the folder.
    """
    if _RUN not in os.environ:  # a worker looks for the hooks of a run that failed: it stays where it is
        return {}
    from prefect.deployments.steps.pull import git_clone

    with heartbeats(), _not_started_in_one_line():
        try:
            git_clone(repository=repository, commit_sha=commit, access_token=access_token, clone_directory_name=FOLDER)
        except Exception as error:
            raise RefitError(f"{repository} cannot be cloned at {commit[:12]}: {message_of(error)}") from error
        folder = Path(FOLDER).resolve()
        if not (folder / project).resolve().is_relative_to(folder):
            raise UserError(f"project {project} lies outside of the repository")
        return _enter(folder / project)


def image() -> dict[str, str]:
    """Work in the project that the image has as its working directory.

    Raises:
        UserError: the project does not declare this deployment, or keeps its state in the folder.
    """
    if _RUN not in os.environ:
        return {}
    with heartbeats(), _not_started_in_one_line():
        return _enter(Path.cwd())


def state_outside(project: Path, params: Params, environ: Mapping[str, str] = os.environ) -> Store:
    """Return the registry of a project whose folder may be deleted after each run.

    Raises:
        UserError: the registry, its models or the ledger are in the folder.
        RefitError: the registry is a database without a server, and its models are on one machine alone.
    """
    from registry import tracking
    from registry.store import RegistryError, faults

    store = store_of(project, params)
    if store.database and store.database.is_relative_to(project):
        raise UserError(
            f"models are registered in {store.database}, which is deleted with the folder of a run; set "
            "registry.tracking_uri in params.yaml, or MLFLOW_TRACKING_URI, to an MLflow server"
        )
    if not store.one_ledger:
        raise UserError(
            f"the ledger would be in {store.home}, which is deleted with the folder of a run; set "
            "registry.ledger_uri in params.yaml, or REFIT_LEDGER_URI, to a PostgreSQL database (Refit's docs/team.md)"
        )
    folder = None
    if store.has_no_server:  # a server is asked by the run that stores a model
        try:
            with faults(store):
                folder = tracking.artifact_folder(store, params.project.name)
        except RegistryError as error:
            raise RefitError(str(error)) from error
    if folder and folder.is_relative_to(project.absolute()):
        raise UserError(
            f"models are stored in {folder}, which is deleted with the folder of a run; set registry.tracking_uri in "
            "params.yaml, or MLFLOW_TRACKING_URI, to an MLflow server"
        )
    return store


@contextmanager
def _not_started_in_one_line() -> Iterator[None]:
    """End this process and its flow run, as `NotStarted`, where the block raises a RefitError."""
    try:
        yield
    except RefitError as error:
        end_as_not_started(UUID(os.environ[_RUN]), str(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # this is a thread of Prefect's engine, which has not begun with the flow


def _enter(project: Path) -> dict[str, str]:
    require_declared(project)
    params = run_file.params_outside(project)
    store = state_outside(project, params)
    shared_data.throw_away(project)  # the flow runs in this process, and no later run does
    dvc_runner.repair(project)
    shared_data.bring(project, store, params)
    return {"directory": str(project)}


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -P -m flows.checkouts`: bring the data into a new clone, as a worker does; data that is there stays.

    With `--push`: push this folder's data, and let the runs of workers and CI go on from it, whatever they recorded.
    """
    project = Path.cwd()
    try:
        if _options(arguments).push:
            with lock.project_lock(project, trigger="push"):
                say(shared_data.publish(Context(project, run_file.params_outside(project))))
        elif not (project / SNAPSHOT).exists():
            params = run_file.params_outside(project)
            dvc_runner.repair(project)
            shared_data.bring(project, store_of(project, params), params)
    except RefitError as error:
        say(f"error: {one_line(error)}", stderr=True)
        sys.exit(error.exit_status)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -P -m flows.checkouts",
        description="In a project's folder: bring the newest data from DVC's remote into a new clone, as a worker "
        "does. A folder that has data keeps it.",
        epilog="Refit's docs/deploying.md says what runs start from.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--push",
        action="store_true",
        help="instead, after `refit run`: push this folder's data to DVC's remote and record it in the ledger's "
        "database, so that the next runs of workers and CI go on from it",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
