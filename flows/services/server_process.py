"""`python -P -m flows.services.server_process NAME [--while-stdin] FD`: a guarded server of this folder's project.

The server inherits its listening socket from the process that starts it, so that no other process can take the port.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from flows.services.credentials import auth_string
from flows.services.guard import Guard
from flows.services.ports import WHILE_STDIN
from flows.services.processes import MARK
from flows.services.service_state import MLFLOW, PREFECT

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LARGEST_MESSAGE = 2_000_000  # bytes of one websocket message; Prefect itself takes events of 1.5 MB at most


def main(name: str, *options: str, descriptor: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    os.umask(0o077)
    if WHILE_STDIN in options:
        secret = sys.stdin.readline().strip()
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    else:
        secret = auth_string(Path.cwd())
    listening = socket.socket(fileno=descriptor)
    listening.set_inheritable(False)
    port = int(listening.getsockname()[1])
    app, background = {PREFECT: _prefect, MLFLOW: _mlflow}[name](secret)
    guard = Guard(app, port=port, mark=os.environ[MARK], credentials=secret if name == MLFLOW else None)
    config = uvicorn.Config(
        guard,
        log_level=os.environ.get("PREFECT_SERVER_LOGGING_LEVEL", "warning").lower(),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ws_max_size=LARGEST_MESSAGE,
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(uvicorn.Server(config), listening, background))


async def _serve(server: uvicorn.Server, listening: socket.socket, background: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(background())
    try:
        await server.serve(sockets=[listening])
    finally:
        task.cancel()


def _prefect(secret: str) -> tuple[ASGIApp, Callable[[], Awaitable[None]]]:
    """Return what `prefect server start` serves, with its services, and the secret required."""
    os.environ["PREFECT_SERVER_API_AUTH_STRING"] = secret
    from prefect.server.api.server import create_app
    from prefect.server.database.orm_models import FlowRun, TaskRun

    for runs in (FlowRun, TaskRun):
        # SQLAlchemy 2.1 refuses the `state` that Prefect 3.8 passes for scheduled runs: none would ever be created.
        runs.__dict__["state"].bulk_dml_setter = _ignore_value

    from flows.dead_runs import watch

    return create_app(final=True), watch


def _mlflow(secret: str) -> tuple[ASGIApp, Callable[[], Awaitable[None]]]:
    """Return what `mlflow server` serves, and the home page. It has no single-user secret: the guard requires it.

    Where the registry is a server, MLflow's pages are those of that one.
    """
    from flows.services.home import leading_to, with_home
    from flows.session import context_of
    from refit.runtime.registry_store import opened
    from registry.mlflow_server import web_app

    with opened(context_of(Path.cwd())) as store:
        pages = leading_to(store.server) if store.server else web_app(store)
        return with_home(pages, Path.cwd()), _no_background


def _ignore_value(*_: object) -> None:
    """Ignore a value for an attribute that is no column, as SQLAlchemy 2.0 does."""


async def _no_background() -> None:
    pass


def _end_with_stdin() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:-1], descriptor=int(sys.argv[-1]))
