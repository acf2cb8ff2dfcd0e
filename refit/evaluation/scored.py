"""Predictions of all models for the same rows, and the candidate's intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from refit.evaluation.opponents import Opponents
from refit.learners import Floats, Learner
from refit.learners.intervals import Intervals, Texts


@dataclass(frozen=True)
class Bands:
    """The candidate's intervals for the test rows."""

    intervals: Intervals
    groups: Texts
    plain: Floats  # (rows, 2) with the margins of the training
    adaptive: Floats | None = None  # (rows, 2) with adaptive margins, by the labels known before each prediction

    @property
    def reported(self) -> Floats:
        """(rows, 2) the intervals that a user of the model would have got."""
        return self.plain if self.adaptive is None else self.adaptive


@dataclass(frozen=True)
class Scored:
    """Predictions of the models for the same rows, and the threshold of each in a binary task."""

    p: Mapping[str, Floats]
    thresholds: Mapping[str, float]
    problems: Mapping[str, str]  # the reason why champion or anchor could not be scored on these rows
    bands: Bands | None = None  # the candidate's intervals; None if it has none
    candidate: Learner | None = None  # for what is measured of the model itself, such as its rules
    opponents: Opponents = field(default_factory=Opponents)  # naive guesses, in addition to `baseline`
