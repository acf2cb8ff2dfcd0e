"""Where fits leave checkpoints and report their epochs: set around them, because most learners have neither."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EpochReport", "Surroundings", "checkpoints_in", "reporting_to", "surroundings"]


@dataclass(frozen=True)
class EpochReport:
    """How far a fit is after an epoch."""

    learner: str
    seed: int
    epoch: int  # from 1
    epochs: int
    loss: float  # mean over the epoch's batches
    learning_rate: float  # of its last step
    seconds: float
    training: float | None = None  # scores by the learner's metric, if there are validation rows
    validation: float | None = None


@dataclass(frozen=True)
class Surroundings:
    """What is set around a fit."""

    checkpoints: Path | None = None  # folder of a file for each fit; None: no checkpoints
    every_seconds: float = 1.0  # epochs shorter than this share a checkpoint
    on_epoch: Callable[[EpochReport], None] | None = None


surroundings: ContextVar[Surroundings] = ContextVar("surroundings", default=Surroundings())  # noqa: B039


@contextmanager
def checkpoints_in(folder: Path, *, every_seconds: float = 1.0) -> Iterator[None]:
    """Fits within the block write checkpoints into a folder and go on from those that a killed process left there.

    The folder is removed once the whole block has succeeded: a block of several fits that is run again repeats none of
    those that were complete.
    """
    outer = surroundings.get()
    token = surroundings.set(Surroundings(folder, every_seconds, outer.on_epoch))
    try:
        yield
    finally:
        surroundings.reset(token)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reporting_to(on_epoch: Callable[[EpochReport], None]) -> Iterator[None]:
    """Fits within the block report each epoch."""
    outer = surroundings.get()
    token = surroundings.set(Surroundings(outer.checkpoints, outer.every_seconds, on_epoch))
    try:
        yield
    finally:
        surroundings.reset(token)
