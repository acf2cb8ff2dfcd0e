"""The candidate's behavioural tests, as the params declare them."""

from __future__ import annotations

from refit.config.behaviour import check_behaviour
from refit.evaluation import behaviour
from refit.evaluation.behaviour import JudgedModel
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Scored
from refit.learners import Learner
from refit.runtime.context import Context
from refit.schemas.behaviour import BehaviourResult
from refit.schemas.feature_table import FeatureColumns


def judged(
    context: Context, learner: Learner, features: FeatureColumns, test: Holdout, scored: Scored
) -> tuple[BehaviourResult, ...]:
    """The result of each test.

    Raises:
        UserError: a column or a file of a test does not exist, or is of another kind.
    """
    if not (tests := context.params.evaluate.behaviour):
        return ()
    check_behaviour(tests, features, test.table.column_names, context.project, test.problem.name)
    subject = JudgedModel(
        predict=learner.predict,
        problem=learner.spec.problem,
        features=learner.spec.features,
        predicted=scored.p["candidate"],
        threshold=learner.threshold,
        key=features.key,
        project=context.project,
        confidence=context.params.evaluate.confidence,
        seed=context.params.train.seed,
    )
    return behaviour.judged(tests, subject, test)
