"""`refit up` and `refit down`: all that a project needs to run by itself, on this machine and on loopback."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows import deployments
from flows.services import credentials
from flows.services.ports import ENVIRONMENT, FIRST_PORT, shown, start_server, tell_of_the_secret, until_interrupted
from flows.services.processes import LOOPBACK, Started, end, listen, listen_from, start, wait_until_it_answers
from flows.services.service_state import MLFLOW, PREFECT, UP, WORKER, api, client_environment, record, recorded, running
from refit.errors import UserError
from refit.files.artifacts import SNAPSHOT, STATE, read_json
from refit.files.permissions import tighten
from refit.runtime.terminal import say
from registry.urls import sqlite_url

_WORKER_ENVIRONMENT = {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # 10 s by default: a long wait after an event


def up(project: Path, *, detach: bool, prefect_port: int | None, mlflow_port: int | None) -> None:
    """Start both servers and a worker, deploy `prefect.yaml`, and say what was done; what runs already is left alone.

    Without `detach`, the first `up` stays until Ctrl-C, which ends everything.

    Raises:
        UserError: a port that was asked for is in use, or there is no `prefect.yaml`.
        RefitError: something ended before it answered; what this call had started is ended.
    """
    began = time.monotonic()
    is_new = not credentials.is_made(project)
    with _one_at_a_time(project):
        standing = running(project)
        now = dict(standing)
        try:
            _bring_up(project, {PREFECT: prefect_port, MLFLOW: mlflow_port}, now)
            tighten(project)
        except BaseException:
            for name in now.keys() - standing.keys():
                end(now[name])
            record(project, standing)
            raise
    _tell(project, now, standing, time.monotonic() - began)
    tell_of_the_secret(project, is_new=is_new)
    if not detach and not standing:
        until_interrupted(lambda: _raise_if_down(project))
        down(project)


def down(project: Path) -> None:
    """End what `up` started, by pid and start time, and say so. A run under way is ended; a later one goes on."""
    with _one_at_a_time(project):
        known = recorded(project)
        order = (WORKER, MLFLOW, PREFECT)  # the worker first: it would complain of a server that is gone
        ended = [name for name in order if name in known and end(known[name])]
        record(project, {})
    for name in ended:
        say(f"ended {name} (pid {known[name].pid})")
    if not ended:
        say(f"nothing of {project} is up")


def _bring_up(project: Path, asked: Mapping[str, int | None], now: dict[str, Started]) -> None:
    """Add to `now`, and to the record, what is missing; each as soon as it is started, so that it can be ended."""
    deployments.require(project)
    earlier, missing = recorded(project), dict[str, socket.socket]()
    for name in (earlier.keys() & asked.keys()) - now.keys():
        end(earlier[name])  # it died, and may have left children that hold its port
    for name in [name for name in now if name in asked and not now[name].guarded]:
        end(now.pop(name))  # an earlier version of Refit started it: it answers to anybody
    with ExitStack() as taken:
        for name, port in asked.items():
            if (listening := _port(name, port, now.get(name), earlier.get(name))) is not None:
                missing[name] = taken.enter_context(listening)
        for name, listening in missing.items():
            log = STATE / f"{name}.log"
            now[name] = start_server(project, name, listening, log, environment=_own_database(project))
            record(project, now)
    wait_until_it_answers(now[PREFECT])
    environment = client_environment(project, now[PREFECT])
    deployments.provide(project, environment)
    if WORKER in now and (PREFECT not in earlier or _moved(earlier[PREFECT], now[PREFECT])):
        end(now.pop(WORKER))  # it would look for work where nobody answers any more
    if WORKER not in now:
        now[WORKER] = _start_worker(project, environment)
        record(project, now)
    deployments.deploy(project, environment, log=project / STATE / "deploy.log")
    wait_until_it_answers(now[MLFLOW])


def _moved(before: Started, now: Started) -> bool:
    """Whether what a worker knows of its server no longer holds: where it is, or that it asks for a secret."""
    return (before.port, before.guarded) != (now.port, now.guarded)


def _port(name: str, asked: int | None, standing: Started | None, earlier: Started | None) -> socket.socket | None:
    """A server's port, taken: the one asked for, else the first free one from its last on; None where it is up."""
    if standing and standing.port:
        if asked not in (None, standing.port):
            raise UserError(f"{name} is up on port {standing.port}, not on {asked}; `refit down` first")
        return None
    if asked is None:
        return listen_from((earlier and earlier.port) or FIRST_PORT[name])
    if (taken := listen(asked)) is None:
        raise UserError(f"port {asked} is in use on {LOOPBACK}; name another with --{name}-port, or leave it out")
    return taken


def _start_worker(project: Path, environment: Mapping[str, str]) -> Started:
    command = deployments.prefect("worker", "start", "--pool", deployments.POOL, "--type", "process")
    environment = {**os.environ, **ENVIRONMENT, **_WORKER_ENVIRONMENT, **environment}
    return start(WORKER, command, folder=project, log=project / STATE / "worker.log", environment=environment)


def _own_database(project: Path) -> dict[str, str]:
    """Each project's server has its own: deployments of two projects have the same names."""
    return {"PREFECT_API_DATABASE_CONNECTION_URL": sqlite_url(project / STATE / "prefect.db", "aiosqlite")}


def _raise_if_down(project: Path) -> None:
    """End a waiting `up` once `refit down` was typed elsewhere."""
    if not (project / UP).is_file():
        raise KeyboardInterrupt


def _tell(project: Path, now: Mapping[str, Started], standing: Mapping[str, Started], seconds: float) -> None:
    for name in (PREFECT, MLFLOW):
        say(f"{shown(now[name])}{'   (was up)' if name in standing else ''}")
    worker = now[WORKER]
    say(f"worker   pid {worker.pid}, log {worker.log}{'   (was up)' if WORKER in standing else ''}")
    say(f"deployed what {project / deployments.PREFECT_YAML} names; ready in {seconds:.0f} s")
    say()
    secret = shlex.quote(str(project / credentials.AUTH))
    say("For `prefect ...` in another shell (`refit ...` finds all of it by itself):")
    say(f"  export PREFECT_API_URL={api(now[PREFECT])}")
    say(f"  export PREFECT_API_AUTH_STRING=$(cat {secret})")
    say(f"  prefect deployment run 'continuous-training/scheduled'{_as_of(project)}")
    say("  refit down   # ends all of this; so does Ctrl-C where `up` waits")


def _as_of(project: Path) -> str:
    """A day that the project's data knows, as an example."""
    path = project / SNAPSHOT
    return f" --param as_of={read_json(path)['as_of'][:10]}" if path.is_file() else ""


@contextmanager
def _one_at_a_time(project: Path) -> Iterator[None]:
    """Two terminals that bring the same project up or down at once do so one after the other."""
    path = project / STATE / "up.lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
