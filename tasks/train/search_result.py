"""The result of a search for a learner's arguments: trials, the best one, and the importance of each argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrialResult:
    """One trial: arguments, running mean of the score after each fold, and final state."""

    params: dict[str, Any]
    steps: tuple[float, ...] = ()
    state: str = "complete"  # pruned: stopped after some folds; failed: could not be fitted
    seconds: float = 0.0
    problem: str = ""
    rungs: dict[str, Any] = field(default_factory=dict)  # notes of the pruner
    took: dict[str, Any] = field(default_factory=dict)  # cost of fits and predictions, see `trial.fit_cost`

    @property
    def value(self) -> float | None:
        return self.steps[-1] if self.steps and self.state == "complete" else None


@dataclass(frozen=True)
class Tuning:
    """A finished search: its trials in order, the index of the best, and the importance of each argument."""

    trials: tuple[TrialResult, ...]
    best: int
    importance: dict[str, float]
    seconds: float = 0.0  # elapsed; less than the sum of the trials if some ran in parallel or were stored

    @property
    def work_seconds(self) -> float:
        """Seconds of all trials, those of an earlier, unfinished search included."""
        return sum(trial.seconds for trial in self.trials)
