"""What fits the models of one learner side by side: set around a stage, because most learners fit one model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from refit.runtime.workers import StartWorkers, Workers

__all__ = ["FitWorkers", "fit_workers", "fitting_with"]

PREFIX, SUFFIX = ".fits.", ".partial"


@dataclass
class FitWorkers:
    """Workers that are started when a learner first asks for them, and end with the stage."""

    count: int  # of models that are fitted at the same time
    large: int  # bytes of an array that lies in a file, in the process of a worker
    home: Path  # a folder that every worker sees
    _start: StartWorkers
    _until_end: ExitStack = field(default_factory=ExitStack)
    _started: Workers | None = None

    def started(self) -> Workers:
        """The workers; the first call starts them."""
        if self._started is None:
            self._started = self._until_end.enter_context(self._start(self.count))
        return self._started

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for the rows and models of one fit, which is removed after the block."""
        self.home.mkdir(parents=True, exist_ok=True)
        # A worker on another machine may still write as an error ends the fit: that error is to be told, not this.
        with tempfile.TemporaryDirectory(SUFFIX, PREFIX, self.home, ignore_cleanup_errors=True) as name:
            yield Path(name)


fit_workers: ContextVar[FitWorkers | None] = ContextVar("fit_workers", default=None)


@contextmanager
def fitting_with(start: StartWorkers, count: int, home: Path, *, large: int) -> Iterator[None]:
    """Within the block, learners of many models fit `count` of them at the same time; no result depends on it.

    Args:
        home: a folder that every worker sees, for rows and models on their way.
        large: bytes above which an array of this process lies in a file; the workers share it.
    """
    if count < 2:
        yield
        return
    with ExitStack() as until_end:
        token = fit_workers.set(FitWorkers(count, large // count, home, start, until_end))
        try:
            yield
        finally:
            fit_workers.reset(token)
