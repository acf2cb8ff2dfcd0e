"""A fitted learner of numbers that also says between which two a label will lie: the learner as it is, and margins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from refit.files.artifacts import digest
from refit.learners.contract import Declaration, Floats, Learner
from refit.learners.intervals import Intervals, groups_in, intervals_from, widened
from refit.learners.postprocessed import Finished, exact

if TYPE_CHECKING:
    import pyarrow as pa

ENDS = ("low", "high")  # folders of the two quantiles' learners


class Ranged(Finished):
    """Predicts what `inner` does; `interval` says how far from it the label may come."""

    declaration: ClassVar[Declaration] = Declaration(safe_format="json")  # beside the inner learner's own
    has = "has intervals"

    def __init__(self, inner: Learner, intervals: Intervals, ends: tuple[Learner, Learner] | None = None) -> None:
        super().__init__(inner)
        self.intervals = intervals
        self.ends = ends  # fitted to the two quantiles; none: the band is the prediction

    def interval(self, table: pa.Table, level: float | None = None) -> Floats:
        """(rows, 2) lowest and highest label to expect.

        Args:
            level: share of labels within; none: that which was asked for in training.

        Raises:
            UserError: a feature, or the column that margins go by, is missing.
        """
        return widened(self.band(table), self.intervals.margins(self.groups(table), level))

    def band(self, table: pa.Table) -> Floats:
        """(rows, 2) what the margins widen."""
        ends = [end.predict(table) for end in self.ends or (self.inner,)]
        return np.column_stack([ends[0], ends[-1]])

    def groups(self, table: pa.Table) -> np.ndarray[Any, np.dtype[np.str_]]:
        """(rows,) which margin each row has."""
        return groups_in(table, self.intervals.within, self.intervals.missing)

    def added(self) -> dict[str, Any]:
        return {"intervals": self.intervals.described()}

    def save(self, folder: Path) -> None:
        for name, end in zip(ENDS, self.ends or (), strict=False):
            (folder / name).mkdir()
            end.save(folder / name)
        super().save(folder)

    def obstacle(self) -> str | None:
        return next((why for each in (self.inner, *(self.ends or ())) if (why := each.obstacle())), None)

    def digest(self) -> str:
        return digest(
            {
                "inner": self.inner.digest(),
                "ends": [end.digest() for end in self.ends or ()],
                "intervals": exact(self.intervals.described()),
            }
        )


def with_intervals(
    learner: Learner, description: Mapping[str, Any], load_ends: Callable[[], tuple[Learner, ...]]
) -> Learner:
    """The learner as its folder has it: with its intervals where there are any.

    Args:
        load_ends: the learners of both ends, for intervals between quantiles.
    """
    if not (found := description.get("intervals")):
        return learner
    intervals = intervals_from(found)
    if intervals.by == "residuals":
        return Ranged(learner, intervals)
    low, high = load_ends()
    return Ranged(learner, intervals, (low, high))
