"""What one run is asked to do: commands, deployments and events make it, the session acts on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from refit.runtime.run_file import RunFile
from refit.schemas.answered_drift import DataWindow

__all__ = ["RunOptions", "Trigger"]


@dataclass(frozen=True)
class Trigger:
    """What started a run; its text goes into the ledger.

    >>> str(Trigger("drift", DataWindow(first="2013-10-01", end="2013-10-08"), ("dep_delay", "carrier")))
    'drift; window 2013-10-01 to 2013-10-08; columns dep_delay, carrier'
    """

    reason: str = "manual"
    window: DataWindow | None = None  # of the drift that the run answers
    columns: tuple[str, ...] = ()  # that drifted

    def __str__(self) -> str:
        window = f"window {self.window}" if self.window else ""
        columns = f"columns {', '.join(self.columns)}" if self.columns else ""
        return "; ".join(filter(None, (self.reason, window, columns)))


@dataclass(frozen=True)
class RunOptions(RunFile):
    """The settings of one run, and how it is run."""

    trigger: Trigger = field(default_factory=Trigger)
    force: bool = False  # run every stage, changed or not
    allow_uncommitted: bool = True  # use code that is not committed
    flow_run: str | None = None
    wait_seconds: float = 0  # for another run of the same project to end
