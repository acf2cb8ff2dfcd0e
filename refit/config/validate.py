"""The params section `validate`: expectations, and how many bad rows a batch may have."""

from __future__ import annotations

from pydantic import Field

from refit.config.section import Name, Section


class RowsBand(Section):
    low: float = Field(0.5, gt=0, le=1, description="share of the recent mean below which a batch fails")
    high: float = Field(2.0, ge=1, description="multiple of the recent mean above which a batch fails")
    recent: int = Field(3, ge=1, description="number of batches in the mean")


class ValidateParams(Section):
    rows_band: RowsBand = RowsBand()
    max_quarantined_share: float = Field(0.05, ge=0, le=1, description="more bad rows than this fail the batch")
    suites: dict[Name, tuple[dict[str, dict[str, object]], ...]] = Field(
        {}, description="source -> expectations under Great Expectations' own names"
    )
