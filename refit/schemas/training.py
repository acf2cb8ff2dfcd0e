"""`training.json`: how each learner fitted, which one is the candidate, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, field_serializer, field_validator

from refit.errors import counted
from refit.plain_text import one_line
from refit.schemas.artifact import Artifact, Part, UtcTime, omitted
from refit.schemas.postprocessing import MarginsByGroup, StoredCalibration
from refit.schemas.segment_study import SegmentStudy
from refit.schemas.serving_cost import FitCost
from refit.schemas.warm_start import WarmStart

__all__ = ["GroupModel", "GroupModels", "IterationScores", "LearnerReport", "Scores", "SeedScores", "SizeScores"]
__all__ += ["Training", "TrainingRows", "TrialReport", "TuningReport", "short_candidate"]

SHOWN = 40  # characters of a value

Scores = Mapping[str, float | int | None]  # by metric; None if it is undefined for these labels


def short_candidate(inputs: str) -> str:
    """The name of a candidate for people, the same on its card, in `refit history` and in the name of MLflow's run.

    >>> short_candidate("5bcccb10aa6ccd29")
    '5bcccb10'
    """
    return inputs[:8]


class IterationScores(Part):
    """Scores after a number of iterations."""

    iteration: int
    training: float | int
    validation: float | int


class SizeScores(Part):
    """Scores of a learner fitted on the most recent `rows` training rows."""

    rows: int
    training: float | int
    validation: float | int


class SeedScores(Part):
    """The validation metric of fits with different seeds."""

    values: tuple[float, ...]
    mean: float
    deviation: float


class TrialReport(Part):
    """One trial of a search: its arguments, the running mean of the score after each fold, and its final state."""

    params: Mapping[str, object]
    state: Literal["complete", "pruned", "failed"]  # pruned: stopped before its end; failed: could not be fitted
    value: float | None  # the last step of a complete trial
    steps: tuple[float, ...]
    # The running mean of the score after epochs, if the pruner compares by these.
    epochs: tuple[tuple[Annotated[int, Field(ge=0, lt=2**31)], float], ...] = omitted(())
    seconds: float = Field(ge=0)
    problem: str
    cost: FitCost | None = Field(alias="took")  # None if nothing was fitted

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.state == "pruned":
            return f"given up after some {'epochs' if self.epochs else 'folds'}"
        return "finished" if self.state == "complete" else self.state

    @field_validator("cost", mode="before")
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        return None if value == {} else value

    @field_serializer("cost")
    def _empty_if_none(self, value: FitCost | None) -> dict[str, JsonValue]:
        return {} if value is None else value.to_json()


class TuningReport(Part):
    """A finished search: its trials in order, the index of the best, and the importance of each argument."""

    trials: tuple[TrialReport, ...]
    best: int
    importance: Mapping[str, float]
    seconds: float = 0.0  # elapsed; less than the sum of the trials if some ran in parallel or were stored

    @property
    def work_seconds(self) -> float:
        """Seconds of all trials, those of an earlier, unfinished search included."""
        return sum(trial.seconds for trial in self.trials)


class GroupModel(Part):
    """A value with a model of its own."""

    value: str
    rows: int  # that the model was fitted to
    unseen_rows: int  # rows of the value that `validation` is of
    # By the training's metric, of fits that have not seen the rows; None if undefined, or if one had no such model.
    validation: float | None


class GroupModels(Part):
    """The models of the candidate."""

    by: str
    models: tuple[GroupModel, ...]  # in the order of the values
    pooled_values: int  # values without a model of their own, which share the one of all rows
    pooled_rows: int  # training rows of these values, and without a value

    @property
    def sentence(self) -> str:
        """How many models there are, and of how many rows.

        >>> two = (GroupModel(value="AA", rows=1200, unseen_rows=0, validation=None),
        ...        GroupModel(value="UA", rows=5000, unseen_rows=0, validation=None))
        >>> for part in GroupModels(by="carrier", models=two, pooled_values=3, pooled_rows=700).sentence.split("; "):
        ...     print(part)
        2 values of carrier have their own models, of 1,200 ("AA") to 5,000 ("UA") rows
        3 others, with 700 rows, and new ones share one of all rows
        """
        least = min(self.models, key=lambda model: model.rows)
        most = max(self.models, key=lambda model: model.rows)
        one, many = f"value of {self.by} has its own model", f"values of {self.by} have their own models"
        own = counted(len(self.models), one, many)
        sizes = " to ".join(f"{model.rows:,} ({_named(model.value)})" for model in (least, most))
        others = "new ones"
        if self.pooled_values:
            others = f"{counted(self.pooled_values, 'other')}, with {counted(self.pooled_rows, 'row')}, and new ones"
        elif self.pooled_rows:
            others = f"{counted(self.pooled_rows, 'row')} without a value, and new values"
        return f"{own}, of {sizes} rows; {others} share one of all rows"


def _named(value: str) -> str:
    text = one_line(value)
    return f'"{text[:SHOWN]}{"..." if len(text) > SHOWN else ""}"'


class LearnerReport(FitCost):
    """How one learner fitted: scores, curves, cost and verdict."""

    name: str
    kind: str
    params: Mapping[str, object]
    training: Scores
    validation: Scores
    threshold: float
    calibration: StoredCalibration | None
    seeds: SeedScores | None
    folds: tuple[Scores, ...]  # validation scores of each fold; empty if there is one
    iterations: int | None
    curve: tuple[IterationScores, ...]
    curve_metric: str = omitted("")  # of `curve`; empty: that of the training
    size_curve: tuple[SizeScores, ...]
    warnings: tuple[str, ...]
    not_chosen: str | None  # why it cannot be the candidate
    tuning: TuningReport | None
    verdict: str
    segments: SegmentStudy | None = omitted(None)  # of the candidate, if it is a clustering
    models: GroupModels | None = omitted(None)  # of the candidate, if it is many models

    @property
    def work_seconds(self) -> float:
        """Seconds of its fits, including every trial of its search."""
        return self.seconds + (self.tuning.work_seconds if self.tuning else 0.0)


class TrainingRows(Part):
    """The number of rows of each window."""

    train: int
    validation: int
    left_out: int = omitted(0)  # rows of the training window beyond `train.max_rows`


class Training(Artifact):
    """The training of a candidate."""

    REMEDY: ClassVar[str] = "`refit stage train` writes it again"

    learner: str
    task: str
    classes: tuple[str, ...]
    metric: str
    seed: int
    model_digest: str
    threshold: float
    intervals: MarginsByGroup | None
    seen_until: UtcTime  # no data from this time on was used
    split: str | None = None  # the rule that separated test rows; None if they are separated by time
    inputs: str  # the digest of everything that determines the candidate: its identity
    baseline: Mapping[str, object]  # the naive guess, as its problem learns it
    rows: TrainingRows
    refit_rows: int  # rows that the candidate was fitted on
    started_from: WarmStart = WarmStart()
    seconds: float
    work_seconds: float  # including every trial of a search, parallel and earlier ones
    learners: tuple[LearnerReport, ...]

    @property
    def identity(self) -> dict[str, str]:
        """The tags that identify a candidate in MLflow: the digests of its inputs and of its model."""
        return {"refit.candidate": self.inputs, "refit.model_digest": self.model_digest}

    @property
    def run_name(self) -> str:
        """The name of the candidate's run in MLflow."""
        return f"{self.learner} {short_candidate(self.inputs)}"

    @property
    def chosen(self) -> LearnerReport:
        """The learner that became the candidate."""
        return next(learner for learner in self.learners if learner.name == self.learner)
