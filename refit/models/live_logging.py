"""Logs epochs and the use of the machine to MLflow during a training; `log_training` logs the complete curves later."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from refit.errors import message_of
from refit.learners.networks.surroundings import EpochReport, reporting_to
from refit.runtime.context import Context
from refit.runtime.registry_store import store_of
from refit.schemas.training import short_candidate
from registry import tracking
from registry.store import faults
from registry.system_metrics import SystemMetrics

__all__ = ["epochs_logged"]

EVERY_SECONDS = 2.0  # a shorter training is not logged while it runs: importing MLflow takes as long

Point = tuple[str, float, int]


@contextmanager
def epochs_logged(context: Context, inputs: str, *, every_seconds: float = EVERY_SECONDS) -> Iterator[None]:
    """Log epochs of the fits within the block, and the use of the machine, to one run tagged `refit.role` = `live`.

    It is best effort: without a reachable registry, the training goes on after one warning.

    Args:
        inputs: the digest that identifies the candidate.
    """
    live = _LiveRun(context, inputs, every_seconds)
    with reporting_to(live.add):
        try:
            yield
        except BaseException:
            live.end("FAILED")
            raise
        live.end("FINISHED")


@dataclass
class _LiveRun:
    context: Context
    inputs: str
    every_seconds: float
    _run: str | None = None
    _off: bool = False
    _points: list[Point] = field(default_factory=list)
    _fits: Counter[str] = field(default_factory=Counter)
    _system: SystemMetrics | None = None
    _logged: float = field(default_factory=time.monotonic)

    def add(self, report: EpochReport) -> None:
        """Take note of an epoch, and log all that is new if the last time is long enough ago."""
        if report.epoch == 1 or not self._fits[report.learner]:
            self._fits[report.learner] += 1
        values = {
            "loss": report.loss,
            "learning_rate": report.learning_rate,
            "seconds": report.seconds,
            "training": report.training,
            "validation": report.validation,
        }
        fit = f"{report.learner} {self._fits[report.learner]}"
        self._points += [(f"{fit}/{name}", value, report.epoch) for name, value in values.items() if value is not None]
        if time.monotonic() - self._logged >= self.every_seconds:
            self._log()

    def end(self, status: str) -> None:
        """Log the rest and end the run, if there is one."""
        if self._run is not None:
            self._log(status)

    def _log(self, status: str | None = None) -> None:
        if self._off:
            return
        store = store_of(self.context.project, self.context.params)
        try:
            with faults(store):
                if self._run is None:
                    tags = {"refit.role": "live", "refit.candidate": self.inputs}
                    experiment = tracking.ensure_experiment(store, self.context.params.project.name)
                    self._system = SystemMetrics()
                    self._run = tracking.start_run(store, experiment, f"training {short_candidate(self.inputs)}", tags)
                system = self._system.sample() if self._system else []
                tracking.log_points(store, self._run, [*self._points, *system])
                if status is not None:
                    tracking.end_run(store, self._run, status)
        except Exception as error:  # whatever is wrong with a registry, a training of hours is worth more
            self._off = True
            self.context.progress(f"warning: MLflow does not show the epochs live: {message_of(error)}")
        self._points.clear()
        self._logged = time.monotonic()
