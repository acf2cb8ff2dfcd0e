"""`cross_validation.json`: the scores of nested cross-validation, by fold and over all folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from refit.config.train import CrossValidationParams
from refit.schemas.artifact import Artifact, Part, UtcTime
from refit.schemas.training import Scores

__all__ = ["CrossValidation", "IntervalCoverage", "OuterFold"]


class IntervalCoverage(Part):
    """Share of labels within prediction intervals, and the mean width of these."""

    coverage: float
    width: float | None  # None if one has no end


class OuterFold(Part):
    """One outer fold: the learner chosen inside, and its scores outside."""

    learner: str
    params: Mapping[str, object]
    rows: int  # fitted
    scored: int
    threshold: float
    scores: Scores
    intervals: IntervalCoverage | None
    seconds: float


class CrossValidation(Artifact):
    """The result of a nested cross-validation."""

    REMEDY: ClassVar[str] = "`refit cross-validate` writes it again"

    model: str
    as_of: UtcTime
    snapshot: str
    stand_in: tuple[str, ...]  # sources whose rows were generated
    rows: int
    metric: str
    folding: CrossValidationParams = Field(alias="asked")
    mean: Scores
    deviation: Scores
    pooled: Scores = Field(alias="together")  # of the predictions of all folds
    baseline: Scores
    folds: tuple[OuterFold, ...]
    seconds: float
    file: str
