"""Predictions of all models for the same rows, and the candidate's intervals for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refit.learners import Floats
from refit.learners.intervals import Intervals, Texts


@dataclass(frozen=True)
class Bands:
    """The candidate's intervals for the test rows."""

    intervals: Intervals
    groups: Texts
    plain: Floats  # (rows, 2) as they were learned in training
    followed: Floats | None = None  # (rows, 2) where margins follow labels: by those known before each prediction

    @property
    def said(self) -> Floats:
        """(rows, 2) what a user of the model would have been told."""
        return self.plain if self.followed is None else self.followed


@dataclass(frozen=True)
class Scored:
    """Predictions of the models for the same rows, and the threshold from which each calls a row 1 in a binary task."""

    p: Mapping[str, Floats]
    thresholds: Mapping[str, float]
    problems: Mapping[str, str]  # why champion or anchor could not be scored on these rows
    bands: Bands | None = None  # the candidate's intervals; none: it has none
