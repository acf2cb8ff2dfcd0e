"""The params section `register`: checks of a stored version."""

from __future__ import annotations

from pydantic import Field

from refit.config.section import Section


class RegisterParams(Section):
    golden_rows: int = Field(50, ge=1, le=10_000)
    golden_tolerance: float = Field(1e-6, ge=0, description="largest difference of a golden prediction")
