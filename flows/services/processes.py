"""Processes that outlive the command that starts them: known by pid and start time, ended with all they started."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.services.guard import IDENTITY, proof
from refit.errors import RefitError

LOOPBACK = "127.0.0.1"
MARK = "REFIT_STARTED"  # an environment variable that all descendants inherit, orphans and other sessions included
_CLOCK_STEP = 2.0  # seconds by which a start time may seem to move when the machine's clock is set


@dataclass(frozen=True)
class Started:
    """A process that was started, and may have ended since."""

    name: str
    pid: int
    since: float  # seconds since the epoch: the pid alone may be somebody else's by now
    mark: str
    log: str
    port: int | None = None
    guarded: bool = False  # what an earlier version of Refit started answers to anybody

    def found(self) -> psutil.Process | None:
        """The process itself, if it still lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.since) < _CLOCK_STEP
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def answers(self, *, timeout_seconds: float = 5) -> bool:
        """Whether it lives, and is what answers on its port: no other process knows its mark."""
        if self.found() is None:
            return False
        if self.port is None:
            return True
        challenge = secrets.token_hex(16)
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=timeout_seconds)
        try:
            connection.request("GET", f"{IDENTITY}?challenge={challenge}")
            answer = connection.getresponse().read(1000).decode("latin-1")
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return secrets.compare_digest(answer.encode(), proof(self.mark, challenge).encode())


def python(*module: str) -> list[str]:
    """A command for a module of this environment, never of the working directory: it may hold a `calendar.py`."""
    return [sys.executable, "-P", "-m", *module]


def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    listening: socket.socket | None = None,
    stdin: int = subprocess.DEVNULL,
) -> Started:
    """Start a process in a session of its own, so that Ctrl-C reaches only the one who started it.

    Args:
        listening: the socket of a server, which inherits it: its number is the last word of `command`.
        stdin: what the process reads; by default nothing.
    """
    mark = secrets.token_hex(16)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(log, "ab", opener=_private) as output:
        process = subprocess.Popen(
            [*command, *([str(listening.fileno())] if listening else [])],
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, MARK: mark},
            cwd=folder,
            start_new_session=True,
            pass_fds=[listening.fileno()] if listening else [],
        )
    port = int(listening.getsockname()[1]) if listening else None
    since = psutil.Process(process.pid).create_time()
    return Started(name, process.pid, since, mark, str(log), port, guarded=listening is not None)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def wait_until_it_answers(started: Started, *, seconds: float = 120) -> None:
    """Wait until the process answers on its port.

    Raises:
        RefitError: it ended first, or took too long; the message names its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if started.found() is None:
            raise RefitError(f"{started.name} ended before it answered; its log says why: {started.log}")
        if started.answers(timeout_seconds=2):
            return
        time.sleep(0.2)
    raise RefitError(f"{started.name} did not answer within {seconds:.0f} s; see {started.log}")


def end(started: Started, *, grace_seconds: float = 20) -> bool:
    """End a process and all that it started: asked first, killed after the grace. False if nothing of it was left."""
    first = started.found()
    family = [*([first] if first else []), *(process for process in _marked(started.mark) if process != first)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    if left := _alive_after(family, grace_seconds):
        for member in left:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        _alive_after(left, 5)
    return bool(family)


def listen(port: int) -> socket.socket | None:
    """Take a port of this machine's loopback; None if another process has it."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=100)
    except OSError:
        return None


def listen_from(wanted: int) -> socket.socket:
    """Take the first port from `wanted` on that nobody else has.

    Raises:
        RefitError: twenty ports in a row are in use.
    """
    ports = range(wanted, min(wanted + 20, 65536))
    if (taken := next(filter(None, map(listen, ports)), None)) is None:
        raise RefitError(f"ports {ports[0]} to {ports[-1]} on {LOOPBACK} are all in use; end a server you do not need")
    return taken


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone by now, or not ours to look at
            if process.environ().get(MARK) == mark:
                yield process


def _alive_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those still alive after at most so many seconds; one that ended and was not waited for is not alive."""
    deadline = time.monotonic() + seconds
    alive = list(processes)
    while True:
        alive = [process for process in alive if _lives(process)]
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(0.1)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
