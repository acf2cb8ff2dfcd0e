"""Processes that outlive the command that starts them: known by pid and start time, ended with all they started."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.errors import RefitError

LOOPBACK = "127.0.0.1"
_MARK = "REFIT_STARTED"  # an environment variable that all descendants inherit, orphans and other sessions included
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

    def found(self) -> psutil.Process | None:
        """The process itself, if it still lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.since) < _CLOCK_STEP
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def answers(self) -> bool:
        """Whether it lives, and something listens on its port."""
        if self.found() is None:
            return False
        with socket.socket() as probe:
            probe.settimeout(1)
            return self.port is None or probe.connect_ex((LOOPBACK, self.port)) == 0


def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    port: int | None = None,
) -> Started:
    """Start a process in a session of its own, so that Ctrl-C reaches only the one who started it."""
    mark = secrets.token_hex(16)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, _MARK: mark},
            cwd=folder,
            start_new_session=True,
        )
    return Started(name, process.pid, psutil.Process(process.pid).create_time(), mark, str(log), port)


def wait_until_it_answers(started: Started, *, seconds: float = 120) -> None:
    """Wait until something listens on the process's port.

    Raises:
        RefitError: it ended first, or took too long; the message names its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if started.found() is None:
            raise RefitError(f"{started.name} ended before it answered; its log says why: {started.log}")
        if started.answers():
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


def is_free(port: int) -> bool:
    """Whether a server could take a port of this machine's loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(wanted: int) -> int:
    """The first port from `wanted` on that nobody holds.

    Raises:
        RefitError: twenty ports in a row are in use.
    """
    ports = range(wanted, wanted + 20)
    if (free := next(filter(is_free, ports), None)) is None:
        raise RefitError(f"ports {ports[0]} to {ports[-1]} on {LOOPBACK} are all in use; end a server you do not need")
    return free


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone by now, or not ours to look at
            if process.environ().get(_MARK) == mark:
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
