"""The params section `register`: checks of a stored version, and whether a person approves promotions."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from refit.config.section import Rows, Section, Unit, shaped, span


class RegisterParams(Section):
    golden_rows: Rows = Field(
        50,
        ge=1,
        le=10_000,
        description="test rows whose predictions are stored with a version and checked at each load",
    )
    golden_tolerance: Annotated[float, Unit("units of the prediction; of numbers above 1, a share of them")] = Field(
        1e-6, ge=0, description="largest difference of a golden prediction"
    )
    approval: Literal["none", "required"] = Field(
        "none", description="required: a version that the gate would promote waits for `refit approve`"
    )
    approval_within: str = Field(
        "7d",
        pattern=shaped("^[1-9][0-9]{0,2}[hd]$", "hours or days, such as 12h or 7d"),
        description="how long it waits, such as 12h or 7d; then it is refused",
    )

    @property
    def approval_time(self) -> timedelta:
        """How long a version waits for its approval.

        >>> RegisterParams(approval_within="12h").approval_time
        datetime.timedelta(seconds=43200)
        """
        return span(self.approval_within)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What readers of a decision should know: that a person approves promotions; empty if nobody does."""
        if self.approval == "none":
            return ()
        return (f"a version that the gate would promote waits for a person's approval, {self.approval_within} at most",)
