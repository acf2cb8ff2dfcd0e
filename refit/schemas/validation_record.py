"""`data/validation/SOURCE/BATCH.json`: the cached result of validating a batch."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from refit.schemas.artifact import Artifact, Part, omitted

__all__ = ["QuarantineFile", "ValidationRecord", "VerdictRecord"]


class VerdictRecord(Part):
    """The result of one expectation."""

    check: int  # index of the expectation in the plan of the batch
    expectation: str
    success: bool
    observed: str = Field(alias="found")
    mostly: float | None  # for row-by-row expectations: the share of rows that must pass
    evaluated: int
    rows: tuple[int, ...]


class QuarantineFile(Part):
    """The file of a batch's refused rows."""

    path: str
    sha256: str


class ValidationRecord(Artifact):
    """The result of validating a batch under one suite."""

    key: str  # digest of all that the result depends on
    verdicts: tuple[VerdictRecord, ...]
    refused: tuple[int, ...]
    uncast: int
    waiting: int = 0  # of the rows that could not be cast, those whose time lies in the future
    reasons: Mapping[str, int]  # number of rows by expectation
    quarantine: QuarantineFile | None
    constant_images: Mapping[str, int] = omitted({})  # by column: images that have one colour throughout
