"""What a search for a learner's arguments gives: its trials, the best one, and how much each argument mattered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tried:
    """One trial: arguments, the running mean of the score after each fold, and how it ended."""

    params: dict[str, Any]
    steps: tuple[float, ...] = ()
    state: str = "complete"  # pruned: given up after some folds; failed: it could not be fitted
    seconds: float = 0.0
    problem: str = ""
    rungs: dict[str, Any] = field(default_factory=dict)  # what a pruner noted
    took: dict[str, Any] = field(default_factory=dict)  # its fits and predictions, as `trial.took` tells it

    @property
    def value(self) -> float | None:
        return self.steps[-1] if self.steps and self.state == "complete" else None


@dataclass(frozen=True)
class Tuning:
    """A finished search: its trials in order, the place of the best, and how much each argument mattered."""

    trials: tuple[Tried, ...]
    best: int
    importance: dict[str, float]
    seconds: float = 0.0  # on the clock; less than those of the trials where some ran at once or were there already

    @property
    def work_seconds(self) -> float:
        """Seconds of all trials together, those of an earlier, unfinished search too."""
        return sum(tried.seconds for tried in self.trials)
