"""What fits and predictions of a learner cost."""

from __future__ import annotations

from refit.schemas.artifact import Part

__all__ = ["Cost", "FitCost", "Latency", "ServingCost"]


class Latency(Part):
    """Quantiles of the milliseconds of timed calls."""

    p50: float
    p95: float
    p99: float
    calls: int


class ServingCost(Part):
    """Time of predictions, one row and a thousand rows at once."""

    latency_ms: Latency
    latency_1000_ms: Latency
    cpu_seconds_per_1000: float  # of all threads


class Cost(Part):
    """The cost of 1,000 predictions and of a training, at the price of a CPU hour."""

    cpu_seconds_per_1000: float
    per_1000: float
    training: float
    cpu_hour: float
    currency: str


class FitCost(ServingCost):
    """Time and memory of fits, and the time of their predictions."""

    seconds: float
    rows_per_second: int
    peak_memory_mb: float | None  # the largest; None if the system does not report it
