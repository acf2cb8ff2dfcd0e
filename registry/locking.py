"""The registry lock: one process at a time writes versions, aliases and the ledger."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from registry.store import RegistryError, Store

_held: dict[Path, int] = {}  # how often this process has entered each lock
_inside = threading.RLock()  # threads of one process exclude each other here; processes by flock


@contextmanager
def registry_lock(store: Store, *, wait_seconds: float = 120) -> Iterator[None]:
    """Hold the lock of `store`. The lock is reentrant, and the kernel frees it when its owner dies.

    Raises:
        RegistryError: another process holds it for longer than `wait_seconds`; the message names that process.
    """
    path = store.home / "registry.lock"
    with _inside:
        if _held.get(path):
            _held[path] += 1
            try:
                yield
            finally:
                _held[path] -= 1
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RegistryError(f"cannot write {path}: {error.strerror}; give this user write access to it") from None
        try:
            _acquire(descriptor, path, time.monotonic() + wait_seconds)
            _held[path] = 1
            _write_owner(descriptor)
            yield
        finally:
            if _held.pop(path, None):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)  # closing frees the flock


def _write_owner(descriptor: int) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _acquire(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RegistryError(f"{path} is held by {_owner(path)}; wait for it to end, then run again") from None
            time.sleep(0.05)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f"pid {owner['pid']} on {owner['host']} (`{owner['command']}`, since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "a process that is just starting"
