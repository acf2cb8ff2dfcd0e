"""The params section `validate`: expectations, and how many bad rows a batch may have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from refit.config.section import Name, Section, Share, Unit


class RowsBand(Section):
    """How far the number of rows of a batch may be from that of the recent ones."""

    low: Share = Field(0.5, gt=0, le=1, description="share of the recent mean below which a batch fails")
    high: Annotated[float, Unit("multiple")] = Field(
        2.0, ge=1, description="multiple of the recent mean above which a batch fails"
    )
    recent: Annotated[int, Unit("batches")] = Field(3, ge=1, description="number of batches in the mean")


class ValidateParams(Section):
    rows_band: RowsBand = Field(RowsBand(), description="how many rows a batch may have, next to recent ones")
    max_quarantined_share: Share = Field(0.05, ge=0, le=1, description="more bad rows than this fail the batch")
    suites: dict[Name, tuple[dict[str, dict[str, object]], ...]] = Field(
        {}, description="source -> expectations under Great Expectations' own names"
    )
