"""Errors of prequential evaluation: each step is predicted before it is learned, once its label is known.

Source: Gama, Sebastião, Rodrigues (2013), "On evaluating stream learning algorithms", Machine Learning 90, 317-346.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.learners.contract import Floats, Labels
from refit.learners.online.stream_times import from_microseconds, microseconds
from refit.problems.contract import Problem
from refit.schemas.online_state import Alarm, Position, StepBlock, StreamState

if TYPE_CHECKING:
    pass

FIRST_BLOCK, MOST_BLOCKS = 50, 400  # steps of a block at first; past so many blocks each two become one
SMALLEST = 1e-15  # of a probability in a log loss


def errors_of(problem: Problem, labels: Labels, predicted: Floats) -> Floats:
    """(rows,) 1 where the most probable class is wrong, or the absolute error."""
    if problem.task == "regression":
        return np.asarray(np.abs(predicted - labels))
    chosen = predicted.argmax(axis=1) if predicted.ndim == 2 else (predicted >= 0.5)
    return np.asarray(chosen != labels, dtype=np.float64)


def losses_of(problem: Problem, labels: Labels, predicted: Floats) -> Floats:
    """(rows,) log losses, or squared errors."""
    if problem.task == "regression":
        return np.asarray((predicted - labels) ** 2, dtype=np.float64)
    if predicted.ndim == 2:
        right = predicted[np.arange(len(labels)), labels.astype(np.int64)]
    else:
        right = np.where(labels == 1, predicted, 1 - predicted)
    return np.asarray(-np.log(np.maximum(right, SMALLEST)))


def no_change_errors(problem: Problem, labels: Labels, before: NDArray[np.int64], last: float | None) -> Floats:
    """(rows,) errors of predicting the newest label that was known; before any is known, the prediction is 0.

    Args:
        before: how many of these rows' labels were known when each was predicted.
        last: the newest label known before these rows.
    """
    guess = np.where(before > 0, labels[np.maximum(before - 1, 0)], 0.0 if last is None else last)
    if problem.task == "regression":
        return np.asarray(np.abs(guess - labels))
    return np.asarray(guess != labels, dtype=np.float64)


@dataclass
class Tally:
    """The sums of a block while it is counted."""

    at: int | None = None  # event time of its last step
    rows: int = 0  # learned, judged or not
    steps: int = 0
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of errors, losses and errors of no change

    def block(self) -> StepBlock:
        errors, losses, no_change = self.sums
        until = None if self.at is None else from_microseconds(self.at)
        return StepBlock(until=until, steps=self.steps, errors=errors, losses=losses, no_change=no_change)


@dataclass
class Record:
    """Errors of the steps so far in blocks, of which there are never too many, however long the stream."""

    block_steps: int = FIRST_BLOCK
    alarms: list[Alarm] = field(default_factory=list)
    _full: list[StepBlock] = field(default_factory=list)
    _last: Tally = field(default_factory=Tally)

    def add(self, at: int | None, sums: tuple[float, float, float] | None) -> None:
        """Count a step.

        Args:
            sums: its error, its loss and the error of no change; None if it is not judged.
        """
        last = self._last
        if last.rows == self.block_steps:
            self._full.append(last.block())
            last = self._last = Tally()
            if len(self._full) == MOST_BLOCKS:
                self._full = [_joined(*self._full[at : at + 2]) for at in range(0, MOST_BLOCKS, 2)]
                self.block_steps *= 2
        last.at, last.rows = at, last.rows + 1
        if sums is not None:
            last.steps += 1
            before = last.sums
            last.sums = before[0] + sums[0], before[1] + sums[1], before[2] + sums[2]

    @property
    def blocks(self) -> tuple[StepBlock, ...]:
        """All blocks in order; the last may be shorter than the others."""
        return (*self._full, *([self._last.block()] if self._last.rows else ()))

    def state(self, position: Position) -> StreamState:
        return StreamState(
            position=position, block_steps=self.block_steps, blocks=self.blocks, alarms=tuple(self.alarms)
        )

    @classmethod
    def restored(cls, state: StreamState) -> Record:
        if not state.blocks:
            return cls(state.block_steps, list(state.alarms))
        *full, last = state.blocks
        tally = Tally(
            None if last.until is None else microseconds(last.until),
            state.position.steps - state.block_steps * len(full),
            last.steps,
            (last.errors, last.losses, last.no_change),
        )
        return cls(state.block_steps, list(state.alarms), full, tally)


def _joined(first: StepBlock, second: StepBlock) -> StepBlock:
    return StepBlock(
        until=second.until,
        steps=first.steps + second.steps,
        errors=first.errors + second.errors,
        losses=first.losses + second.losses,
        no_change=first.no_change + second.no_change,
    )


def totals(blocks: Iterable[StepBlock]) -> tuple[int, float, float]:
    """Judged steps, and the sums of errors and of those of no change."""
    blocks = list(blocks)
    return (
        sum(block.steps for block in blocks),
        sum(block.errors for block in blocks),
        sum(block.no_change for block in blocks),
    )
