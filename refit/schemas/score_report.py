"""What scoring rows did, as `refit score --json` prints it."""

from __future__ import annotations

from collections.abc import Mapping

from refit.schemas.artifact import Part, UtcTime

__all__ = ["IntervalWidth", "LoggedRows", "RowTotals", "ScoreReport"]


class RowTotals(Part):
    """What became of the requested rows."""

    read: int
    scored: int
    quarantined: int
    left_out: int  # by the feature definitions


class LoggedRows(Part):
    """Scored rows that are new in the prediction log, and those that it had already."""

    new: int
    known: int


class IntervalWidth(Part):
    """Level and mean width of prediction intervals."""

    level: float
    mean_width: float | None  # None if there are no rows


class ScoreReport(Part):
    """The result of scoring rows with the champion."""

    model: str
    version: str
    as_of: UtcTime
    snapshot: str
    rows: RowTotals
    logged: LoggedRows
    threshold: float | None  # of a binary task
    mean_prediction: float | None
    called: Mapping[str, int] | None  # rows by predicted class
    intervals: IntervalWidth | None
    out: str  # the file of the predictions
    quarantine: str | None  # the file of refused rows
    notes: tuple[str, ...]
    seconds: float
    sinks: tuple[str, ...] = ()  # where else the predictions are
