"""Wraps a fitted regression learner with prediction intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from refit.files.artifacts import digest
from refit.learners.contract import Declaration, Floats, Learner
from refit.learners.intervals import Intervals, groups_in, intervals_from, widen
from refit.learners.postprocessed import Postprocessed, exact
from refit.schemas.model_description import ModelDescription
from refit.schemas.postprocessing import StoredIntervals

if TYPE_CHECKING:
    import pyarrow as pa

ENDS = ("low", "high")  # folders of the two quantiles' learners


class IntervalLearner(Postprocessed):
    """Predicts what `inner` predicts; `interval` returns prediction intervals."""

    declaration: ClassVar[Declaration] = Declaration(safe_format="json")  # in addition to the inner learner's
    has = "has intervals"

    def __init__(self, inner: Learner, intervals: Intervals, ends: tuple[Learner, Learner] | None = None) -> None:
        super().__init__(inner)
        self.intervals = intervals
        self.ends = ends  # fitted to the two quantiles; if None, the band is the prediction

    def interval(self, table: pa.Table, level: float | None = None) -> Floats:
        """(rows, 2) lower and upper end of each row's prediction interval.

        Args:
            level: share of labels inside; None for the level of the training.

        Raises:
            UserError: a feature, or the column that groups the margins, is missing.
        """
        return widen(self.band(table), self.intervals.margins(self.groups(table), level))

    def band(self, table: pa.Table) -> Floats:
        """(rows, 2) the band that the margins widen."""
        ends = [end.predict(table) for end in self.ends or (self.inner,)]
        return np.column_stack([ends[0], ends[-1]])

    def groups(self, table: pa.Table) -> np.ndarray[Any, np.dtype[np.str_]]:
        """(rows,) the group whose margin each row uses."""
        return groups_in(table, self.intervals.within, self.intervals.missing)

    def described(self, inner: ModelDescription) -> ModelDescription:
        return inner.model_copy(update={"intervals": self.intervals})

    def save(self, folder: Path) -> None:
        for name, end in zip(ENDS, self.ends or (), strict=False):
            (folder / name).mkdir()
            end.save(folder / name)
        super().save(folder)

    def unsafe_reason(self) -> str | None:
        return next((why for each in (self.inner, *(self.ends or ())) if (why := each.unsafe_reason())), None)

    def digest(self) -> str:
        return digest(
            {
                "inner": self.inner.digest(),
                "ends": [end.digest() for end in self.ends or ()],
                "intervals": exact(self.intervals.to_json()),
            }
        )


def with_intervals(
    learner: Learner, stored: StoredIntervals | None, load_ends: Callable[[], tuple[Learner, ...]]
) -> Learner:
    """Wrap the learner with its stored intervals, if it has any.

    Args:
        load_ends: loads the learners of both ends, for intervals between quantiles.
    """
    if stored is None:
        return learner
    intervals = intervals_from(stored)
    if intervals.by == "residuals":
        return IntervalLearner(learner, intervals)
    low, high = load_ends()
    return IntervalLearner(learner, intervals, (low, high))
