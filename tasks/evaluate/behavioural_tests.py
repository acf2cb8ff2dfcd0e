"""The candidate's behavioural tests, as the params declare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refit.config.behaviour import check_behaviour
from refit.evaluation import behaviour
from refit.evaluation.behaviour import Subject
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Scored
from refit.learners import Floats, Learner
from refit.problems.contract import aligned
from refit.runtime.context import Context
from refit.schemas.behaviour import BehaviourResult
from refit.schemas.feature_table import FeatureTable

if TYPE_CHECKING:
    import pyarrow as pa


def judged(
    context: Context, learner: Learner, features: FeatureTable, test: Holdout, scored: Scored
) -> tuple[BehaviourResult, ...]:
    """The result of each test.

    Raises:
        UserError: a column or a file of a test does not exist, or is of another kind.
    """
    if not (tests := context.params.evaluate.behaviour):
        return ()
    check_behaviour(context.params, features, test.table.column_names)

    def predict(table: pa.Table) -> Floats:
        predicted = np.asarray(learner.predict(table), dtype=np.float64)
        return aligned(predicted, learner.spec.classes, test.problem.classes)

    subject = Subject(
        predict=predict,
        features=learner.spec.features,
        predicted=scored.p["candidate"],
        threshold=learner.threshold,
        key=features.key,
        project=context.project,
        confidence=context.params.evaluate.confidence,
        seed=context.params.train.seed,
    )
    return behaviour.judged(tests, subject, test)
