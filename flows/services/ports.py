"""The servers of MLflow and Prefect on loopback, and the pages of both for `refit ui`."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from flows.progress_display import screen
from flows.services import credentials, prefect_database
from flows.services.processes import (
    LOOPBACK,
    Started,
    end,
    listen_from,
    listen_on,
    python,
    start,
    wait_until_it_answers,
)
from flows.services.service_state import MLFLOW, PREFECT, PREFECT_PAGES, address, api, running_services
from refit.errors import RefitError, Terminated, UserError
from refit.files.artifacts import STATE
from refit.runtime.terminal import print_json, say

FIRST_PORT = {PREFECT: 4200, MLFLOW: 5000}
FIRST_TEMPORARY_PORT = 8400
WHILE_STDIN = "--while-stdin"  # a server that ends with the process at the other end of its standard input
ENVIRONMENT = {
    "PREFECT_LOGGING_LEVEL": "INFO",  # the console command silences Prefect, its servers must log
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
_TEMPORARY = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_UI_ENABLED": "0"}  # no schedules, no pages
_ONLY_PAGES = {  # without a worker, scheduled runs would only be late
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
}
HOME = "refit/"  # on MLflow's server
_TITLES = {
    PREFECT: ("Prefect", "flow runs, deployments, events"),
    MLFLOW: ("MLflow", "runs, metrics, models and their aliases"),
}


def serve_uis(
    project: Path, *, prefect_port: int | None = None, mlflow_port: int | None = None, as_json: bool = False
) -> None:
    """Serve the home page and both UIs on the ports, or the first free ones, until Ctrl-C; print their addresses.

    What `refit up` runs already is used as it is, and goes on.

    Raises:
        UserError: a port is in use, or that server runs on another one.
        RefitError: a server ended before it answered; the message names its log.
    """
    started_at, own = time.monotonic(), list[Started]()
    is_new = not credentials.is_made(project)
    servers = {name: server for name, server in running_services(project).items() if server.guarded}
    try:
        for name, port in ((PREFECT, prefect_port), (MLFLOW, mlflow_port)):
            if (listening := listening_for(name, port, servers.get(name))) is not None:
                log = STATE / f"{name}-server.log"
                with listening:
                    servers[name] = start_server(project, name, listening, log, environment=_pages_of(servers))
                own.append(servers[name])
        for server in own:
            wait_until_it_answers(server)
        if as_json:
            print_json({**addresses(project, servers), "started": [server.name for server in own]})
        else:
            say(format_home(servers[MLFLOW]))
            for name in (PREFECT, MLFLOW):
                say(format_server(servers[name]))
            print_secret(project, is_new=is_new)
            ends = "Ctrl-C ends " + ("both" if len(own) > 1 else own[0].name if own else "this command alone")
            say(f"Ready in {time.monotonic() - started_at:.0f} s. {ends}.")
        until_interrupted(lambda: None, quiet=as_json)
    finally:
        for server in own:
            end(server)


def listening_for(
    name: str, requested: int | None, current: Started | None, earlier: Started | None = None
) -> socket.socket | None:
    """Listen on the requested port, or on the first free one from its last; return None if the server is up.

    Raises:
        UserError: the requested port is in use, or the server is up on another one.
    """
    if current and current.port:
        if requested not in (None, current.port):
            raise UserError(f"{name} is up on port {current.port}, not on {requested}; `refit down` first")
        return None
    if requested is None:
        return listen_from((earlier and earlier.port) or FIRST_PORT[name])
    return listen_on(name, requested)


def _pages_of(servers: Mapping[str, Started]) -> dict[str, str]:
    """Return the environment of a server that is to show pages: where those of Prefect are, for links to them."""
    return {PREFECT_PAGES: address(servers[PREFECT])} if PREFECT in servers else _ONLY_PAGES


def start_server(
    project: Path,
    name: str,
    listening: socket.socket,
    log: Path,
    *options: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    stdin: int = subprocess.DEVNULL,
) -> Started:
    """Start a server by its name on a socket that listens already; it may not answer yet."""
    origins = [f"http://{host}:{listening.getsockname()[1]}" for host in (LOOPBACK, "localhost")]
    addresses = {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),  # pages of other sites may not call it
        "PREFECT_UI_API_URL": f"{origins[0]}/api",  # otherwise its pages would call PREFECT_API_URL
    }
    if name == PREFECT:
        prefect_database.provide(project)
        addresses |= prefect_database.settings(project)
    return start(
        name,
        python("flows.services.server_process", name, *options),
        folder=project,
        log=project / log,
        environment={**os.environ, **ENVIRONMENT, **addresses, **environment},
        listening=listening,
        stdin=stdin,
    )


@contextmanager
def server_for_runs(project: Path) -> Iterator[None]:
    """Provide a Prefect server for this process's flow runs: the configured one, or a temporary one.

    The temporary one ends with this process. Prefect's own would require no secret and outlive a killed process.

    Raises:
        RefitError: it ended before it answered.
    """
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        try:
            yield
        except RuntimeError as error:
            if "Failed to reach API" not in str(error):  # Prefect has no class of its own for it
                raise
            raise RefitError(
                f"Prefect's server does not answer: {str(error).rstrip('/')} (PREFECT_API_URL); start it, or unset "
                "PREFECT_API_URL: then a run starts one of its own"
            ) from error
        return
    with ExitStack() as stack:
        existed = (project / prefect_database.DATABASE).exists()
        secret = credentials.new()  # for this process only
        stdin, lifeline = os.pipe()
        stack.callback(os.close, lifeline)
        os.write(lifeline, f"{secret}\n".encode())
        with listen_from(FIRST_TEMPORARY_PORT) as listening:
            log = STATE / "temporary-server.log"
            server = start_server(project, PREFECT, listening, log, WHILE_STDIN, environment=_TEMPORARY, stdin=stdin)
        os.close(stdin)
        stack.callback(end, server, grace_seconds=5)
        wait_until_it_answers(server, tell=screen())
        prefect_database.keep_if_new(project, existed=existed)
        with temporary_settings({PREFECT_API_URL: api(server), PREFECT_API_AUTH_STRING: secret}):
            try:
                yield
            finally:
                _drain_prefect()


def _drain_prefect() -> None:
    """Let Prefect send its remaining events and logs, such as how the tasks of a crashed run ended."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all()
    EventsWorker.drain_all()


