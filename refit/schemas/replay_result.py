"""`.refit/replay/replay.json`: what each retraining policy would have achieved in the past that was replayed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import Field, JsonValue

from refit.config.windows import Period
from refit.schemas.artifact import Artifact, Part, UtcTime, omitted

__all__ = ["AgainstChance", "FirstTraining", "Gain", "PolicyResult", "ReplayResult", "ReplayStep", "WindowResult"]


class Gain(Part):
    """A difference with its interval, where there is one."""

    value: float | None
    lower: float | None
    upper: float | None


class AgainstChance(Part):
    """A policy compared with random schedules of as many trainings; the gain is over their median."""

    schedules: int
    scores: tuple[float | None, ...]
    median: float | None
    gain: Gain
    block: int  # consecutive windows that were drawn together for the interval


class FirstTraining(Part):
    """The training of a policy's first model."""

    as_of: UtcTime
    learner: str | None


class WindowResult(Part):
    """One window under one policy."""

    day: date  # on which it begins in the project's zone
    start: UtcTime
    end: UtcTime
    rows: int
    scored: int
    labelled: int
    score: float | None  # None if its rows cannot show one
    trained: bool
    promoted: bool
    refused: bool
    train_seconds: float
    champion_as_of: UtcTime | None = Field(alias="in_charge")  # None if there was no champion


class ReplayStep(Part):
    """What a policy decided at one moment, and the gate after it."""

    as_of: UtcTime
    retrain: bool = Field(alias="asked")
    reasons: tuple[str, ...]
    learner: str | None  # None if nothing was trained
    promoted: bool
    gate: tuple[str, ...]


class PolicyResult(Part):
    """What one policy came to; counts and seconds are of all trainings, `retrainings` leaves out the first."""

    score: float | None
    behind_best: Gain
    trainings: int
    retrainings: int
    promotions: int
    refusals: int
    train_seconds: float
    train_cost: float
    first: FirstTraining | None
    rows: int
    labelled: int
    by_window: tuple[WindowResult, ...]
    steps: tuple[ReplayStep, ...]
    random: AgainstChance | Literal[False] | None = omitted(False)  # False: not requested
    at_own_threshold: float | None = omitted(None)  # accuracy at each champion's own, next to a score of accuracy at .5


class ReplayResult(Artifact):
    """Several policies on one past, scored on the same rows."""

    model: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    every: Period
    metric: str
    confidence: float
    currency: str
    policies: Mapping[str, PolicyResult]
    no_change: float | None  # the accuracy of saying what the last known label was
    budget: int | None
    best: str | None
    trained_now: int  # models that were not cached
    parts: Mapping[str, float]  # seconds
    seconds: float
    frontier: tuple[str, ...] = omitted(())  # policies that no other one beats with as few retrainings
    knee: str | None = omitted(None)  # the one after which further retrainings bring least
    recommended: Mapping[str, JsonValue] | None = omitted(None)  # of `drift`, as `--recommend` wrote it
    report: str | None = omitted(None)  # path of the page, for `--json`

    @property
    def at_own_thresholds(self) -> bool:
        """Whether policies have an accuracy at each champion's own threshold, too."""
        return any(policy.at_own_threshold is not None for policy in self.policies.values())

    @property
    def not_worse(self) -> tuple[str, ...]:
        """The policies within the budget not shown to be worse than the best: their interval holds zero, or is none."""
        others = (
            (name, each)
            for name, each in self.policies.items()
            if name != self.best and each.score is not None and (self.budget is None or each.retrainings <= self.budget)
        )
        return tuple(name for name, each in others if each.behind_best.lower is None or each.behind_best.lower <= 0)
