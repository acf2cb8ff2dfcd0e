"""A measured number with its interval, as reports and stored files hold it."""

from __future__ import annotations

from refit.schemas.artifact import Part

__all__ = ["Measured"]


class Measured(Part):
    """A number with its two-sided interval; None where it is undefined, rounded as the last bits differ by machine."""

    value: float | None
    lower: float | None
    upper: float | None
