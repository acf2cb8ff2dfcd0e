"""Behavioural tests of a model on test rows: one file for each kind of test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refit.config.behaviour import BehaviourTest, DirectionTest, ExamplesTest, FairnessTest, InvarianceTest
from refit.errors import RefitError
from refit.evaluation.behaviour import direction, examples, fairness, invariance
from refit.evaluation.behaviour.sampled_rows import SampledRows
from refit.evaluation.holdout import Holdout
from refit.problems.contract import Problem, aligned
from refit.schemas.behaviour import BehaviourResult

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners import Floats

__all__ = ["JudgedModel", "judged"]

MOST_ROWS = 5_000  # test rows whose changed copies are predicted


class InvalidPredictionsError(RefitError):
    """The model predicts what its problem does not allow, such as NaN."""


@dataclass(frozen=True)
class JudgedModel:
    """The model that is tested, and its predictions of the test rows."""

    predict: Callable[[pa.Table], Floats]  # as the model does, by its own classes
    problem: Problem  # of the model
    features: tuple[str, ...]
    predicted: Floats  # of the test rows
    threshold: float
    key: str  # the column that identifies a row
    project: Path
    confidence: float
    seed: int

    def valid(self, table: pa.Table, classes: tuple[str, ...]) -> Floats:
        """Predict rows, with a column for each of these classes.

        Raises:
            InvalidPredictionsError: a prediction is invalid.
        """
        predicted = np.asarray(self.predict(table), dtype=np.float64)
        if fault := self.problem.check_predictions(predicted, table.num_rows):
            raise InvalidPredictionsError(f"the model predicts {fault}")
        return aligned(predicted, self.problem.classes, classes)


def judged(tests: Sequence[BehaviourTest], subject: JudgedModel, test: Holdout) -> tuple[BehaviourResult, ...]:
    """The result of each test, in the order of the params; a test whose rows get invalid predictions fails.

    Raises:
        UserError: a file of examples is missing or not of the features.
    """
    return tuple(_valid_or_failed(each, subject, test) for each in tests)


def _valid_or_failed(each: BehaviourTest, subject: JudgedModel, test: Holdout) -> BehaviourResult:
    try:
        return _judged(each, subject, test)
    except InvalidPredictionsError as error:
        return BehaviourResult(name=each.name, kind=each.kind, passed=False, sentence=str(error), rows=0)


def _judged(each: BehaviourTest, subject: JudgedModel, test: Holdout) -> BehaviourResult:
    predict = partial(subject.valid, classes=test.problem.classes)
    if isinstance(each, FairnessTest):
        return fairness.judged(each, test, subject.predicted, subject.threshold, subject.confidence)
    if isinstance(each, ExamplesTest):
        return examples.judged(each, predict, subject.features, test, subject.threshold, subject.project)
    rows = np.unique(np.linspace(0, test.rows - 1, min(MOST_ROWS, test.rows)).astype(np.int64))
    table = test.table.take(rows)
    sample = SampledRows(table, subject.predicted[rows], table.column(subject.key), predict, subject.seed)
    if isinstance(each, InvarianceTest):
        return invariance.judged(each, sample)
    assert isinstance(each, DirectionTest)
    return direction.judged(each, sample, test.problem)
