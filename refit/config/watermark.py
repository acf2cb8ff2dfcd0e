"""The params key `watermark` of a source: the column by which a read goes on where the last one ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from refit.config.section import Section, nearest, shaped, span

Span = Annotated[
    str, Field(pattern=shaped(r"^[0-9]{1,6}[mhdw]$", "a whole number, or minutes, hours, days or weeks, such as 2h"))
]


class WatermarkParams(Section):
    """A column that grows: each row that is new has a larger value than those before it, but for some lateness."""

    column: str = Field(description="an integer, timestamp or date column that grows with each row, such as loaded_at")
    lookback: Annotated[int, Field(ge=0)] | Span = Field(
        description="how far below the largest value read so far a new row may be: a number for an integer column, "
        "else a span such as 2h; for a date whole days, such as 1d"
    )

    @property
    def late_by(self) -> timedelta | None:
        """The lookback of a column of times; None for one of integers."""
        if isinstance(self.lookback, int):
            return None
        return span(self.lookback)

    def fault(self, columns: Mapping[str, str]) -> str | None:
        """Why the column cannot be a watermark; None if it can."""
        if (kind := columns.get(self.column)) is None:
            return f"watermark.column {self.column!r} is not declared{nearest(self.column, columns)}"
        if kind not in ("integer", "timestamp", "date"):
            return f"watermark.column {self.column!r} is {kind}; name an integer, timestamp or date, which can grow"
        if isinstance(self.lookback, int) != (kind == "integer"):
            right = "a whole number such as 1000" if kind == "integer" else "a span such as 2h or 3d"
            return f"watermark.lookback {self.lookback!r} does not fit {self.column!r}, which is {kind}: write {right}"
        if kind == "date" and (not self.late_by or self.late_by % timedelta(days=1)):
            return (
                f"watermark.lookback {self.lookback!r} is no number of days, which {self.column!r}, a date, can be set "
                "back by; rows loaded later on the newest day would not be read: write 1d, or more days"
            )
        return None
