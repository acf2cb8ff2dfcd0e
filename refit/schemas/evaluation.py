"""`reports/evaluation.json`: how the candidate, the champion and the baseline did on the test rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from refit.config.section import first_complaint
from refit.errors import RefitError
from refit.schemas.artifact import Artifact, Part, UtcTime, omitted
from refit.schemas.behaviour import BehaviourResult
from refit.schemas.explanations import Method, Unit
from refit.schemas.gate_decision import Decision
from refit.schemas.incumbent import Incumbent, TrainedModel
from refit.schemas.measured import Measured
from refit.schemas.prequential_report import PrequentialReport
from refit.schemas.serving_cost import Cost, Latency
from refit.schemas.training import LearnerReport

__all__ = [
    "DailyScores",
    "Details",
    "EvaluatedCandidate",
    "EvaluatedOpponent",
    "EvaluatedRows",
    "EvaluatedSlice",
    "Evaluation",
    "Explained",
    "Facts",
    "FeatureLoss",
    "Importance",
    "Measurements",
    "OpponentsOnPart",
    "PartialDependence",
    "PredictedRows",
    "Shap",
    "ShapFeature",
    "ShapPoints",
    "Timings",
]

P = TypeVar("P", bound=Part)
REMEDY = "`refit run` evaluates again"


class OfProblem(Part):
    """What a kind of problem says in its own words: each kind has its own class."""

    model_config = ConfigDict(extra="allow")

    def of_kind(self, kind: type[P]) -> P:
        """Itself as its kind's own class, also where it was read from a file.

        Raises:
            RefitError: it is not of this kind; the message says what to do.
        """
        return self if isinstance(self, kind) else _checked(self.to_json(), kind, "details")


class Facts(OfProblem):
    """What a kind of problem says about some rows: their labels and the candidate's predictions of them.

    In the file, its fields are keys of the entry that it belongs to.
    """


class Details(OfProblem):
    """What a kind of problem measures on the test rows, beyond its metrics.

    In the file, its fields are keys of the evaluation itself.
    """


class EvaluatedCandidate(TrainedModel):
    """The candidate."""

    learner: str
    kind: str
    inputs: str
    threshold: float | None  # from which a row is predicted as 1; None if the problem has none
    features: int
    model_mb: float


class Flat(Part):
    """A part of which one value is not in the file, but the value's entries in place of it."""

    INNER: ClassVar[str]

    @model_serializer(mode="wrap")
    def _flat(self, serialize: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        content = serialize(self)
        inner = content.pop(self.INNER)
        return {**content, **inner}


class EvaluatedRows(Flat):
    """The test rows."""

    INNER: ClassVar[str] = "facts"

    start: UtcTime
    end: UtcTime
    rows: int
    facts: SerializeAsAny[Facts]
    days: int
    cluster: str
    clusters: int
    effective_clusters: float | None


class EvaluatedSlice(Flat):
    """A part of the test rows, with the candidate's metric on it and its gain over the champion."""

    INNER: ClassVar[str] = "facts"

    by: str
    value: str
    rows: int
    facts: SerializeAsAny[Facts]
    enough: bool
    problem: str  # the reason if it is too small to be measured
    score: Measured | None  # in the file, its key is the metric's name
    gain: Measured | None


class EvaluatedOpponent(Part):
    """A naive opponent on the test rows, by the gate's metric."""

    name: str
    words: str  # what a sentence calls it, after "the"
    validation: float | None  # its score on the rows that the best one is chosen on
    score: Measured
    gain: Measured  # the candidate's over it
    best: bool  # on the validation rows, so that the gate compares with it


class OpponentsOnPart(Part):
    """Scores of the candidate and its naive opponents on a part of the test rows."""

    by: str
    value: str
    rows: int
    scores: Mapping[str, float | None]  # `candidate`, and each opponent by its name


class DailyScores(Flat):
    """The metric of each model on a day of the test window; None on a day whose labels are constant."""

    INNER: ClassVar[str] = "scores"

    day: str
    rows: int
    scores: Mapping[str, float | None]  # by model


class FeatureLoss(Measured):
    """The metric lost when a feature or a whole group of features is shuffled between rows."""

    name: str
    group: str | None = omitted(None)  # of a feature


class Importance(Part):
    """Permutation importance, largest first; no entries if it was not measured."""

    rows: int
    features: tuple[FeatureLoss, ...]
    groups: tuple[FeatureLoss, ...]


class ShapFeature(Part):
    """A feature's mean absolute Shapley value."""

    name: str
    value: float | None


class ShapPoints(Part):
    """A feature's Shapley value in each row, with the rank of the row's number, from 0 to 1."""

    name: str
    values: tuple[float, ...]
    levels: tuple[float | None, ...]


class Shap(Part):
    """Shapley values of the features, largest first; points only if there is a single output."""

    unit: Unit
    method: Method
    calibrated: bool
    rows: int
    base: tuple[float, ...]
    features: tuple[ShapFeature, ...]
    points: tuple[ShapPoints, ...]


class PartialDependence(Part):
    """The mean prediction with a feature set to each of several values: a number, or one for each class."""

    name: str
    kind: Literal["number", "category"]
    values: tuple[float | int | str, ...]
    shares: tuple[float, ...] | None  # of rows with each category
    mean: tuple[float, ...] | tuple[tuple[float, ...], ...]


class Explained(Part):
    """How the candidate's predictions follow its features, on a sample of the test rows."""

    rows: int
    classes: tuple[str, ...]
    shap: Shap | None
    partial_dependence: tuple[PartialDependence, ...]


class Timings(Part):
    """How long predictions take and what they cost; not reproducible."""

    latency_ms: Latency
    latency_1000_ms: Latency
    rows_per_second: int
    cost: Cost
    evaluate_seconds: float


class PredictedRows(Part):
    """The rows of `predictions.parquet`, by digest."""

    sha256: str
    rows: int


class Measurements(Flat):
    """Everything that is measured on the test rows except timings: equal models give equal measurements."""

    INNER: ClassVar[str] = "details"

    task: str  # the name of the kind of problem
    as_of: UtcTime
    overrides: Mapping[str, JsonValue]
    snapshot: str
    stand_in: tuple[str, ...] = ()
    candidate: EvaluatedCandidate
    incumbent: Incumbent = Field(alias="comparand")
    test: EvaluatedRows
    metric: str
    confidence: float
    metrics: Mapping[str, Mapping[str, Measured]]  # by model, then by metric
    gains: Mapping[str, Mapping[str, Measured]]  # the candidate's over each other model, by metric
    slices: tuple[EvaluatedSlice, ...]
    details: SerializeAsAny[Details]
    daily: tuple[DailyScores, ...]
    learning_metric: str
    learners: tuple[LearnerReport, ...]
    importance: Importance
    explained: Explained
    prequential: PrequentialReport | None = omitted(None)  # of a learner of a stream
    opponents: tuple[EvaluatedOpponent, ...] = omitted(())  # the usual baseline first
    opponents_on_parts: tuple[OpponentsOnPart, ...] = omitted(())
    behaviour: tuple[BehaviourResult, ...] = omitted(())  # in the order of `evaluate.behaviour`


class Evaluation(Artifact, Measurements):
    """The evaluation of a candidate."""

    REMEDY: ClassVar[str] = REMEDY

    error_reduction: Measured | None  # against the champion
    decision: Decision
    timings: Timings
    predictions: PredictedRows | None = None

    @classmethod
    def parse(cls, content: object, name: str) -> Self:
        return super().parse(_nested(content), name)

    def to_json(self) -> dict[str, JsonValue]:
        """The content as JSON values; in a slice, the score has the metric's name."""
        content = super().to_json()
        return content | {"slices": [_renamed(part.to_json(), "score", self.metric) for part in self.slices]}

    def detail(self, name: str, kind: type[P]) -> P | None:
        """A part of the details; None if this kind of problem has none of that name.

        Raises:
            RefitError: it is not such a part; the message says what to do.
        """
        part = getattr(self.details, name, None)
        return part if part is None or isinstance(part, kind) else _checked(part, kind, name)


def _checked(content: object, kind: type[P], name: str) -> P:
    """A part of an evaluation that was read from a file."""
    try:
        return kind.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise RefitError(
            f"the evaluation's {name} are damaged or were changed ({first_complaint(error)}); {REMEDY}"
        ) from None


def _renamed(content: Any, old: str, new: str) -> Any:
    """The content with another name for one of its keys; what holds no keys as it is."""
    if not isinstance(content, dict):
        return content
    return {new if key == old else key: value for key, value in content.items()}


def _nested(content: object) -> object:
    """The content of a file with facts, details and scores in values of their own."""
    if not isinstance(content, Mapping):
        return content
    parts = dict(content)
    if isinstance(slices := parts.get("slices"), list):
        named = [_renamed(each, str(content.get("metric")), "score") for each in slices]
        parts["slices"] = [_with_inner(each, EvaluatedSlice) for each in named]
    if isinstance(daily := parts.get("daily"), list):
        parts["daily"] = [_with_inner(each, DailyScores) for each in daily]
    return _with_inner(parts | {"test": _with_inner(parts.get("test"), EvaluatedRows)}, Evaluation)


def _with_inner(content: Any, kind: type[Flat]) -> Any:
    """The content with all entries that are no fields of their kind in a value of their own."""
    if not isinstance(content, dict):
        return content
    own = {field.alias or name for name, field in kind.model_fields.items()} - {kind.INNER}
    outer = {key: value for key, value in content.items() if key in own}
    return outer | {kind.INNER: {key: value for key, value in content.items() if key not in own}}
