"""Tells a process from a later one with the same number, and from those of other containers."""

from __future__ import annotations

import os
from pathlib import Path


def process_identity(pid: int | None = None) -> str | None:
    """`NAMESPACE.PID.START` of a process, by default of this one; None if it has ended or cannot be examined.

    In every container the first process is number 1; the inode of its namespace of numbers tells them apart. The start
    is in ticks since the machine's boot, so that no change of the clock changes it.

    >>> process_identity() == process_identity(os.getpid()), process_identity(2**22 + 1)
    (True, None)
    """
    number = os.getpid() if pid is None else pid
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()  # a name may hold blanks
        return f"{namespace}.{number}.{int(fields[19])}"
    except (OSError, ValueError, IndexError):
        return None


def is_running(identity: str) -> bool | None:
    """Whether the process with this identity is running; None if it is in another container and cannot be seen.

    >>> is_running(process_identity()), is_running("")
    (True, False)
    """
    namespace, pid, _ = [*identity.split("."), "", "", ""][:3]
    if not pid.isdecimal():
        return False
    if not (process_identity() or "").startswith(f"{namespace}."):
        return None
    return process_identity(int(pid)) == identity
