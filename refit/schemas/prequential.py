"""What a learner of a stream has learned so far and how well it predicted each step before it learned it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from refit.schemas.artifact import Artifact, Part, UtcTime

__all__ = ["Alarm", "Block", "Position", "PrequentialPoint", "PrequentialReport", "StreamState"]


class Position(Part):
    """How far a learner has read its stream; rows up to here are never learned again."""

    steps: int = 0  # rows learned
    until: UtcTime | None = None  # event time of the newest row learned; None if rows have no time
    known_until: UtcTime | None = None  # when the newest of their labels became known
    digest: str = ""  # of every row learned and its label, in order, each with the digest before it


class Block(Part):
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

    REMEDY: ClassVar[str] = "restore the folder, or train again"

    position: Position
    block_steps: int
    blocks: tuple[Block, ...]
    alarms: tuple[Alarm, ...]


class PrequentialPoint(Part):
    """The errors of each model around a step, and up to it."""

    time: UtcTime | None
    step: int
    rolling: Mapping[str, float]  # mean over the newest steps, by model
    cumulative: Mapping[str, float]  # mean over all steps so far


class PrequentialReport(Part):
    """How a learner predicted each step before it learned it, next to what needs no learning.

    Models: `prequential` (it goes on learning), `no_change` (the label known last), and on test rows `candidate` and
    `champion`, which learn nothing more.
    """

    measure: Literal["accuracy", "mae"]
    window: int  # steps of a rolling mean on test rows
    learned_steps: int  # judged ones while it learned its training rows
    learned: Mapping[str, float]  # by model, over these steps
    learned_points: tuple[PrequentialPoint, ...]
    test_steps: int
    test: Mapping[str, float]
    whole: Mapping[str, float]  # over both
    test_points: tuple[PrequentialPoint, ...]
    alarms: tuple[Alarm, ...]
