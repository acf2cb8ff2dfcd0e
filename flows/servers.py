"""The servers of MLflow and Prefect on loopback, and both UIs for as long as a person looks."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flows.inspection import context_of
from flows.processes import LOOPBACK, Started, end, free_port, start, wait_until_it_answers
from flows.standing import MLFLOW, PREFECT, address
from flows.terminal import say
from tasks.artifacts import STATE
from tasks.tracking import opened

FIRST_PORT = {PREFECT: 4200, MLFLOW: 5000}
ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",  # the console command keeps Prefect silent; what it starts shall speak
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
_SHOWS = {
    PREFECT: ("Prefect", "flow runs, deployments, events"),
    MLFLOW: ("MLflow", "runs, metrics, models and their aliases"),
}


def serve_uis(project: Path) -> None:
    """Start both UIs, print their addresses, and end them on Ctrl-C.

    Raises:
        RefitError: a server ended before it answered; the message names its log.
    """
    began, started = time.monotonic(), list[Started]()
    end_as_on_ctrl_c()
    try:
        for name, first in FIRST_PORT.items():
            started.append(start_server(project, name, free_port(first), STATE / f"{name}-server.log"))
        for server in started:
            wait_until_it_answers(server)
            say(shown(server))
        say(f"Ready in {time.monotonic() - began:.0f} s. Ctrl-C ends both.")
        until_interrupted(lambda: None)
    finally:
        for server in started:
            end(server)


def start_server(project: Path, name: str, port: int, log: Path, **environment: str) -> Started:
    """Start a server by its name; it does not answer yet."""
    command = [sys.executable, "-m", name, "server"]
    if name == MLFLOW:
        with opened(context_of(project)) as store:
            command += ["--workers", "1"]
            environment["MLFLOW_BACKEND_STORE_URI"] = (
                store.uri
            )  # every user of the machine sees what a command is given
    else:
        command += ["start"]
        own = [f"http://{host}:{port}" for host in (LOOPBACK, "localhost")]
        environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(own)  # no web page from elsewhere may ask it
        environment["PREFECT_UI_API_URL"] = f"{own[0]}/api"  # else its pages would ask whatever PREFECT_API_URL says
    return start(
        name,
        [*command, "--host", LOOPBACK, "--port", str(port)],
        folder=project,
        log=project / log,
        environment={**os.environ, **ENVIRONMENT, **environment},
        port=port,
    )


def shown(server: Started) -> str:
    """A server in one line for people."""
    name, what = _SHOWS[server.name]
    return f"{name:<8} {address(server)}   {what}"


def end_as_on_ctrl_c() -> None:
    """Let a request to end (SIGTERM) take what was started along, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def until_interrupted(look: Callable[[], None]) -> None:
    """Look once a second, until Ctrl-C or a request to end."""
    try:
        while True:
            look()
            time.sleep(1)
    except KeyboardInterrupt:
        say("ended")
