"""The files of a learner that reads a stream, next to `stream.json`: its model, its detectors and unfinished work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, JsonValue

from refit.schemas.artifact import Artifact, Part

__all__ = ["DetectorStates", "LinearState", "PartialFitState", "PendingPredictions", "RiverState", "VectorState"]

REMEDY = "restore the folder, or train again"


class VectorState(Part):
    """Running moments of the numeric features, each with one value for every feature."""

    count: tuple[float, ...]  # rows in which it is not missing
    mean: tuple[float, ...]
    squares: tuple[float, ...]  # sums of squared distances from the mean


class LinearState(Artifact):
    """`linear.json`: a linear model with the sums of its squared gradients."""

    REMEDY: ClassVar[str] = REMEDY

    vectors: VectorState
    weights: tuple[tuple[float, ...], ...]  # (outputs, width + 1), the constant last
    squares: tuple[tuple[float, ...], ...]  # (outputs, width + 1)
    label: tuple[float, float, float]  # of a regression: count, mean and sum of squared distances from it


class PartialFitState(Artifact):
    """`vectors.json`: what precedes an estimator, which is stored next to it."""

    REMEDY: ClassVar[str] = REMEDY

    vectors: VectorState
    fitted: bool  # whether the estimator has learned a row


class RiverState(Artifact):
    """`river.json` without its `model`, a tree that may be nested more deeply than pydantic reads."""

    REMEDY: ClassVar[str] = REMEDY

    river: str  # the version that wrote it
    vectors: VectorState


class DetectorStates(Artifact):
    """`detectors.json`: the drift detectors as `river_json` encodes them, and the newest label learned."""

    REMEDY: ClassVar[str] = REMEDY

    last_label: float | None
    detectors: Mapping[str, JsonValue]  # by name


class PendingPredictions(Artifact):
    """`pending.json` of a checkpoint: predictions of rows that are not learned yet, as their labels come later."""

    rows: int  # learned
    indices: tuple[int, ...] = Field(alias="places")  # of the rows that are predicted and not learned
    predicted: tuple[float | tuple[float, ...], ...]
