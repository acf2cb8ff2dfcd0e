"""The record of what `refit up` started in a project, for every command."""

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
PREFECT_PAGES = "PREFECT_UI_URL"  # environment variable: where Prefect's pages are, as Prefect itself calls it


def read_record(project: Path) -> dict[str, Started]:
    """Return what `up` started last, by name, alive or not.

    In a copy of a project, the record still names the original's processes; they are left out, as their logs lie there.

    Raises:
        RefitError: the record cannot be read.
    """
    path = project / UP
    if not path.is_file():
        return {}
    try:
        processes = TypeAdapter(list[Started]).validate_json(json.dumps(read_json(path)), strict=True)
        return {process.name: process for process in processes if _is_of(project, process)}
    except (TypeError, ValueError, OSError):
        raise RefitError(
            f"{path} does not say what `refit up` started; delete it, and end by hand what still runs of {project}"
        ) from None


def running_services(project: Path) -> dict[str, Started]:
    """Return what `up` started and is still alive, by name."""
    return {name: started for name, started in read_record(project).items() if started.process()}


def write_record(project: Path, processes: Mapping[str, Started]) -> None:
    """Write the record of running processes; delete it if there are none."""
    if processes:
        write_json(project / UP, [asdict(process) for process in processes.values()])
    else:
        (project / UP).unlink(missing_ok=True)


def _is_of(project: Path, process: Started) -> bool:
    """Return whether a process belongs to this project, even if the project was moved while it was up."""
    log = Path(process.log)
    return log.resolve().is_relative_to(project.resolve()) or not log.exists()


def address(server: Started) -> str:
    """Return a server's URL."""
    return f"http://{LOOPBACK}:{server.port}"


def api(server: Started) -> str:
    """Return the URL of the Prefect server's API, for `PREFECT_API_URL`."""
    return f"{address(server)}/api"


def home_page(project: Path) -> str | None:
    """Return the address of the project's home page, if `refit up` runs the server that it is on."""
    server = running_services(project).get(MLFLOW)
    return None if server is None else f"{address(server)}/refit/"


def client_environment(project: Path, server: Started) -> dict[str, str]:
    """Return the environment variables by which a process uses the project's Prefect server."""
    return {
        "PREFECT_API_URL": api(server),
        "PREFECT_API_AUTH_STRING": auth_string(project),
        PREFECT_PAGES: address(server),
    }


def is_own_server(project: Path, url: str) -> bool:
    """Return whether a URL of Prefect's API is that of the server that `refit up` runs for a project."""
    server = running_services(project).get(PREFECT)
    return server is not None and _is_api(server, url)


def _is_api(server: Started, url: str) -> bool:
    return url.rstrip("/") in (api(server), api(server).replace(LOOPBACK, "localhost"))


def use_own_server(project: Path) -> None:
    """Use the project's own Prefect server for this process's flow runs, if it is up and no other is configured."""
    server = read_record(project).get(PREFECT)
    if server is None or not server.guarded:
        return
    if (url := os.environ.get("PREFECT_API_URL")) is not None and not _is_api(server, url):
        return
    if server.answers():
        os.environ.update(client_environment(project, server))
