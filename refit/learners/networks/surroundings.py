"""Where fits leave checkpoints and report their epochs: set around them, because most learners have neither."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refit.learners.contract import CurvePoint
from refit.runtime.context import Progress

__all__ = ["EpochReport", "FitAbandoned", "Surroundings", "checkpoints_in", "curves_judged_by", "reporting_to"]
__all__ += ["alone", "from_nothing", "say_resumed", "surroundings"]

Judge = Callable[[Sequence[CurvePoint], int], None]


class FitAbandoned(BaseException):
    """The curve of a fit is too bad for the fit to go on; no error: a user's `except Exception` lets it pass."""


@dataclass(frozen=True)
class EpochReport:
    """How far a fit is after an epoch."""

    learner: str
    seed: int
    epoch: int  # from 1
    epochs: int
    loss: float | None  # mean over the epoch's batches
    learning_rate: float | None  # the highest of a layer in its last step
    seconds: float
    training: float | None = None  # scores by the learner's metric, if there are validation rows
    validation: float | None = None


@dataclass(frozen=True)
class Surroundings:
    """What is set around a fit."""

    checkpoints: Path | None = None  # folder of a file for each fit; without it there are none
    every_seconds: float = 1.0  # epochs shorter than this share a checkpoint
    on_epoch: Callable[[EpochReport], None] | None = None
    judge: Judge | None = None
    remembers: bool = True  # whether texts that were embedded before are looked up


surroundings: ContextVar[Surroundings] = ContextVar("surroundings", default=Surroundings())  # noqa: B039


@contextmanager
def checkpoints_in(folder: Path, *, every_seconds: float = 1.0) -> Iterator[None]:
    """Fits within the block write checkpoints into a folder and go on from those that a killed process left there.

    The folder is removed once the whole block has succeeded: a block of several fits that is run again repeats none of
    those that were complete.
    """
    with _set(checkpoints=folder, every_seconds=every_seconds):
        yield
    shutil.rmtree(folder, ignore_errors=True)


def say_resumed(progress: Progress, learner: str, reached: str | None, checkpoint: Path) -> None:
    """Report that a fit goes on from what an earlier process left.

    Args:
        reached: how far that process had come; None if it had finished this fit, which is then not repeated.

    >>> say_resumed(lambda what, *_: print(what.split(" of 20")[0]), "cnn", "epoch 3 of 8", Path())
    note: cnn continues after epoch 3 of 8, from the checkpoint
    """
    written = datetime.fromtimestamp(checkpoint.stat().st_mtime, UTC)
    what = f"{learner} was finished before" if reached is None else f"{learner} continues after {reached}"
    progress(f"note: {what}, from the checkpoint of {written:%Y-%m-%d %H:%M} UTC")


@contextmanager
def reporting_to(on_epoch: Callable[[EpochReport], None]) -> Iterator[None]:
    """Fits within the block report each epoch."""
    with _set(on_epoch=on_epoch):
        yield


@contextmanager
def curves_judged_by(judge: Judge) -> Iterator[None]:
    """Fits within the block pass their curve and the number of their epochs to `judge` after each epoch with a score.

    A fit that goes on from a checkpoint passes the curve that it finds there first. To end the fit, `judge` raises
    `FitAbandoned`.
    """
    with _set(judge=judge):
        yield


@contextmanager
def from_nothing() -> Iterator[None]:
    """Predictions within the block look nothing up, so that the time that they take is that of rows never seen."""
    with _set(remembers=False):
        yield


@contextmanager
def alone() -> Iterator[None]:
    """Fits within the block leave no checkpoints and report no epochs, as if nothing was set around them."""
    with _set(checkpoints=None, on_epoch=None, judge=None):
        yield


@contextmanager
def _set(**changes: Any) -> Iterator[None]:
    token = surroundings.set(replace(surroundings.get(), **changes))
    try:
        yield
    finally:
        surroundings.reset(token)
