"""Prefect's pull steps for a worker that has no folder of the project: a clone at the deployed commit, or an image.

The folder may be deleted after the run. So the registry and the ledger must be elsewhere, and DVC's remote, where there
is one, gets what the run made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from flows.deployed_run import end_as_refused, require_declared
from refit.config import Params
from refit.errors import RefitError, UserError, message_of
from refit.files.artifacts import SNAPSHOT
from refit.plain_text import one_line
from refit.runtime import dvc_remote, dvc_runner, run_file
from refit.runtime.registry_store import store_of
from refit.runtime.terminal import say

if TYPE_CHECKING:
    from registry.store import Store

FOLDER = "checkout"
_PASSED_OVER = 10  # versions whose data may be missing from the remote
_RUN = "PREFECT__FLOW_RUN_ID"
_THROWAWAY = "REFIT_THROWAWAY"  # an environment variable: the folder of this run, which may be deleted after it


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

    with _refused_in_one_line():
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
    with _refused_in_one_line():
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


def share(project: Path, progress: Callable[[str], object]) -> None:
    """Push what this run made to DVC's remote, if its folder may be deleted; before `register`, so that it lasts.

    Raises:
        RefitError: the remote does not take it.
    """
    if os.environ.get(_THROWAWAY) == str(project.resolve()) and dvc_remote.push(project):
        progress("pushed data and models to DVC's remote")


@contextmanager
def _refused_in_one_line() -> Iterator[None]:
    """End this process and its flow run, as `Refused`, where the block raises a RefitError."""
    try:
        yield
    except RefitError as error:
        end_as_refused(UUID(os.environ[_RUN]), str(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # this is a thread of Prefect's engine, which has not begun with the flow


def _enter(project: Path) -> dict[str, str]:
    require_declared(project)
    params = run_file.params_outside(project)
    store = state_outside(project, params)
    os.environ[_THROWAWAY] = str(project.resolve())  # the flow runs in this process, and no later run does
    dvc_runner.repair(project)
    bring_data(project, store, params)
    return {"directory": str(project)}


def bring_data(project: Path, store: Store, params: Params) -> None:
    """Bring the data of the newest registered version that is in DVC's remote; before the first version, the commit's.

    A commit names what was there when it was made; the batches that runs have added since are named by the versions'
    `dvc.lock`. A version that was made elsewhere, and whose data nobody has pushed, is passed over.

    Raises:
        RefitError: there are versions, and the data of none of the newest is in the remote; or the registry fails.
    """
    from registry.store import RegistryError, faults
    from registry.versions import read_file, tagged_by_client

    if not dvc_remote.has_remote(project):
        say("DVC has no remote: this run starts from the sources, its data is deleted with its folder", stderr=True)
        return
    try:
        with faults(store):
            newest = tagged_by_client(store, params.project.name, {})[: -_PASSED_OVER - 1 : -1]
    except RegistryError as error:
        raise RefitError(str(error)) from error
    for version in newest:
        try:
            if (lock := read_file(store, version, "provenance/dvc.lock")) is None:
                raise RefitError("it was stored without a dvc.lock")
            dvc_remote.pull(project, lock)
            return
        except (RefitError, RegistryError) as error:
            say(f"warning: the data of version {version.version} is passed over: {error}", stderr=True)
    if newest:  # the commit names fewer batches, or none: a model of those would replace one of all
        raise RefitError(
            f"the data of none of the newest {len(newest)} versions is in DVC's remote; see that this "
            "machine reaches it, and `dvc push --run-cache` where the models were made"
        )
    if (project / "dvc.lock").is_file():
        try:
            dvc_remote.pull(project)
        except RefitError as error:
            say(f"warning: the data of the commit is passed over: {error}", stderr=True)


def main() -> None:
    """`python -P -m flows.checkouts`: bring the data into a new clone, as a worker does; data that is there stays."""
    project = Path.cwd()
    if (project / SNAPSHOT).exists():
        return
    try:
        params = run_file.params_outside(project)
        dvc_runner.repair(project)
        bring_data(project, store_of(project, params), params)
    except RefitError as error:
        say(f"error: {one_line(error)}", stderr=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
