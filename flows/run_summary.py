"""What a run says at its end: `refit run --json` prints it, the terminal and Prefect show it."""

from __future__ import annotations

from collections.abc import Mapping

from refit.schemas.artifact import Part, UtcTime, omitted
from refit.schemas.behaviour import BehaviourResult
from refit.schemas.evaluation import EvaluatedOpponent
from refit.schemas.feature_table import LabelCounts, Windows
from refit.schemas.gate_decision import Decision
from refit.schemas.measured import Measured
from refit.schemas.serving_cost import Cost, Latency
from refit.schemas.validated import RowBalance
from registry.champion import CHAMPION

__all__ = ["IntervalSummary", "LearnerSummary", "RegisteredAs", "RunSummary", "ServingTimes", "StageEnd"]


class StageEnd(Part):
    """How a stage ended."""

    state: str
    seconds: float | int


class LearnerSummary(Part):
    """A learner's validation score, time and cost."""

    name: str
    validation: float | int | None
    seconds: float
    rows_per_second: int
    peak_memory_mb: float | None
    latency_ms: Latency
    latency_1000_ms: Latency
    cost_training: float
    cost_per_1000: float
    trials: int = 0  # of the search for its arguments
    pruned: int = 0  # of these, ended early because they were behind
    search_seconds: float = 0.0  # of all trials
    not_chosen: str | None = None  # why it cannot be the candidate, however good it is


class ServingTimes(Part):
    """How long the candidate's predictions take."""

    latency_ms: Latency
    latency_1000_ms: Latency
    rows_per_second: int


class IntervalSummary(Part):
    """How many labels of the test rows the candidate's intervals held, and how wide they are."""

    level: float
    coverage: Measured
    width: Measured
    winkler: Measured


class RegisteredAs(Part):
    """The version of the candidate."""

    name: str
    version: str
    alias: str
    awaits_approval: bool = omitted(False)  # then the only reason of `why_not` says until when, and how to answer
    why_not: tuple[str, ...] = omitted(())  # why it is not champion, although the gate would promote it

    @property
    def is_champion(self) -> bool:
        """Whether the candidate is the champion."""
        return self.alias == CHAMPION


class RunSummary(Part):
    """A run, from the files that it wrote."""

    flow_run_id: str | None
    mlflow_run_id: str | None
    as_of: UtcTime
    snapshot: str
    batches: int
    stand_in: Mapping[str, str]  # where the real file of each generated source is published
    rows: RowBalance
    features: int
    windows: Windows
    split: str | None = omitted(None)  # the rule that separated test rows; None if they are separated by time
    labels: LabelCounts | None  # null in a problem without labels
    stages: Mapping[str, StageEnd]
    learners: tuple[LearnerSummary, ...]
    chosen: str
    metric: str
    metrics: Mapping[str, float | None]  # of the candidate on the test rows
    evaluation: Mapping[str, Mapping[str, Measured]]  # by model, then by metric
    confidence: float = 0.95  # of its intervals
    cost: Cost
    timings: ServingTimes
    error_reduction: Measured | None  # against the champion
    intervals: IntervalSummary | None
    opponents: tuple[EvaluatedOpponent, ...] = omitted(())  # naive ones, by the gate's metric
    behaviour: tuple[BehaviourResult, ...] = omitted(())  # of behavioural tests
    findings: tuple[str, ...] = omitted(())  # of the candidate, in sentences, in problems that need no label
    leaks: tuple[str, ...] = omitted(())  # features that may give the label away, in sentences
    decision: Decision
    model: RegisteredAs
    report: str
    seconds: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the candidate is champion, or why it is not: the gate's reasons, unless something else kept it back."""
        return self.model.why_not or self.decision.reasons
