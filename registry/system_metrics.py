"""Use of CPU, memory and GPU of this machine, as MLflow's own monitors measure it."""

from __future__ import annotations

from typing import Any


class SystemMetrics:
    """Samples of the machine's use, under the names that MLflow shows as system metrics.

    Without psutil there are none; those of GPUs need nvidia-ml-py.

    >>> sorted(name for name, _, _ in SystemMetrics().sample())[:2]
    ['system/cpu_utilization_percentage', 'system/system_memory_usage_megabytes']
    """

    def __init__(self) -> None:
        self._samples = 0
        self._monitors = list(_monitors())
        self._collect()  # the share of the CPU is that since the sample before
        self._clear()

    def sample(self) -> list[tuple[str, float, int]]:
        """The present use, as (name, value, number of the sample)."""
        self._collect()
        named = [pair for monitor in self._monitors for pair in monitor.aggregate_metrics().items()]
        self._clear()
        self._samples += 1
        return [(f"system/{name}", float(value), self._samples) for name, value in named]

    def _collect(self) -> None:
        for monitor in self._monitors:
            monitor.collect_metrics()

    def _clear(self) -> None:
        for monitor in self._monitors:
            monitor.clear_metrics()


def _monitors() -> list[Any]:
    try:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    except ImportError:
        return []
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    try:
        return [CPUMonitor(), GPUMonitor()]
    except (ImportError, RuntimeError):  # there is no library for GPUs, or no GPU
        return [CPUMonitor()]
