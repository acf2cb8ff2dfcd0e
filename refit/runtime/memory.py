"""How much memory a stage may use (`resources.memory_gb`), and the limit of DuckDB in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from refit.config import Params

__all__ = ["allowed", "of_machine", "sql_limit"]

_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def of_machine() -> int:
    """The memory of the machine in bytes; that of the container, if it may use less."""
    limits = [int(psutil.virtual_memory().total)]
    for path in _CONTAINER:
        with suppress(OSError, ValueError):  # another system, or `max`
            limits.append(int(path.read_text()))
    return min(limits)


def allowed(params: Params) -> int:
    """The memory in bytes that a stage may use: `resources.memory_gb`, by default half of the machine's."""
    stated = params.resources.memory_gb
    return of_machine() // 2 if stated is None else round(stated * 1e9)


def sql_limit(params: Params, *, among: int = 1) -> str | None:
    """DuckDB's `memory_limit`: half of `resources.memory_gb`, because rows are also read, checked and written.

    None if it is not stated: not everything that DuckDB does can go on from disk, and data that fits must not fail.
    Several processes always have a limit: each would take most of the machine.

    Args:
        among: the number of processes that share it.
    """
    if params.resources.memory_gb is None and among == 1:
        return None
    return f"{allowed(params) // (2_000_000 * among)}MB"
