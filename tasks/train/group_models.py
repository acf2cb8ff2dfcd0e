"""Describes a candidate that is many models: the rows and the validation score of each."""

from __future__ import annotations

import math

import numpy as np

from refit.learners.averaged import members_of
from refit.learners.per_group import PerGroup
from refit.learners.postprocessed import fitted_within
from refit.schemas.training import GroupModel, GroupModels
from tasks.train.trial import Trained


def of_candidate(trained: Trained) -> GroupModels | None:
    """The models of the candidate, each with its score on rows that the fits had not seen; None if it is one model.

    A value whose rows the pooled model predicted in one of the fits has no score.
    """
    learner = members_of(fitted_within(trained.learner))[0]
    if not isinstance(learner, PerGroup):
        return None
    spec, unseen = learner.spec, trained.unseen
    rows_of = dict(learner.groups(unseen.rows))
    models = []
    for stored in learner.stored.models:
        rows = rows_of.get(stored.value, np.arange(0))
        has_score = len(rows) and stored.value in trained.best.values
        score = spec.score(unseen.label[rows], trained.best.predicted[rows]) if has_score else math.nan
        models.append(
            GroupModel(
                value=stored.value,
                rows=stored.rows,
                unseen_rows=len(rows),
                validation=score if math.isfinite(score) else None,
            )
        )
    return GroupModels(
        by=learner.by,
        models=tuple(models),
        pooled_values=learner.stored.pooled_values,
        pooled_rows=learner.stored.pooled_rows,
    )
