"""The params section `register`: checks of a stored version."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from refit.config.section import Rows, Section, Unit


class RegisterParams(Section):
    golden_rows: Rows = Field(
        50,
        ge=1,
        le=10_000,
        description="test rows whose predictions are stored with a version and checked at each load",
    )
    golden_tolerance: Annotated[float, Unit("units of the prediction")] = Field(
        1e-6, ge=0, description="largest difference of a golden prediction"
    )
