"""Prequential evaluation: each step is predicted before it is learned, and learned once its label is known.

Source: Gama, Sebastião, Rodrigues (2013), "On evaluating stream learning algorithms", Machine Learning 90, 317-346.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.config.forecasting import KNOWN_AT
from refit.errors import UserError
from refit.learners.contract import Floats, Labels
from refit.problems.contract import Problem
from refit.schemas.prequential import Alarm, Block, Position, StreamState

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_BLOCK, MOST_BLOCKS = 50, 400  # steps of a block at first; past so many blocks each two become one
NEVER = np.iinfo(np.int64).max  # the time of what has not happened
SMALLEST = 1e-15  # of a probability in a log loss

Times = NDArray[np.int64]  # microseconds since 1970


@dataclass(frozen=True)
class Moments:
    """When each row of a table happened, was predicted, and when its label became known; None if it has no times."""

    event: Times | None
    predicted: Times | None
    known: Times | None

    @classmethod
    def of(cls, table: pa.Table) -> Moments:
        """The times of a feature table; a row without a prediction time was predicted when it happened."""

        def times(name: str) -> Times | None:
            if name not in table.column_names:
                return None
            moments = np.asarray(table[name].to_numpy(), "datetime64[us]")
            return np.where(np.isnat(moments), NEVER, moments.astype(np.int64))

        event, known = times("event_time"), times(KNOWN_AT)
        predicted = times("prediction_time")
        return cls(event, event if predicted is None else predicted, known)

    def check_order(self, position: Position, name: str) -> None:
        """Check that the rows are in order of time and all new.

        Raises:
            UserError: one is earlier than the row before it, or not later than those learned already.
        """
        if self.event is None or not len(self.event):
            return
        back = np.flatnonzero(np.diff(self.event) < 0)
        if len(back):
            row = int(back[0]) + 1
            raise UserError(
                f"learner {name!r} reads rows in order of time; row {row:,} of {moment(self.event[row])} comes after "
                f"one of {moment(self.event[row - 1])}: sort them by event_time"
            )
        if position.until is not None and self.event[0] <= microseconds(position.until):
            raise UserError(
                f"learner {name!r} has learned {position.steps:,} rows up to {position.until:%Y-%m-%d %H:%M:%S} and "
                f"learns no row twice; the first row given is of {moment(self.event[0])}: give it later rows alone"
            )

    def learned_before(self, rows: int) -> NDArray[np.int64]:
        """(rows,) how many of the rows had been learned when each was predicted.

        Rows are learned in their order, so a label that is known late holds up those after it. Without times, each is
        learned before the next is predicted.

        >>> hours = np.arange(4) * 3_600_000_000
        >>> Moments(hours, hours, hours + 7_200_000_000).learned_before(4).tolist()  # a delay of two hours
        [0, 0, 1, 2]
        """
        before = np.arange(rows)
        if self.predicted is None or self.known is None:
            return before
        known = np.maximum.accumulate(self.known)
        return np.minimum(np.searchsorted(known, self.predicted, side="right"), before)

    def judged(self, rows: int, position: Position) -> NDArray[np.bool_]:
        """(rows,) whether each was predicted when all that had been learned before these rows was known."""
        if position.known_until is None or self.predicted is None:
            return np.ones(rows, dtype=np.bool_)
        return np.asarray(self.predicted >= microseconds(position.known_until))


def moment(microseconds_since: int) -> str:
    return f"{from_microseconds(int(microseconds_since)):%Y-%m-%d %H:%M:%S}"


def microseconds(time: datetime) -> int:
    return int(np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "us").astype(np.int64))


def from_microseconds(value: int) -> datetime:
    return np.datetime64(value, "us").item().replace(tzinfo=UTC)


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

    def block(self) -> Block:
        errors, losses, no_change = self.sums
        until = None if self.at is None else from_microseconds(self.at)
        return Block(until=until, steps=self.steps, errors=errors, losses=losses, no_change=no_change)


@dataclass
class Record:
    """Errors of the steps so far in blocks, of which there are never too many, however long the stream."""

    block_steps: int = FIRST_BLOCK
    alarms: list[Alarm] = field(default_factory=list)
    _full: list[Block] = field(default_factory=list)
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
    def blocks(self) -> tuple[Block, ...]:
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


@dataclass
class Place:
    """The position in a stream while it is read, in microseconds."""

    steps: int = 0
    at: int | None = None
    known: int | None = None
    digest: str = ""

    def moved(self, at: int | None, known: int | None, row: bytes) -> None:
        """Take one more row: its digest follows from all rows before it."""
        self.steps += 1
        self.at = at
        times = [each for each in (self.known, known) if each is not None and each != NEVER]
        self.known = max(times, default=None)
        self.digest = hashlib.sha256(self.digest.encode() + row).hexdigest()

    @property
    def position(self) -> Position:
        times = {"until": self.at, "known_until": self.known}
        known = {name: None if value is None else from_microseconds(value) for name, value in times.items()}
        return Position(steps=self.steps, digest=self.digest, **known)

    @classmethod
    def of(cls, position: Position) -> Place:
        until, known = (None if each is None else microseconds(each) for each in (position.until, position.known_until))
        return cls(position.steps, until, known, position.digest)


def _joined(first: Block, second: Block) -> Block:
    return Block(
        until=second.until,
        steps=first.steps + second.steps,
        errors=first.errors + second.errors,
        losses=first.losses + second.losses,
        no_change=first.no_change + second.no_change,
    )


def totals(blocks: Iterable[Block]) -> tuple[int, float, float]:
    """Judged steps, and the sums of errors and of those of no change."""
    blocks = list(blocks)
    return (
        sum(block.steps for block in blocks),
        sum(block.errors for block in blocks),
        sum(block.no_change for block in blocks),
    )
