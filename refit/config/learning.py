"""The params sections for learning: training, evaluation, the gate, costs and registration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from refit.config.section import Section, nearest
from refit.config.training import (
    CrossValidationParams,
    IntervalParams,
    LearnerParams,
    TextParams,
    ThresholdParams,
    TuningParams,
)
from refit.errors import UserError
from refit.problems import is_kind, kind_of, kinds

SliceKey = Annotated[str, Field(pattern=r"^[^=]+(=.+)?$")]


class TrainParams(Section):
    task: str = Field(
        "binary", description="the kind of label: 0 or 1, one of several texts, a number, or a future number"
    )
    metric: str = Field("roc_auc", description="metric for choosing learners; default by task: roc_auc, log_loss, mae")
    seed: int = Field(0, ge=0, lt=2**32)
    seeds: int = Field(1, ge=1, le=100, description="seeds for each learner, to tell merit from luck")
    average: bool = Field(False, description="the candidate is the mean of the models of all seeds")
    warm_start: Literal["champion"] | None = Field(
        None,
        description="champion: continue from the champion with the rows that are new to it; default: from scratch",
    )
    cross_validation: CrossValidationParams | None = Field(
        None, description="folds of training and validation rows together; default: the validation window alone"
    )
    tuning: TuningParams = TuningParams()
    calibration: Literal["sigmoid", "isotonic"] | None = Field(
        None,
        description="makes probabilities come true, learned from rows that the fit had not seen; of several classes "
        "sigmoid is one temperature, isotonic a curve for each class",
    )
    threshold: ThresholdParams = ThresholdParams()
    intervals: IntervalParams | None = Field(None, description="of numbers, from rows not used for fitting")
    text: TextParams = TextParams()
    learners: tuple[LearnerParams, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _several(self) -> TrainParams:
        if self.average and self.seeds == 1:
            raise ValueError("average needs several seeds; set seeds to 5, or leave average out")
        if self.average and self.warm_start:
            raise ValueError(
                "an average of several seeds cannot go on from a champion; leave warm_start or average out"
            )
        if self.intervals and not kind_of(self.task).intervals:
            raise ValueError(f"intervals are for numbers; the task is {self.task!r}: leave them out")
        if self.intervals and self.intervals.by == "quantiles" and self.warm_start:
            raise ValueError("intervals by quantiles are fitted from nothing; set by: residuals, or warm_start: null")
        return self

    @field_validator("task")
    @classmethod
    def _exists(cls, value: str) -> str:
        if not is_kind(value):
            raise ValueError(f"there is no task {value!r}; there are {', '.join(kinds())}{nearest(value, kinds())}")
        return value

    @field_validator("learners")
    @classmethod
    def _distinct(cls, value: tuple[LearnerParams, ...]) -> tuple[LearnerParams, ...]:
        names = [learner.name for learner in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"learner names must differ; twice: {', '.join(twice)}")
        if not any(learner.enabled for learner in value):
            raise ValueError("no learner is enabled")
        return value


class GateParams(Section):
    mode: Literal["non_inferiority", "superiority"] = "non_inferiority"
    metric: str = Field("roc_auc", description="metric for comparing models; default: train.metric")
    alpha: float = Field(0.05, gt=0, lt=0.5)
    max_loss: float = Field(0.005, ge=0, description="metric units that a successor may lose")
    min_gain: float = Field(0.0, ge=0, description="metric units that a superior model must gain")
    min_gain_over_baseline: float = Field(0.01, ge=0)
    min_rows: int = Field(2000, ge=1)
    cluster: str = Field("day", description="`day`, a feature's name, or `row` (rows taken as independent)")
    min_clusters: int = Field(20, ge=2)
    slices: dict[SliceKey, Annotated[float, Field(ge=0)]] = Field(
        {}, description="a column, or column=value -> metric units that a successor may lose there"
    )
    floors: dict[str, float] = Field({}, description="metric -> minimum for a candidate")
    ceilings: dict[str, float] = Field({}, description="metric -> maximum for a candidate")


class ExplainParams(Section):
    rows: int = Field(300, ge=0, le=10_000, description="test rows that predictions are explained on; 0: not at all")
    features: int = Field(6, ge=1, le=30, description="number of the most important features whose effects are drawn")


class EvaluateParams(Section):
    slices: tuple[str, ...] = ()
    confidence: float = Field(0.95, gt=0.5, lt=1)
    permutation_rows: int = Field(5000, ge=0, description="test rows on which importance is measured; 0: not at all")
    explain: ExplainParams = ExplainParams()
    cross_validation: CrossValidationParams = Field(
        CrossValidationParams(), description="outer folds of `refit cross-validate`; no run uses them"
    )
    gate: GateParams = GateParams()


class CostParams(Section):
    """Prices of computing, to express the cost of training and of predictions in money."""

    cpu_hour: float = Field(0.05, gt=0, description="price of one CPU for an hour, in `currency`")
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="ISO 4217 code; a name only, nothing is converted")


class RegisterParams(Section):
    golden_rows: int = Field(50, ge=1, le=10_000)
    golden_tolerance: float = Field(1e-6, ge=0, description="largest difference of a golden prediction")


def check_columns(params: EvaluateParams, columns: Sequence[str]) -> None:
    """Check that a table with these columns can be cut into the slices and clusters of the params.

    An evaluation would find out only after the training.

    Raises:
        UserError: a column does not exist.
    """
    gate = params.gate
    named = [("evaluate.slices", column) for column in params.slices]
    named += [("evaluate.gate.slices", key if key in columns else key.partition("=")[0]) for key in gate.slices]
    named += [("evaluate.gate.cluster", gate.cluster)] if gate.cluster not in ("day", "row") else []
    for params_key, column in named:
        if column not in columns:
            raise no_column(params_key, column, columns)


def no_column(params_key: str, column: str, columns: Sequence[str]) -> UserError:
    """The error that the features lack a column which the params name."""
    return UserError(f"params.yaml: {params_key}: the features have no column {column!r}{nearest(column, columns)}")
