"""The registry lock: one process at a time writes versions, aliases and the ledger; and what file locks share."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from registry.postgresql import HeldLock, advisory_lock
from registry.store import RegistryError, Store

PAUSE_SECONDS = 0.05  # between two tries
# What `register` waits for the lock: longer than it holds it, while it uploads, signs and checks the stored model, or
# than `promote --to` does, which evaluates as well. A training would otherwise end without a decision.
PATIENT_SECONDS = 1800
STARTING = "a process that is just starting"
_held: dict[str, HeldLock | None] = {}  # the locks that this process holds
_inside = threading.RLock()  # threads of one process exclude each other here


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock, as the lock file names it."""

    pid: int
    host: str
    command: str
    since: str

    @classmethod
    def this_process(cls, **others: Any) -> Self:
        """This process, which has just taken the lock."""
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), command, since, **others)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The last holder written to a lock file and not yet removed from it, if any."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def write(self, descriptor: int) -> None:
        """Write it to the open lock file."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(self)).encode(), 0)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host} (`{self.command}`, since {self.since})"


@contextmanager
def registry_lock(store: Store, *, wait_seconds: float = 120) -> Iterator[None]:
    """Hold the lock of `store`. The lock is reentrant, and is freed when its owner dies.

    It is a file next to the ledger, or a lock of the ledger's database that all machines share.

    Raises:
        RegistryError: another process holds it for longer than `wait_seconds`; the message names that process. Or
            this process had it, and lost it with its connection.
    """
    with _inside:
        if store.lock_name in _held:
            require_lock(store)
            yield
            return
        lock = (
            advisory_lock(store.ledger_uri, store.scope, wait_seconds)
            if store.ledger_uri
            else _file_lock(store.home / "registry.lock", wait_seconds)
        )
        with lock as held:
            _held[store.lock_name] = held
            try:
                yield
            finally:
                del _held[store.lock_name]


@contextmanager
def lock_of(store: Store, purpose: str, wait_seconds: float) -> Iterator[Callable[[str], None]]:
    """Hold a lock where that of `store` is, for a purpose of its own. It is not reentrant.

    Yields a check, to be called before what the lock protects is written: a RegistryError if the lock was lost with its
    connection, which says the given state of the registry.

    Raises:
        RegistryError: another process holds it for longer than `wait_seconds`; the message names that process.
    """
    lock = (
        advisory_lock(store.ledger_uri, purpose, wait_seconds)
        if store.ledger_uri
        else _file_lock(store.home / f"{purpose.replace('/', '.')}.lock", wait_seconds)
    )
    with lock as held:
        yield held.check if held else lambda state: None


def require_lock(store: Store, state: str = "nothing moves without it") -> None:
    """Check that this process still holds the lock of `store`: a lost connection to the database loses it.

    Args:
        state: what the error says about the registry.

    Raises:
        RegistryError: the connection was lost.
    """
    if held := _held.get(store.lock_name):
        held.check(state)


@contextmanager
def _file_lock(path: Path, wait_seconds: float) -> Iterator[None]:
    """Lock a file, which names its holder; the kernel frees it when its owner dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RegistryError(f"cannot write {path}: {error.strerror}; give this user write access to it") from None
    locked = False
    try:
        if not (locked := acquire(descriptor, wait_seconds)):
            raise RegistryError(
                f"{path} is held by {Holder.read(path) or STARTING}; wait for it to end, then run again"
            )
        Holder.this_process().write(descriptor)
        yield
    finally:
        if locked:
            os.ftruncate(descriptor, 0)
        os.close(descriptor)  # closing frees the flock


def acquire(descriptor: int, wait_seconds: float) -> bool:
    """Lock an open file, which the kernel frees when this process dies; return False if others hold it for longer."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE_SECONDS)
