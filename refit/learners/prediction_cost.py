"""What a model takes besides its errors: the time, the money and the room of its predictions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config import CostParams

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners import Learner

ROWS = 1000  # in a call of many
WARM_UP = 2  # calls that are not counted


@dataclass(frozen=True)
class Calls:
    """How often predictions are asked for, to see what they take."""

    alone: int  # with one row
    many: int  # with a thousand
    seconds: float  # and no more calls of either kind after so many


THOROUGH = Calls(alone=200, many=10, seconds=2.0)  # of a candidate
GLANCE = Calls(alone=20, many=3, seconds=0.1)  # of every learner and trial


def serving(learner: Learner, table: pa.Table, calls: Calls) -> dict[str, Any]:
    """What predictions take: milliseconds of calls with one row and with a thousand, and CPU seconds of the latter.

    CPU seconds are those of all threads, the median of the calls. Fewer rows than a thousand are asked for again.
    """
    import numpy as np

    count = table.num_rows
    alone, _ = _clocked(learner, (table.slice(place % count, 1) for place in range(WARM_UP + calls.alone)), calls)
    many, cpu = _clocked(learner, repeat(table.take(np.arange(ROWS) % count), WARM_UP + calls.many), calls)
    return {
        "latency_ms": _quantiles(alone),
        "latency_1000_ms": _quantiles(many),
        "cpu_seconds_per_1000": round(float(np.median(cpu)), 6),
    }


def _clocked(learner: Learner, asked: Iterable[pa.Table], calls: Calls) -> tuple[list[float], list[float]]:
    """Seconds on the clock and of the CPU that each call took, the first ones left out."""
    wall, cpu = [], []
    began = time.perf_counter()
    for rows in asked:
        clock, worked = time.perf_counter(), time.process_time()
        learner.predict(rows)
        cpu.append(time.process_time() - worked)
        wall.append(time.perf_counter() - clock)
        if time.perf_counter() - began > calls.seconds and len(wall) > WARM_UP:
            break
    return wall[WARM_UP:], cpu[WARM_UP:]


def _quantiles(seconds: Sequence[float]) -> dict[str, float | int]:
    import numpy as np

    found = {f"p{part}": round(float(np.quantile(seconds, part / 100)) * 1000, 3) for part in (50, 95, 99)}
    return {**found, "calls": len(seconds)}


def rows_at_once(learner: Learner, table: pa.Table) -> int:
    """Rows that are predicted in a second where all are asked for in one call."""
    start = time.perf_counter()
    learner.predict(table)
    rows: int = table.num_rows
    return round(rows / max(time.perf_counter() - start, 1e-9))


def cost(cpu_seconds_per_1000: float, training_seconds: float, price: CostParams) -> dict[str, Any]:
    """What 1,000 predictions and a training cost, at the price of a CPU hour.

    The training is counted in its seconds on the clock, as if it had one CPU.
    """
    return {
        "cpu_seconds_per_1000": cpu_seconds_per_1000,
        "per_1000": in_money(cpu_seconds_per_1000, price),
        "training": in_money(training_seconds, price),
        "cpu_hour": price.cpu_hour,
        "currency": price.currency,
    }


def in_money(seconds: float, price: CostParams) -> float:
    """What CPU seconds cost, to three digits.

    >>> in_money(72, CostParams(cpu_hour=0.05))
    0.001
    """
    return float(f"{seconds / 3600 * price.cpu_hour:.3g}")


def megabytes(folder: Path) -> float:
    """The size of a model's folder, all files that are stored and loaded with it, to the kilobyte (10^3 bytes).

    The kilobyte, because a stored estimator names objects by their addresses, whose length may differ by some bytes.
    """
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 3)
