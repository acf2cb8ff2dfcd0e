"""`refit up` and `refit down`: the servers and the worker of a project, on loopback."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows import deployments, notifications
from flows.deployment_remarks import remarks
from flows.services import credentials
from flows.services.ports import (
    ENVIRONMENT,
    addresses,
    format_home,
    format_server,
    listening_for,
    print_secret,
    start_server,
    until_interrupted,
)
from flows.services.processes import Started, end, start, wait_until_it_answers
from flows.services.service_state import (
    MLFLOW,
    PREFECT,
    PREFECT_PAGES,
    UP,
    WORKER,
    address,
    api,
    client_environment,
    read_record,
    running_services,
    write_record,
)
from refit.errors import UserError
from refit.files.artifacts import STATE
from refit.files.permissions import tighten
from refit.runtime import environments, run_file
from refit.runtime.terminal import print_json, say

_WORKER_ENVIRONMENT = {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # 10 s by default: a long wait after an event


def up(
    project: Path, *, detach: bool, prefect_port: int | None, mlflow_port: int | None, as_json: bool = False
) -> None:
    """Start both servers and a worker, deploy `prefect.yaml`, and print what was done; keep what runs already.

    Without `detach`, the first `up` stays until Ctrl-C, which ends everything.

    Raises:
        UserError: a requested port is in use, there is no `prefect.yaml`, or the worker is in another environment.
        RefitError: a server ended before it answered; what this call had started is ended.
    """
    started_at = time.monotonic()
    is_new = not credentials.is_made(project)
    with _one_at_a_time(project):
        already_running = running_services(project)
        services = dict(already_running)
        try:
            _bring_up(project, {PREFECT: prefect_port, MLFLOW: mlflow_port}, services)
            tighten(project)
        except BaseException:
            for name in services.keys() - already_running.keys():
                end(services[name])
            write_record(project, already_running)
            raise
    if as_json:
        worker = services[WORKER]
        print_json(
            {
                **addresses(project, services),
                "worker": {"pid": worker.pid, "log": worker.log},
                "started": sorted(services.keys() - already_running.keys()),
                "remarks": remarks(project),
            }
        )
    else:
        waits = not detach and not already_running
        _print_state(project, services, already_running, time.monotonic() - started_at, waits=waits)
        print_secret(project, is_new=is_new)
    if not detach and not already_running:
        until_interrupted(lambda: _raise_if_down(project), quiet=as_json)
        ended = down(project)
        if not as_json:
            print_ended(project, ended)


def down(project: Path) -> list[Started]:
    """End what `up` started, by pid and start time; return it. The next run resumes a run that this ends."""
    with _one_at_a_time(project):
        services = read_record(project)
        order = (WORKER, MLFLOW, PREFECT)  # the worker first: it would log errors without its server
        ended = [services[name] for name in order if name in services and end(services[name])]
        write_record(project, {})
    return ended


def print_ended(project: Path, ended: Sequence[Started]) -> None:
    """Print what `down` has ended."""
    for each in ended:
        say(f"ended {each.name} (pid {each.pid})")
    if not ended:
        say(f"nothing of {project} is up")


def _bring_up(project: Path, ports: Mapping[str, int | None], services: dict[str, Started]) -> None:
    """Start what is missing; add each to `services` and to the record at once, so that it can be ended."""
    deployments.require(project)
    if WORKER in services:
        _require_same_environment(services[WORKER])
    earlier, missing = read_record(project), dict[str, socket.socket]()
    for name in (earlier.keys() & ports.keys()) - services.keys():
        end(earlier[name])  # it died, and may have left children that hold its port
    for name in [name for name in services if name in ports and not services[name].guarded]:
        end(services.pop(name))  # an earlier version of Refit started it: it answers every client
    with ExitStack() as stack:
        for name, port in ports.items():
            if (listening := listening_for(name, port, services.get(name), earlier.get(name))) is not None:
                missing[name] = stack.enter_context(listening)
        for name, listening in missing.items():
            log = STATE / f"{name}.log"
            environment = {PREFECT_PAGES: address(services[PREFECT])} if name == MLFLOW else {}
            services[name] = start_server(project, name, listening, log, environment=environment)
            write_record(project, services)
    wait_until_it_answers(services[PREFECT])
    environment = client_environment(project, services[PREFECT])
    deployments.provide(project, environment)
    if WORKER in services and (PREFECT not in earlier or _must_restart_worker(earlier[PREFECT], services[PREFECT])):
        end(services.pop(WORKER))  # it would poll a server that is gone
    if WORKER not in services:
        services[WORKER] = _start_worker(project, environment)
        write_record(project, services)
    declared = deployments.declared_in(project)
    deployments.deploy(project, declared, environment, log=project / STATE / "deploy.log")
    deployed = [entry["name"] for entry in declared.get("deployments") or ()]
    notifications.provide(run_file.params_outside(project), deployed, environment)
    wait_until_it_answers(services[MLFLOW])


def _require_same_environment(worker: Started) -> None:
    """Refuse to go on with a worker whose runs have the params of another environment.

    Raises:
        UserError: they have.
    """
    if (process := worker.process()) is None:
        return
    there, here = process.environ().get(environments.VARIABLE) or None, environments.current()
    if there != here:
        raise UserError(
            f"the worker that is up is in {there or 'params.yaml alone'}, not in {here or 'params.yaml alone'}; "
            "`refit down` first"
        )


def _must_restart_worker(before: Started, now: Started) -> bool:
    """Return whether the server's port, or whether it requires a secret, has changed since the worker was started."""
    return (before.port, before.guarded) != (now.port, now.guarded)


