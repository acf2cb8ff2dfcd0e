"""`python -P -m flows.deployed_run`: what the worker starts for each flow run, in its project's folder.

Everybody with access to a server may write deployments to it. This process runs only what the project's own
`prefect.yaml` deploys, so that no request can name other code, another folder or a shell step. Where the folder holds
no project, the deployment's pull step brings one (`flows.checkouts`), and asks the same of it.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.deployments import NOT_STARTED, PREFECT_YAML, declared_in, declared_name, environment_of
from refit.errors import RefitError, UserError
from refit.files.yaml_files import YamlTree
from refit.plain_text import one_line
from refit.runtime import environments
from refit.runtime.terminal import say

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

CLONE, IMAGE = "flows.checkouts.clone", "flows.checkouts.image"  # the pull steps of `refit deploy`
FLOWS = ("flows.continuous_training", "flows.drift_watch", "flows.batch_scoring")
_SET_FOLDER = "prefect.deployments.steps.set_working_directory"
_ARGUMENTS: Mapping[str, set[str]] = {
    CLONE: {"repository", "commit", "project"},
    IMAGE: set(),
    _SET_FOLDER: {"directory"},
}
_COMMIT = re.compile("[0-9a-f]{40}([0-9a-f]{24})?")  # whole, so that git takes it for nothing else
_NO_CALL: tuple[str, Mapping[str, str]] = ("", {})


def refusal(
    deployment: DeploymentResponse | None, project: Path, declared: YamlTree, *, brought: bool = False
) -> str | None:
    """Return why a run of a deployment may not start; None if `prefect.yaml` declares the deployment.

    Args:
        deployment: as the server has it; None for a run without a deployment.
        declared: the content of `prefect.yaml` for this environment's model.
        brought: whether the deployment's own pull step has brought the project. A project that was there first is not
            left for a clone: the clone would be asked whether it may run itself.
    """
    if deployment is None:
        return "it belongs to no deployment"
    name = declared_name(deployment.name, declared)
    entries = [entry for entry in declared.get("deployments") or () if entry.get("name") == name]
    entries = [entry for entry in entries if entry.get("entrypoint") == deployment.entrypoint]
    if not entries:
        of_deploy = "." in deployment.name  # it says its model and environment, unlike those of `refit up`
        elsewhere = _refused_here(deployment.name) if of_deploy else None
        undeclared = f"which {PREFECT_YAML} does not declare for {declared.get('name')}"
        return elsewhere or f"deployment {deployment.name} would run {deployment.entrypoint}, {undeclared}"
    (entry, *_), steps = entries, deployment.pull_steps or []
    if steps not in (declared.get("pull"), entry.get("pull")) and not all(_stays_in(project, step) for step in steps):
        (function, _), *others = [*map(_call, steps)]
        if others or function not in (IMAGE, CLONE if brought else IMAGE):
            return f"deployment {deployment.name} has steps that {PREFECT_YAML} does not declare"
    if deployment.path not in (None, "", ".", str(project)):
        return f"deployment {deployment.name} would take its code from {deployment.path}"
    if _project_of(deployment.parameters) != _project_of(entry.get("parameters") or {}):
        return f"deployment {deployment.name} is for another project than {PREFECT_YAML} says"
    if name == deployment.name:  # of `refit up`: it names no environment, as its worker has that of the command
        return None
    return _refused_here(deployment.name)


def _refused_here(deployed: str) -> str | None:
    """Return why a run of a deployment may not start in this process's environment, whose params would be others."""
    meant, here = environment_of(deployed), environments.current()
    if meant == here:
        return None
    variable = f"{environments.VARIABLE}={meant}" if meant else f"no {environments.VARIABLE}"
    return (
        f"deployment {deployed} is for {meant or 'params.yaml alone'}, and this worker is in "
        f"{here or 'params.yaml alone'}: start the worker with {variable} (a container: in its pool's job template), "
        f"or deploy by `refit {f'--env {here} ' if here else ''}deploy`"
    )


