"""What `refit up` has left standing in a project, as every command may ask."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from flows.services.credentials import auth_string
from flows.services.processes import LOOPBACK, Started
from refit.errors import RefitError
from refit.files.artifacts import STATE, read_json, write_json

UP = STATE / "up.json"
PREFECT, MLFLOW, WORKER = "prefect", "mlflow", "worker"


def recorded(project: Path) -> dict[str, Started]:
    """What `up` started last, by name, alive or not.

    What a project brought along when it was copied is the original's, and left alone: its log still lies there.

    Raises:
        RefitError: the record cannot be read.
    """
    path = project / UP
    if not path.is_file():
        return {}
    try:
        found = TypeAdapter(list[Started]).validate_json(json.dumps(read_json(path)), strict=True)
        return {started.name: started for started in found if _is_of(project, started)}
    except (TypeError, ValueError, OSError):
        raise RefitError(
            f"{path} does not say what `refit up` started; delete it, and end by hand what still runs of {project}"
        ) from None


def running(project: Path) -> dict[str, Started]:
    """What `up` started and still lives, by name."""
    return {name: process for name, process in recorded(project).items() if process.found()}


def record(project: Path, processes: Mapping[str, Started]) -> None:
    """Keep what stands; nothing left standing leaves no record."""
    if processes:
        write_json(project / UP, [asdict(process) for process in processes.values()])
    else:
        (project / UP).unlink(missing_ok=True)


def _is_of(project: Path, started: Started) -> bool:
    """Whether a process is this project's; of one that was moved while it was up, too."""
    log = Path(started.log)
    return log.resolve().is_relative_to(project.resolve()) or not log.exists()


def address(server: Started) -> str:
    """Where a server answers."""
    return f"http://{LOOPBACK}:{server.port}"


def api(server: Started) -> str:
    """Where the Prefect server's API answers: what `PREFECT_API_URL` must say."""
    return f"{address(server)}/api"


def client_environment(project: Path, server: Started) -> dict[str, str]:
    """What a process needs to be let in by the project's Prefect server."""
    return {"PREFECT_API_URL": api(server), "PREFECT_API_AUTH_STRING": auth_string(project)}


def use_own_server(project: Path) -> None:
    """Let this process's flow runs show in the project's own Prefect server, if that is up and no other was chosen."""
    server = recorded(project).get(PREFECT)
    if server is None or not server.guarded:
        return
    if os.environ.get("PREFECT_API_URL") not in (None, api(server), api(server).replace(LOOPBACK, "localhost")):
        return
    if server.answers():
        os.environ.update(client_environment(project, server))