def print_secret(project: Path, *, is_new: bool) -> None:
    """Print the secret that a browser asks for when it is new, and later only its path."""
    path = project / credentials.AUTH
    if is_new:
        secret = credentials.auth_string(project)
        name, _, password = secret.partition(":")
        say(f"The browser asks once. Prefect: {secret}")
        say(f"                       MLflow:  name {name}, password {password}")
        say(f"It lies in {path}, and is not shown again.")
    else:
        say(f"The browser asks for what lies in {path} (MLflow: for its two halves).")


def addresses(project: Path, servers: Mapping[str, Started]) -> dict[str, str]:
    """Return where the pages of both servers are, and the file with the secret that they ask for."""
    pages = {name: address(servers[name]) for name in (PREFECT, MLFLOW)}
    return {"home": f"{pages[MLFLOW]}/{HOME}", **pages, "secret_file": str(project / credentials.AUTH)}


def format_home(mlflow: Started) -> str:
    """Format the address of the home page, which lies on MLflow's server, as one line for people."""
    return f"{'Home':<8} {address(mlflow)}/{HOME}   champion, reports, history, versions side by side"


def format_server(server: Started) -> str:
    """Format a server as one line for people."""
    name, what = _TITLES[server.name]
    return f"{name:<8} {address(server)}   {what}"


def until_interrupted(look: Callable[[], None], *, quiet: bool) -> None:
    """Call `look` once a second, until Ctrl-C or SIGTERM; say so unless `quiet`."""
    try:
        while True:
            look()
            time.sleep(1)
    except (KeyboardInterrupt, Terminated):
        if not quiet:
            say("ended")
