"""Processes that outlive the command that starts them: identified by pid and start time, ended with all descendants."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.services.guard import IDENTITY, proof
from refit.errors import RefitError, UserError

LOOPBACK = "127.0.0.1"
MARK = "REFIT_STARTED"  # an environment variable that all descendants inherit, including orphans and other sessions
_CLOCK_STEP = 2.0  # seconds by which a start time may seem to move when the machine's clock is set


@dataclass(frozen=True)
class Started:
    """A started process, which may have ended since."""

    name: str
    pid: int
    since: float  # seconds since the epoch: the pid alone may have been reused
    mark: str
    log: str
    port: int | None = None
    guarded: bool = False  # what an earlier version of Refit started answers every client

    def process(self) -> psutil.Process | None:
        """Return the process; None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.since) < _CLOCK_STEP
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def answers(self, *, timeout_seconds: float = 5) -> bool:
        """Return whether it runs, and answers on its port itself: no other process knows its mark."""
        if self.process() is None:
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
    """Return a command for a module of this environment; `-P`: the working directory may hold a `calendar.py`."""
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
    """Start a process in a session of its own, so that Ctrl-C reaches only the command that started it.

    Args:
        listening: the socket that a server inherits; its number becomes the last argument of `command`.
        stdin: what the process reads; nothing by default.
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


def wait_until_it_answers(
    started: Started, *, seconds: float = 300, tell: Callable[[str], None] | None = None, tell_after: float = 5
) -> None:
    """Wait until the process answers on its port.

    Args:
        tell: is told what is waited for, once, if the answer takes longer than `tell_after` seconds.

    Raises:
        RefitError: it ended first, or took too long; the message names its log.
    """
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        if started.process() is None:
            raise RefitError(f"{started.name} ended before it answered; its log says why: {started.log}")
        if started.answers(timeout_seconds=2):
            return
        if tell and time.monotonic() - since >= tell_after:
            tell(f"waiting for {started.name}'s server to start; the first start on a machine is the longest")
            tell = None
        time.sleep(0.2)
    raise RefitError(
        f"{started.name} did not answer within {seconds:.0f} s, as on a machine with too much to do; run again once it "
        f"has less; its log may say more: {started.log}"
    )


def end(started: Started, *, grace_seconds: float = 20) -> bool:
    """End a process and all its descendants: SIGTERM first, SIGKILL after the grace. Return False if none was left."""
    parent = started.process()
    processes = [*([parent] if parent else []), *(process for process in _marked(started.mark) if process != parent)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    if remaining := _alive_after(processes, grace_seconds):
        for process in remaining:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _alive_after(remaining, 5)
    return bool(processes)


def listen(port: int) -> socket.socket | None:
    """Listen on a port of this machine's loopback; return None if it is in use."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=100)
    except OSError:
        return None


def listen_on(name: str, port: int) -> socket.socket:
    """Listen on the port that was named for a server.

    Raises:
        UserError: it is in use.
    """
    if (listening := listen(port)) is None:
        raise UserError(f"port {port} is in use on {LOOPBACK}; name another with --{name}-port, or leave it out")
    return listening


def listen_from(first_port: int) -> socket.socket:
    """Listen on the first free port from `first_port` on.

    Raises:
        RefitError: twenty ports in a row are in use.
    """
    ports = range(first_port, min(first_port + 20, 65536))
    if (listening := next(filter(None, map(listen, ports)), None)) is None:
        raise RefitError(f"ports {ports[0]} to {ports[-1]} on {LOOPBACK} are all in use; end a server you do not need")
    return listening


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone by now, or not ours to look at
            if process.environ().get(MARK) == mark:
                yield process


def _alive_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return the processes still alive after at most `seconds`; a zombie counts as ended."""
    deadline = time.monotonic() + seconds
    alive = list(processes)
    while True:
        alive = [process for process in alive if _is_alive(process)]
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(0.1)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
