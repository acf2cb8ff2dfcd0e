"""Measures the time of a fit, and the memory that it needs in addition to what the process held before."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")


@dataclass
class Effort:
    """Time and memory of a block, set when the block has ended."""

    seconds: float = 0.0
    peak_memory_mb: float | None = None  # None if the system does not report it


@contextmanager
def measured() -> Iterator[Effort]:
    """Measure a block. Its memory is separate, because Linux lets a process reset its high-water mark.

    Freed memory is returned to the system first, so that a later fit does not look cheap by reusing it. Processes that
    the block starts are not counted.
    """
    effort = Effort()
    before = _reset_peak()
    started = time.monotonic()
    try:
        yield effort
    finally:
        effort.seconds = time.monotonic() - started
        if before is not None:
            effort.peak_memory_mb = round(max(0.0, _status("VmHWM") - before) / 1024, 1)


def largest(efforts: Sequence[Effort]) -> float | None:
    """Return the largest peak memory."""
    return max((each.peak_memory_mb for each in efforts if each.peak_memory_mb is not None), default=None)


def _reset_peak() -> float | None:
    """Reset the high-water mark and return the KiB held now; None if the system does not support it."""
    _release_memory()
    try:
        (PROC / "clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _release_memory() -> None:
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return


def _status(name: str) -> float:
    line = next(line for line in (PROC / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return float(line.split()[1])
