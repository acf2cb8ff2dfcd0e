"""What a fit costs: its time, and the memory that it needs above what the process held before it."""

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
    """Known once the block has ended."""

    seconds: float = 0.0
    peak_memory_mb: float | None = None  # none: this system does not tell


@contextmanager
def measured() -> Iterator[Effort]:
    """Measure a block. Memory is the block's own: Linux lets a process lower its high-water mark to what it holds now.

    What was freed before is given back first, so that a later fit does not look cheap by taking over an earlier one's.
    Processes that the block starts are not counted.
    """
    effort = Effort()
    before = _lowered()
    started = time.monotonic()
    try:
        yield effort
    finally:
        effort.seconds = time.monotonic() - started
        if before is not None:
            effort.peak_memory_mb = round(max(0.0, _status("VmHWM") - before) / 1024, 1)


def largest(efforts: Sequence[Effort]) -> float | None:
    """The most memory that one of them needed."""
    return max((each.peak_memory_mb for each in efforts if each.peak_memory_mb is not None), default=None)


def _lowered() -> float | None:
    """KiB held now, with the high-water mark lowered to it; None where the system cannot."""
    _give_back()
    try:
        (PROC / "clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _give_back() -> None:
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return


def _status(name: str) -> float:
    line = next(line for line in (PROC / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return float(line.split()[1])
