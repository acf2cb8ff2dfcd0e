"""Behavioural tests of a model on test rows: one file for each kind of test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refit.config.behaviour import BehaviourTest, DirectionTest, ExamplesTest, FairnessTest, InvarianceTest
from refit.evaluation.behaviour import direction, examples, fairness, invariance
from refit.evaluation.behaviour.sampled_rows import SampledRows
from refit.evaluation.holdout import Holdout
from refit.schemas.behaviour import BehaviourResult

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners import Floats

__all__ = ["Subject", "judged"]

MOST_ROWS = 5_000  # test rows whose changed copies are predicted


@dataclass(frozen=True)
class Subject:
    """The model that is tested, and its predictions of the test rows."""

    predict: Callable[[pa.Table], Floats]
    features: tuple[str, ...]
    predicted: Floats  # of the test rows
    threshold: float
    key: str  # the column that identifies a row
    project: Path
    confidence: float
    seed: int


def judged(tests: Sequence[BehaviourTest], subject: Subject, test: Holdout) -> tuple[BehaviourResult, ...]:
    """The result of each test, in the order of the params.

    Raises:
        UserError: a file of examples is missing or not of the features.
    """
    return tuple(_judged(each, subject, test) for each in tests)


def _judged(each: BehaviourTest, subject: Subject, test: Holdout) -> BehaviourResult:
    if isinstance(each, FairnessTest):
        return fairness.judged(each, test, subject.predicted, subject.threshold, subject.confidence)
    if isinstance(each, ExamplesTest):
        return examples.judged(each, subject.predict, subject.features, test, subject.threshold, subject.project)
    rows = np.unique(np.linspace(0, test.rows - 1, min(MOST_ROWS, test.rows)).astype(np.int64))
    table = test.table.take(rows)
    sample = SampledRows(table, subject.predicted[rows], table.column(subject.key), subject.predict, subject.seed)
    if isinstance(each, InvarianceTest):
        return invariance.judged(each, sample)
    assert isinstance(each, DirectionTest)
    return direction.judged(each, sample, test.problem)
