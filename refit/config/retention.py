"""The params section `retention`: what `refit gc` may delete."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from refit.config.section import Days, Section, Unit


class RetentionParams(Section):
    """What `refit gc` may delete; None means keep for ever. Current, former and possible champions always stay."""

    versions: Annotated[int, Unit("versions")] | None = Field(
        10, ge=1, description="newest versions kept, in addition to recent champions"
    )
    runs_days: Days | None = Field(
        30,
        ge=1,
        description="age from which a run that led to no version, or a search in the shared database, may be deleted",
    )
    predictions_days: Days | None = Field(None, ge=0, description="days of the prediction log, back from its newest")
    decisions_days: Days | None = Field(
        None, ge=30, description="decisions on drift, back from the newest; 30 days of them limit retrainings"
    )
    quarantine_days: Days | None = Field(
        None, ge=0, description="refused rows of batches that are no longer in the snapshot, by age of the file"
    )
    cache: bool = Field(True, description="delete DVC objects that no commit, kept version or current stage needs")
