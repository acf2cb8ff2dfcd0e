"""From predictions to intervals: margins learned from the predictions of rows that no fit had seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.context import Progress
from tasks.learners import Learner
from tasks.learners.intervals import groups_in, learned
from tasks.learners.ranged import Ranged
from tasks.params import Params
from tasks.train.folds import Development

if TYPE_CHECKING:
    from tasks.train.trial import Trial


def ranged(learner: Learner, best: Trial, rows: Development, params: Params, progress: Progress) -> Learner:
    """The candidate with its intervals, where they are asked for.

    Args:
        learner: fitted on all rows.
        best: its trial, with predictions of the rows that its fits had not seen.

    Raises:
        UserError: there are too few such rows for the level, or no column to tell margins apart by.
    """
    asked = params.train.intervals
    if asked is None:
        return learner
    unseen = rows.whole.at(best.unseen)
    groups = groups_in(unseen.rows, asked.within)
    band = np.column_stack([best.predicted, best.predicted])
    return Ranged(learner, learned(band, unseen.label, groups, asked))


def told_of(learner: Learner) -> dict[str, Any] | None:
    """A candidate's intervals as `models/training.json` has them."""
    return learner.intervals.told() if isinstance(learner, Ranged) else None