def refusal_without_project(entrypoint: str | None, steps: Sequence[YamlTree]) -> str | None:
    """Return why a run may not start in a folder without a project; None if it will bring one by our own step.

    >>> refusal_without_project("flows.drift_watch:drift_watch", [{"flows.checkouts.image": {}}])
    >>> shell = {"prefect.deployments.steps.run_shell_script": {"script": "true"}}
    >>> refusal_without_project("flows.drift_watch:drift_watch", [shell])
    'it has steps other than those of `refit deploy`'
    """
    if str(entrypoint).partition(":")[0] not in FLOWS:
        return f"it would run {entrypoint}, which is no flow of Refit"
    (function, arguments), *others = [*map(_call, steps)] or [_NO_CALL]
    if others or function not in (CLONE, IMAGE):
        return "it has steps other than those of `refit deploy`"
    allowed, repository = os.environ.get("REFIT_REPOSITORY"), arguments.get("repository")
    if allowed and repository not in (None, allowed):
        return f"it would clone {repository}, and this worker is for {allowed} only (REFIT_REPOSITORY)"
    return None


def _call(step: YamlTree) -> tuple[str, Mapping[str, str]]:
    """Return the function that a pull step calls, and its arguments; no function unless both are as we write them.

    Prefect calls the last of several functions, and installs what a further argument `requires` names.
    """
    (function, arguments), *others = step.items() or [_NO_CALL]
    arguments = {} if arguments is None else arguments
    if others or function not in _ARGUMENTS or not isinstance(arguments, Mapping):
        return _NO_CALL
    needed = arguments.keys() - ({"access_token"} if function == CLONE else set())
    if needed != _ARGUMENTS[function] or not all(isinstance(v, str) for v in arguments.values()):
        return _NO_CALL
    if function == CLONE and (not _COMMIT.fullmatch(arguments["commit"]) or arguments["repository"].startswith("-")):
        return _NO_CALL
    return function, arguments


def _stays_in(project: Path, step: YamlTree) -> bool:
    function, arguments = _call(step)
    return function == _SET_FOLDER and Path(arguments["directory"]).resolve() == project


def _project_of(parameters: Mapping[str, object]) -> Any:
    return parameters.get("project", ".")


def require_declared(project: Path) -> None:
    """Refuse this process's flow run unless the project that its pull step brought declares its deployment.

    Raises:
        UserError: it does not.
    """
    _, deployment = _this_run()
    reason = refusal(deployment, project, declared_in(project), brought=True)
    if deployment and not reason:
        reason = refusal_without_project(deployment.entrypoint, deployment.pull_steps or [])
    if reason:
        raise UserError(reason)


def end_as_not_started(flow_run_id: UUID, reason: str) -> None:
    """End a flow run as `NotStarted`, with one line that says why; Prefect would report that its process crashed.

    It is named by its deployment, since the flow, which names its runs, has not begun.
    """
    from prefect import get_client
    from prefect.states import Failed

    message = one_line(f"not started: {reason}")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, Failed(name=NOT_STARTED, message=message), force=True)
        say(message, stderr=True)
        with suppress(Exception):  # a deployment may be gone by now, and its name is no reason to crash
            if (deployment := client.read_flow_run(flow_run_id).deployment_id) is not None:
                client.update_flow_run(flow_run_id, name=f"{client.read_deployment(deployment).name} not started")


def _this_run() -> tuple[UUID, DeploymentResponse | None]:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
        return flow_run.id, client.read_deployment(flow_run.deployment_id) if flow_run.deployment_id else None


def main() -> None:
    """Refuse the flow run that `PREFECT__FLOW_RUN_ID` names, or pass it to Prefect's engine."""
    project = Path.cwd().resolve()
    flow_run_id, deployment = _this_run()
    if (project / PREFECT_YAML).is_file():
        try:
            reason = refusal(deployment, project, declared_in(project))
        except RefitError as error:
            reason = error.sentence
        deployed = f"this worker runs what {project / PREFECT_YAML} deploys, after `refit up` or `refit deploy`"
    else:
        reason = refusal_without_project(deployment.entrypoint, deployment.pull_steps or []) if deployment else None
        deployed = "a worker without a project runs what `refit deploy` has deployed"
    if reason or deployment is None:
        end_as_not_started(flow_run_id, f"{reason or 'it belongs to no deployment'}; {deployed}")
        return
    with suppress(ImportError):  # now: Prefect puts the working directory first while it imports a flow
        import_module(str(deployment.entrypoint).partition(":")[0])
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
