"""The UIs of MLflow and Prefect, on loopback, for as long as a person looks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from flows.inspection import context_of
from tasks.artifacts import STATE
from tasks.errors import RefitError
from tasks.tracking import opened

LOOPBACK = "127.0.0.1"


def serve_uis(project: Path) -> None:
    """Start both UIs, print their addresses, and end them on Ctrl-C.

    Raises:
        RefitError: a server ended before it answered; the message names its log.
    """
    with opened(context_of(project)) as store:
        uri = store.uri
    mlflow_port, prefect_port = _free_port(5000), _free_port(4200)
    mlflow = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    prefect = [sys.executable, "-m", "prefect", "server", "start"]
    started = time.monotonic()
    with (
        _server("mlflow", [*mlflow, "--host", LOOPBACK, "--port", str(mlflow_port)], mlflow_port, project),
        _server("prefect", [*prefect, "--host", LOOPBACK, "--port", str(prefect_port)], prefect_port, project),
    ):
        typer.echo(f"MLflow   http://{LOOPBACK}:{mlflow_port}   runs, metrics, models and their aliases")
        typer.echo(f"Prefect  http://{LOOPBACK}:{prefect_port}   flow runs and their tasks")
        typer.echo(f"Ready in {time.monotonic() - started:.0f} s. Ctrl-C ends both.")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            typer.echo("ended")


@contextmanager
def _server(name: str, command: list[str], port: int, project: Path) -> Iterator[None]:
    log = project / STATE / f"{name}-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PREFECT_UI_ENABLED": "true"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True, cwd=project
        )
    try:
        _wait_for(process, name, port, log)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for(process: subprocess.Popen[bytes], name: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RefitError(f"the {name} server ended with status {process.returncode}; see {log}")
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.3)
    raise RefitError(f"the {name} server did not answer within 90 s; see {log}")


def _free_port(wanted: int) -> int:
    for port in range(wanted, wanted + 20):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise RefitError(f"ports {wanted} to {wanted + 19} are all in use on {LOOPBACK}; end a server that you do not need")
