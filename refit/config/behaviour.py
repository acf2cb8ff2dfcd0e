"""Behavioural tests of a model (`evaluate.behaviour`): one class for each kind, and checks of what they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field, model_validator

from refit.config.section import Rows, Section, Unit, nearest
from refit.config.section import Share as AnyShare
from refit.errors import UserError
from refit.problems import kind_of

__all__ = ["BehaviourTest", "DirectionTest", "ExampleRow", "ExamplesTest", "FairnessTest", "InvarianceTest"]

Value = str | float | int | bool | None
Share = Annotated[AnyShare, Field(ge=0, le=1)]
Prediction = Annotated[float, Unit("probability, or the label's units")]

TASKS = ("binary", "multiclass", "regression")  # kinds of predictions that can be tested
RATES = ("positive_rate", "true_positive_rate", "false_positive_rate")  # of a binary problem, at its threshold
MEAN_ERROR = "mean_error"  # of numbers: prediction minus label


class Features(Protocol):
    """The features of a training table, by kind."""

    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def numeric(self) -> tuple[str, ...]: ...
    @property
    def categorical(self) -> tuple[str, ...]: ...
    @property
    def text(self) -> tuple[str, ...]: ...


class InvarianceTest(Section):
    """A change that means nothing leaves predictions as they are."""

    kind: Literal["invariance"] = Field(description="a change that means nothing leaves predictions as they are")
    name: str = Field(min_length=1, description="what the model is expected to do, in a few words")
    column: str = Field(description="the feature that is changed")
    change: Literal["upper", "lower", "typo", "shuffle"] = Field(
        description="upper or lower case; two neighbouring letters swapped; values exchanged between rows"
    )
    within: Prediction = Field(
        ge=0, description="how far a prediction may move: in probability, or in units of the label"
    )
    share: Share = Field(1.0, description="share of rows whose predictions have to stay within")


class DirectionTest(Section):
    """A number that is raised moves predictions one way."""

    kind: Literal["direction"] = Field(description="a number that is raised moves predictions one way")
    name: str = Field(min_length=1, description="what the model is expected to do, in a few words")
    column: str = Field(description="the feature that is raised")
    add: Annotated[float, Unit("the feature's units")] = Field(gt=0, description="how much is added to its value")
    prediction: Literal["rises", "falls"] = Field(description="which way predictions may move; staying counts as both")
    class_name: str | None = Field(None, alias="class", description="whose probability is meant, of several classes")
    share: Share = Field(0.95, description="share of rows that have to move that way or stay; their mean always has to")


class ExampleRow(Section):
    """A row written by hand, and the answer."""

    given: dict[str, Value] = Field(min_length=1, description="feature -> value; other features have no value")
    expected: Value = Field(None, description="the predicted class: 0 or 1, or a name")
    at_least: Prediction | None = Field(
        None, description="lower end of the prediction, or of the expected class's probability"
    )
    at_most: Prediction | None = Field(None, description="upper end of the same")

    @model_validator(mode="after")
    def _has_an_answer(self) -> ExampleRow:
        if self.expected is None and self.at_least is None and self.at_most is None:
            raise ValueError("has no answer: give expected, at_least or at_most")
        return self


class ExamplesTest(Section):
    """Rows written by hand are predicted as they say."""

    kind: Literal["examples"] = Field(description="rows written by hand are predicted as they say")
    name: str = Field(min_length=1, description="what the model is expected to do, in a few words")
    rows: tuple[ExampleRow, ...] = Field((), description="the rows with their answers")
    file: str | None = Field(
        None, description="CSV of the project: features, and any of the columns expected, at_least and at_most"
    )
    share: Share = Field(1.0, description="share of rows that have to be predicted so")

    @model_validator(mode="after")
    def _has_rows(self) -> ExamplesTest:
        if bool(self.rows) == (self.file is not None):
            raise ValueError("needs either rows or a file")
        return self


class FairnessTest(Section):
    """A metric differs little between groups of rows."""

    kind: Literal["fairness"] = Field(description="a metric differs little between groups of rows")
    name: str = Field(min_length=1, description="what the model is expected to do, in a few words")
    column: str = Field(description="the column whose values are the groups: a feature, or one of featurize.keep")
    metric: str = Field(
        description="a metric of the task; binary also positive_rate, true_positive_rate, false_positive_rate at the "
        "threshold; numbers also mean_error"
    )
    within: Annotated[float, Unit("the metric's units")] = Field(
        gt=0, description="how far a group may differ from the other rows, in units of the metric"
    )
    rule: Literal["interval", "estimate"] = Field(
        "interval", description="what has to be within: both ends of the gap's interval, or the gap itself"
    )
    min_rows: Rows = Field(100, ge=10, description="rows of a group that is judged; smaller ones are not")


BehaviourTest = Annotated[
    InvarianceTest | DirectionTest | ExamplesTest | FairnessTest, Field(discriminator="kind", description="a test")
]


def behaviour_problems(tests: Sequence[BehaviourTest], task: str) -> Iterator[str]:
    """Find tests that do not fit the task; each problem as one line."""
    kind = kind_of(task)
    if tests and kind.task not in TASKS:
        yield (
            f"evaluate.behaviour: a model of task {task!r} predicts neither classes nor numbers, which is what is "
            f"tested; only {', '.join(TASKS)} and forecast have such tests"
        )
        return
    names = [each.name for each in tests]
    for index, each in enumerate(tests):
        where = f"evaluate.behaviour[{index}]"
        if names.index(each.name) < index:
            yield f"{where}.name: another test is called {each.name!r} too"
        if isinstance(each, DirectionTest) and (each.class_name is None) == (kind.task == "multiclass"):
            missing = "several classes: name the one whose probability is meant"
            yield f"{where}.class: task {task!r} has {missing if each.class_name is None else 'none: leave it out'}"
        if isinstance(each, FairnessTest) and each.metric not in (known := gap_metrics(task)):
            yield f"{where}.metric: {each.metric!r} is none of {', '.join(known)}{nearest(each.metric, known)}"


def gap_metrics(task: str) -> tuple[str, ...]:
    """The metrics that may be compared between groups."""
    kind = kind_of(task)
    more = RATES if kind.task == "binary" else (MEAN_ERROR,) if kind.task == "regression" else ()
    return (*kind.metric_names(), *more)


def check_behaviour(tests: Sequence[BehaviourTest], features: Features, columns: Sequence[str]) -> None:
    """Check that the columns of all tests exist and are of a kind that can be changed so.

    Args:
        columns: of the training table.

    Raises:
        UserError: a column does not exist, or is of another kind.
    """
    for index, each in enumerate(tests):
        where = f"params.yaml: evaluate.behaviour[{index}]"
        if isinstance(each, FairnessTest):
            _require(f"{where}.column", each.column, columns)
        elif isinstance(each, ExamplesTest):
            for number, row in enumerate(each.rows):
                for name in row.given:
                    _require(f"{where}.rows[{number}].given", name, features.features)
        else:
            _require(f"{where}.column", each.column, features.features)
            wanted, kind = (features.numeric, "a number")
            if isinstance(each, InvarianceTest):
                wanted, kind = ((*features.categorical, *features.text), "a category or a text")
                if each.change == "shuffle":
                    wanted = features.features
            if each.column not in wanted:
                raise UserError(f"{where}.column: {each.column!r} is not {kind}, so it cannot be changed so")


def _require(where: str, column: str, columns: Sequence[str]) -> None:
    if column not in columns:
        raise UserError(f"{where}: the features have no column {column!r}{nearest(column, columns)}")
