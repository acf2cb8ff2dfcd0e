"""Measures what predictions cost: time, money and storage."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from refit.config import CostParams
from refit.schemas.serving_cost import Cost, Latency, ServingCost

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners import Learner

ROWS = 1000  # in a call with many rows
WARM_UP = 2  # calls that are not counted
LONG = 10  # times the time limit of all calls: one call suffices


@dataclass(frozen=True)
class Calls:
    """How many predict calls are timed."""

    alone: int  # with one row
    many: int  # with a thousand rows
    seconds: float  # time limit for the calls of either kind


THOROUGH = Calls(alone=200, many=10, seconds=2.0)  # for a candidate
GLANCE = Calls(alone=20, many=3, seconds=0.1)  # for every learner and trial


def serving(learner: Learner, table: pa.Table, calls: Calls) -> ServingCost:
    """Time predictions: milliseconds of calls with one row and with a thousand, and CPU seconds of the latter.

    CPU seconds count all threads and are the median of the calls. A table with fewer than a thousand rows is repeated.
    Episodes are played one after another, so a thousand of them take a thousand times the mean of one.
    """
    import numpy as np

    count = table.num_rows
    alone, cpu = _clocked(learner, (table.slice(index % count, 1) for index in range(WARM_UP + calls.alone)), calls)
    if learner.spec.problem.played:
        return ServingCost(
            latency_ms=_latency(alone),
            latency_1000_ms=_latency([ROWS * float(np.mean(alone))]),
            cpu_seconds_per_1000=round(ROWS * float(np.mean(cpu)), 6),
        )
    many, cpu = _clocked(learner, repeat(table.take(np.arange(ROWS) % count), WARM_UP + calls.many), calls)
    return ServingCost(
        latency_ms=_latency(alone),
        latency_1000_ms=_latency(many),
        cpu_seconds_per_1000=round(float(np.median(cpu)), 6),
    )


def _clocked(learner: Learner, batches: Iterable[pa.Table], calls: Calls) -> tuple[list[float], list[float]]:
    """Wall-clock and CPU seconds of each call, without the warm-up calls, which long calls do without."""
    from refit.learners.networks.surroundings import from_nothing  # only here: `refit show` imports no numpy

    wall, cpu = [], []
    began = time.perf_counter()
    with from_nothing():
        for rows in batches:
            clock, worked = time.perf_counter(), time.process_time()
            learner.predict(rows)
            cpu.append(time.process_time() - worked)
            wall.append(time.perf_counter() - clock)
            taken = time.perf_counter() - began
            if taken > calls.seconds and (len(wall) > WARM_UP or taken > LONG * calls.seconds):
                break
    return wall[WARM_UP:] or wall[-1:], cpu[WARM_UP:] or cpu[-1:]


def _latency(seconds: Sequence[float]) -> Latency:
    import numpy as np

    p50, p95, p99 = (round(float(np.quantile(seconds, share)) * 1000, 3) for share in (0.5, 0.95, 0.99))
    return Latency(p50=p50, p95=p95, p99=p99, calls=len(seconds))


def rows_at_once(learner: Learner, table: pa.Table) -> int:
    """Rows predicted per second in one call with all rows."""
    start = time.perf_counter()
    learner.predict(table)
    rows: int = table.num_rows
    return round(rows / max(time.perf_counter() - start, 1e-9))


def cost(cpu_seconds_per_1000: float, training_seconds: float, price: CostParams) -> Cost:
    """The cost of 1,000 predictions and of a training, at the price of a CPU hour.

    Training counts its wall-clock seconds, as if it used one CPU.
    """
    return Cost(
        cpu_seconds_per_1000=cpu_seconds_per_1000,
        per_1000=in_money(cpu_seconds_per_1000, price),
        training=in_money(training_seconds, price),
        cpu_hour=price.cpu_hour,
        currency=price.currency,
    )


def in_money(seconds: float, price: CostParams) -> float:
    """The price of CPU seconds, to three digits.

    >>> in_money(72, CostParams(cpu_hour=0.05))
    0.001
    """
    return float(f"{seconds / 3600 * price.cpu_hour:.3g}")


def megabytes(folder: Path) -> float:
    """The size of all files in a model's folder in megabytes, rounded to a kilobyte (10^3 bytes).

    It is rounded because a stored estimator names objects by memory addresses, whose length varies by some bytes.
    """
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 3)
