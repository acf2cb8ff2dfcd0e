"""The files of a learner that reads a stream: where it is, its model, its detectors, and unfinished work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, JsonValue

from refit.schemas.artifact import Artifact, Part, UtcTime

__all__ = ["Alarm", "DetectorStates", "LinearState", "PartialFitState", "PendingPredictions", "Position", "RiverState"]
__all__ += ["StepBlock", "StreamState", "VectorState"]

REMEDY = "restore the folder, or train again"


class Position(Part):
    """How far a learner has read its stream; rows up to here are never learned again."""

    steps: int = 0  # rows learned
    until: UtcTime | None = None  # event time of the newest row learned; None if rows have no time
    known_until: UtcTime | None = None  # when the newest of their labels became known
    digest: str = ""  # of every row learned and its label, in order, each with the digest before it


class StepBlock(Part):
    """Some consecutive steps that were predicted before they were learned."""

    until: UtcTime | None  # event time of the last of them
    steps: int  # judged ones
    errors: float  # wrong classes, or the sum of absolute errors
    losses: float  # sum of log losses, or of squared errors
    no_change: float  # errors of predicting the label known last


class Alarm(Part):
    """A drift detector's alarm."""

    detector: str
    metric: str  # what it watches
    step: int  # rows learned until then, from 1
    time: UtcTime | None  # event time of that row


class StreamState(Artifact):
    """`stream.json`: where a stored learner is in its stream, with the record of how it got there."""

    REMEDY: ClassVar[str] = REMEDY

    position: Position
    block_steps: int
    blocks: tuple[StepBlock, ...]
    alarms: tuple[Alarm, ...]


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
