"""What `evaluation.json` says about prediction intervals: how many labels they held, and how wide they are."""

from __future__ import annotations

from collections.abc import Mapping

from refit.schemas.artifact import Part
from refit.schemas.measured import Measured

__all__ = ["IntervalGroup", "IntervalReport", "IntervalScores", "StretchRow"]


class IntervalScores(Part):
    """Coverage, mean width and scores of intervals on some rows."""

    coverage: Measured
    width: Measured
    winkler: Measured
    pinball: Mapping[str, float | None]  # by quantile


class IntervalGroup(IntervalScores):
    """The intervals of rows with one value of a column."""

    value: str
    rows: int
    own_margin: bool


class StretchRow(Part):
    """One of the newest test rows, as drawn with its interval."""

    time: str
    label: float | None
    predicted: float | None
    low: float | None
    high: float | None

    @property
    def within(self) -> bool:
        """Whether the interval holds the label."""
        if self.low is None or self.label is None or self.high is None:
            return False
        return self.low <= self.label <= self.high


class IntervalReport(IntervalScores):
    """The candidate's intervals on the test rows."""

    level: float
    by: str
    within: str | None
    rate: float | None  # how far one label moves the level; None for fixed margins
    rows: int
    plain: IntervalScores | None  # with the margins of the training; None if margins are fixed
    groups: tuple[IntervalGroup, ...]
    stretch: tuple[StretchRow, ...]
