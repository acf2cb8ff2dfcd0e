"""When the rows of a stream happened and were known, and how far it has been read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.config.forecasting import KNOWN_AT
from refit.errors import UserError
from refit.schemas.online_state import Position

if TYPE_CHECKING:
    import pyarrow as pa

NEVER = np.iinfo(np.int64).max  # the time of what has not happened

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


@dataclass
class RunningPosition:
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
    def of(cls, position: Position) -> RunningPosition:
        until, known = (None if each is None else microseconds(each) for each in (position.until, position.known_until))
        return cls(position.steps, until, known, position.digest)
