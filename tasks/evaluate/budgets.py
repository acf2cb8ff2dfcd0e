"""What a model takes besides its errors: the time, the money and the room of its predictions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.learners import Learner
from tasks.params import CostParams

if TYPE_CHECKING:
    import pyarrow as pa

LATENCY_CALLS, LATENCY_WARM_UP, LATENCY_SECONDS = 200, 10, 2.0
COST_ROWS, COST_CALLS = 1000, 5


def latency(learner: Learner, table: pa.Table) -> dict[str, Any]:
    """Milliseconds for one row asked alone (median and 99th percentile), and rows a second asked all at once."""
    durations: list[float] = []
    began = time.perf_counter()
    for call in range(LATENCY_WARM_UP + LATENCY_CALLS):
        row = table.slice(call % table.num_rows, 1)
        start = time.perf_counter()
        learner.predict(row)
        durations.append(time.perf_counter() - start)
        if time.perf_counter() - began > LATENCY_SECONDS and len(durations) > LATENCY_WARM_UP:
            break
    measured = np.array(durations[min(LATENCY_WARM_UP, len(durations) - 1) :]) * 1000
    start = time.perf_counter()
    learner.predict(table)
    per_second = table.num_rows / max(time.perf_counter() - start, 1e-9)
    return {
        "latency_ms": {
            "p50": round(float(np.quantile(measured, 0.5)), 3),
            "p99": round(float(np.quantile(measured, 0.99)), 3),
            "calls": len(measured),
        },
        "rows_per_second": round(per_second),
    }


def cost(learner: Learner, table: pa.Table, price: CostParams, training_seconds: float) -> dict[str, Any]:
    """What 1,000 predictions and the training cost, at the price of a CPU hour.

    Predictions are counted in CPU seconds of all threads, the median of a few calls with 1,000 rows each; the training
    in its seconds on the clock, as if it had one CPU.
    """
    rows = table.take(np.arange(COST_ROWS) % table.num_rows)  # fewer rows than that are asked again
    learner.predict(rows)
    seconds = []
    for _ in range(COST_CALLS):
        start = time.process_time()
        learner.predict(rows)
        seconds.append(time.process_time() - start)
    per_1000 = float(np.median(seconds))
    return {
        "cpu_seconds_per_1000": round(per_1000, 6),
        "per_1000": in_money(per_1000, price),
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
