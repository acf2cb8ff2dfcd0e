"""The project lock: one run at a time per working tree; the kernel frees the lock when its owner dies."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from refit.errors import RefitError
from refit.files.artifacts import STATE
from refit.files.permissions import close, tighten
from registry.locking import STARTING, Holder, acquire
from registry.processes import process_identity

_FLOCK = "hhqqi"  # struct flock of 64-bit Linux: type, whence, start, length, pid


@dataclass(frozen=True)
class Owner(Holder):
    """The holder of the lock, and what the processes that it starts may do on its behalf."""

    may_promote: bool = False
    trigger: str = "manual"
    flow_run: str | None = None
    process: str | None = None  # see `process_identity`; None if an older Refit wrote it


@contextmanager
def project_lock(
    project: Path,
    *,
    may_promote: bool = False,
    trigger: str = "manual",
    flow_run: str | None = None,
    wait_seconds: float = 0,
) -> Iterator[Owner]:
    """Hold the project's lock; the holder's process and those that it starts share it.

    Raises:
        RefitError: another process holds it; the message names that process.
    """
    if (owner := inherited(project)) is not None:
        yield owner
        return
    path = project / STATE / "lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RefitError(f"cannot write {path}: {error.strerror}; give this user write access to {project}") from None
    try:
        if not acquire(descriptor, wait_seconds):
            raise _held(path)
        with suppress(OSError):  # some file systems have no such locks: `is_held` then reports it
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
        owner = Owner.this_process(
            may_promote=may_promote, trigger=trigger, flow_run=flow_run, process=process_identity()
        )
        owner.write(descriptor)
        close(project)
        try:
            yield owner
        finally:
            tighten(project)
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)  # closing frees the flock


def inherited(project: Path) -> Owner | None:
    """The lock's owner, if it is this process or one that started it, directly or through others."""
    owner = holder(project)
    if owner is None or owner.host != socket.gethostname() or not is_held(project):
        return None
    if owner.process not in (None, process_identity(owner.pid)):
        return None  # a process of another container that has the host's name has its number
    return owner if owner.pid == os.getpid() or owner.pid in _ancestors() else None


def _ancestors() -> set[int]:
    import psutil

    try:
        return {each.pid for each in psutil.Process().parents()}
    except psutil.Error:  # one of them has just ended, which the holder has not
        return set()


def holder(project: Path) -> Owner | None:
    """The last owner written to the lock file and not yet removed from it, if any."""
    return Owner.read(project / STATE / "lock")


def held_by(project: Path) -> str:
    """Name the process that holds the lock; empty if the lock is free, or held by this process or one that started it.

    Raises:
        RefitError: the file system cannot say.
    """
    if inherited(project) is not None or not is_held(project):
        return ""
    return str(holder(project) or STARTING)


def require_free(project: Path) -> None:
    """Check that the lock is free before a slow operation that will need it.

    Raises:
        RefitError: another process holds it; the message names that process.
    """
    if held_by(project):
        raise _held(project / STATE / "lock")


def is_held(project: Path) -> bool:
    """Whether a running process holds the project's lock. Does not take the lock, so it never blocks a starting run.

    `flock` can only be tried, not queried. Its holder therefore has a record lock on the same file too, which is freed
    with it and which the kernel can report.
    """
    try:
        with (project / STATE / "lock").open("rb") as file:
            record = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
            return bool(struct.unpack(_FLOCK, record)[0] != fcntl.F_UNLCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RefitError(f"whether {project} is in use cannot be seen: {error.strerror} ({STATE / 'lock'})") from None


def _whole_file(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _held(path: Path) -> RefitError:
    owner = holder(path.parent.parent) or STARTING
    return RefitError(f"{path} is held by {owner}; wait for it to end, or give --wait SECONDS")
