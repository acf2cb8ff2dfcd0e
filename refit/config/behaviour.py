"""Behavioural tests of a model (`evaluate.behaviour`): one class for each kind, and checks of what they name."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, ValidationError, model_validator

from refit.config.section import Rows, Section, Unit, first_complaint, nearest
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
ANSWERS = ("expected", "at_least", "at_most")  # of an example; in a file, the columns that are no features


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
    expected: Value = Field(None, description="the predicted class: 0 or 1 (or true, false), or a name; not of numbers")
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
        if isinstance(each, ExamplesTest):
            faults = ((number, answer_fault(row, task)) for number, row in enumerate(each.rows))
            yield from (f"{where}.rows[{number}].expected: {fault}" for number, fault in faults if fault)
        if isinstance(each, FairnessTest) and each.metric not in (known := gap_metrics(task)):
            yield f"{where}.metric: {each.metric!r} is none of {', '.join(known)}{nearest(each.metric, known)}"


def gap_metrics(task: str) -> tuple[str, ...]:
    """The metrics that may be compared between groups."""
    kind = kind_of(task)
    more = RATES if kind.task == "binary" else (MEAN_ERROR,) if kind.task == "regression" else ()
    return (*kind.metric_names(), *more)


def zero_or_one(value: Value) -> int | None:
    """A class of a binary task, or a truth value, as it is written; None if it is neither.

    >>> zero_or_one(True), zero_or_one("0"), zero_or_one("False"), zero_or_one(0.9), zero_or_one("yes")
    (1, 0, 0, None, None)
    """
    text = str(value).strip().lower()
    try:
        number = float({"true": "1", "false": "0"}.get(text, text))
    except ValueError:
        return None
    return int(number) if number in (0, 1) else None


def answer_fault(row: ExampleRow, task: str) -> str:
    """Why `expected` cannot be the answer of a task; empty if it can, or if there is none."""
    kind = kind_of(task)
    if (
        row.expected is None
        or kind.task == "multiclass"
        or (kind.task == "binary" and zero_or_one(row.expected) is not None)
    ):
        return ""
    if kind.task == "binary":
        return f"a class is 0 or 1 (or true, false), found {row.expected!r}; at_least and at_most bound a probability"
    return f"task {task!r} predicts a number, found {row.expected!r}; at_least and at_most bound it"


def example_rows(test: ExamplesTest, project: Path, features: Sequence[str], task: str) -> tuple[ExampleRow, ...]:
    """The rows of a test: its own, or those of its file.

    Raises:
        UserError: the file is missing, is no CSV of the features in UTF-8, or an answer does not fit the task.
    """
    if test.file is None:
        return test.rows
    where = f"params.yaml: evaluate.behaviour: file {test.file}"
    path = project / test.file
    if not path.resolve().is_relative_to(project.resolve()) or not path.is_file():
        raise UserError(f"{where}: no such file in the project")
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            rows = tuple(_parsed(csv.DictReader(text), where, features, task))
    except UnicodeDecodeError:
        raise UserError(f"{where}: it is not encoded in UTF-8; save it as CSV UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{where}: it is no CSV file: {error}") from None
    if not rows:
        raise UserError(f"{where}: it has no row; the first line names features, and expected, at_least or at_most")
    return rows


def _parsed(reader: csv.DictReader[str], where: str, features: Sequence[str], task: str) -> Iterator[ExampleRow]:
    """The rows of a file; an empty cell is a missing value."""
    if unknown := [name for name in reader.fieldnames or () if name not in (*features, *ANSWERS)]:
        raise UserError(f"{where}: the features have no column {unknown[0]!r}{nearest(unknown[0], features)}")
    for count, cells in enumerate(reader, start=1):
        there = {name: cell for name, cell in cells.items() if cell not in (None, "")}
        answers: dict[str, Any] = {name: there.pop(name) for name in ANSWERS if name in there}
        try:
            numbers = {name: float(answers[name]) for name in ANSWERS[1:] if name in answers}
            row = ExampleRow(given=there, **{**answers, **numbers})
        except ValidationError as error:
            raise UserError(f"{where}, row {count}: {first_complaint(error)}") from None
        except ValueError as error:
            raise UserError(f"{where}, row {count}: {error}") from None
        if fault := answer_fault(row, task):
            raise UserError(f"{where}, row {count}: expected: {fault}")
        yield row


def check_behaviour(
    tests: Sequence[BehaviourTest], features: Features, columns: Sequence[str], project: Path, task: str
) -> None:
    """Check that the columns of all tests exist and are of a kind that can be changed so, and read files of examples.

    Args:
        columns: of the training table.
        project: the folder in which files of examples are.

    Raises:
        UserError: a column does not exist, or is of another kind, or a file of examples is wrong.
    """
    for index, each in enumerate(tests):
        where = f"params.yaml: evaluate.behaviour[{index}]"
        if isinstance(each, FairnessTest):
            _require(f"{where}.column", each.column, columns)
        elif isinstance(each, ExamplesTest):
            for number, row in enumerate(each.rows):
                for name in row.given:
                    _require(f"{where}.rows[{number}].given", name, features.features)
            example_rows(each, project, features.features, task)
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