def _start_worker(project: Path, environment: Mapping[str, str]) -> Started:
    command = deployments.prefect("worker", "start", "--pool", deployments.POOL, "--type", "process")
    environment = {**os.environ, **ENVIRONMENT, **_WORKER_ENVIRONMENT, **environment}
    return start(WORKER, command, folder=project, log=project / STATE / "worker.log", environment=environment)


def _raise_if_down(project: Path) -> None:
    """End a waiting `up` after `refit down` in another terminal."""
    if not (project / UP).is_file():
        raise KeyboardInterrupt


def _print_state(
    project: Path, services: Mapping[str, Started], before: Mapping[str, Started], seconds: float, *, waits: bool
) -> None:
    say(format_home(services[MLFLOW]))
    for name in (PREFECT, MLFLOW):
        say(f"{format_server(services[name])}{'   (was up)' if name in before else ''}")
    worker = services[WORKER]
    say(f"worker   pid {worker.pid}, log {worker.log}{'   (was up)' if WORKER in before else ''}")
    say(f"deployed what {project / deployments.PREFECT_YAML} names; ready in {seconds:.0f} s")
    for remark in remarks(project):
        say(remark)
    say()
    secret = shlex.quote(str(project / credentials.AUTH))
    say("For `prefect ...` in another shell (`refit ...` finds all of it by itself):")
    say(f"  export PREFECT_API_URL={api(services[PREFECT])}")
    say(f"  export PREFECT_API_AUTH_STRING=$(cat {secret})")
    say("  prefect deployment run 'continuous-training/scheduled'")
    say(f"  refit down   # {ending(waits=waits)}")


def ending(*, waits: bool) -> str:
    """Say what ends the services.

    >>> ending(waits=False), ending(waits=True)
    ('ends all of this', 'ends all of this; so does Ctrl-C here')
    """
    return "ends all of this; so does Ctrl-C here" if waits else "ends all of this"


@contextmanager
def _one_at_a_time(project: Path) -> Iterator[None]:
    """Hold a lock, so that two terminals bring the same project up or down one after the other."""
    path = project / STATE / "up.lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
