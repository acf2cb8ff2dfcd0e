"""A measured number with its interval, as reports and stored files hold it."""

from __future__ import annotations

from collections.abc import Callable

from refit.schemas.artifact import Part

__all__ = ["Measured"]


class Measured(Part):
    """A number with its two-sided interval; None where it is undefined, rounded as the last bits differ by machine."""

    value: float | None
    lower: float | None
    upper: float | None

    def between(self, shown: Callable[[float], str]) -> str:
        """The interval as the end of a phrase; empty if there is none.

        >>> Measured(value=0.5, lower=0.4, upper=0.6).between("{:.0%}".format)
        ' (between 40% and 60%)'
        """
        if self.lower is None or self.upper is None:
            return ""
        return f" (between {shown(self.lower)} and {shown(self.upper)})"
