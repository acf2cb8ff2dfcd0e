"""`python -P -m flows.deployed_run`: what the worker starts for each flow run, in its project's folder.

Everybody with access to a server may write deployments to it. This process runs only what the project's own
`prefect.yaml` deploys, so that no request can name other code, another folder or a shell step.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.deployments import PREFECT_YAML
from refit.files.yaml_files import YamlTree, read_yaml
from refit.plain_text import one_line
from refit.runtime.terminal import say

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

_SET_FOLDER = "prefect.deployments.steps.set_working_directory"


def refusal(deployment: DeploymentResponse | None, project: Path, declared: YamlTree) -> str | None:
    """Return why a run of a deployment may not start; None if `prefect.yaml` declares the deployment.

    Args:
        deployment: as the server has it; None for a run without a deployment.
        declared: the content of `prefect.yaml`.
    """
    if deployment is None:
        return "it belongs to no deployment"
    entries = [entry for entry in declared.get("deployments") or () if entry.get("name") == deployment.name]
    entries = [entry for entry in entries if entry.get("entrypoint") == deployment.entrypoint]
    if not entries:
        return f"deployment {deployment.name} would run {deployment.entrypoint}, which {PREFECT_YAML} does not declare"
    (entry, *_), steps = entries, deployment.pull_steps or []
    if steps not in (declared.get("pull"), entry.get("pull")) and not all(_stays_in(project, step) for step in steps):
        return f"deployment {deployment.name} has steps that {PREFECT_YAML} does not declare"
    if deployment.path not in (None, "", ".", str(project)):
        return f"deployment {deployment.name} would take its code from {deployment.path}"
    if _project_of(deployment.parameters) != _project_of(entry.get("parameters") or {}):
        return f"deployment {deployment.name} is for another project than {PREFECT_YAML} says"
    return None


def _stays_in(project: Path, step: YamlTree) -> bool:
    (name, arguments), *others = step.items()
    folder = (arguments or {}).get("directory")
    return not others and name == _SET_FOLDER and isinstance(folder, str) and Path(folder).resolve() == project


def _project_of(parameters: Mapping[str, object]) -> Any:
    return parameters.get("project", ".")


def main() -> None:
    """Refuse the flow run that `PREFECT__FLOW_RUN_ID` names, or pass it to Prefect's engine."""
    from prefect import get_client
    from prefect.states import Failed

    project = Path.cwd().resolve()
    flow_run_id = UUID(os.environ["PREFECT__FLOW_RUN_ID"])
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
        deployment = client.read_deployment(flow_run.deployment_id) if flow_run.deployment_id else None
        reason = refusal(deployment, project, read_yaml(project / PREFECT_YAML))
        if reason or deployment is None:
            message = one_line(
                f"refused: {reason}; this worker runs what {project / PREFECT_YAML} deploys, after `refit up`"
            )
            client.set_flow_run_state(flow_run_id, Failed(name="Refused", message=message), force=True)
            say(message, stderr=True)
            return
    with suppress(ImportError):  # now: Prefect puts the working directory first while it imports a flow
        import_module(str(deployment.entrypoint).partition(":")[0])
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
