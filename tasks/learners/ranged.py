"""A fitted learner of numbers that also says between which two a label will lie: the learner as it is, and margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.artifacts import digest, read_json, write_json, write_manifest
from tasks.errors import UserError
from tasks.learners import DESCRIPTION, Declaration, FitReport, Floats, Learner, Spec, load
from tasks.learners.calibrated import Calibrated, exact
from tasks.learners.intervals import Intervals, groups_in, intervals_from, widened

if TYPE_CHECKING:
    import pyarrow as pa

ENDS = ("low", "high")  # folders of the two quantiles' learners


class Ranged:
    """Predicts what `inner` does; `interval` says how far from it the label may come."""

    def __init__(self, inner: Learner, intervals: Intervals, ends: tuple[Learner, Learner] | None = None) -> None:
        self.inner = inner
        self.intervals = intervals
        self.ends = ends  # fitted to the two quantiles; none: the band is the prediction

    @property
    def declaration(self) -> Declaration:
        return replace(self.inner.declaration, warm_start=False)

    @property
    def threshold(self) -> float:
        return self.inner.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.inner.threshold = value

    @property
    def spec(self) -> Spec:
        return self.inner.spec

    def fit(self, *args: Any, **named: Any) -> FitReport:
        """Raises UserError: margins belong to the fits that they were learned from."""
        raise UserError(f"learner {self.spec.name!r} has intervals; fit a new one with tasks.learners.make")

    resume = fit

    def predict(self, table: pa.Table) -> Floats:
        return self.inner.predict(table)

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
        low, high = (end.predict(table) for end in self.ends or (self.inner, self.inner))
        return np.column_stack([low, high])

    def groups(self, table: pa.Table) -> np.ndarray[Any, np.dtype[np.str_]]:
        """(rows,) which margin each row has."""
        return groups_in(table, self.intervals.within)

    def save(self, folder: Path) -> None:
        self.inner.save(folder)
        for name, end in zip(ENDS, self.ends or (), strict=False):
            (folder / name).mkdir()
            end.save(folder / name)
        described = read_json(folder / DESCRIPTION)
        write_json(folder / DESCRIPTION, described | {"intervals": self.intervals.described()})
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]) -> Learner:
        """Raises AssertionError: `tasks.learners.load` loads the inner learner and wraps it."""
        raise AssertionError("a learner with intervals is loaded by tasks.learners.load")

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
    learner: Learner, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]
) -> Learner:
    """The learner as its folder has it: with its intervals where there are any."""
    if not (found := description.get("intervals")):
        return learner
    intervals = intervals_from(found)
    if intervals.by == "residuals":
        return Ranged(learner, intervals)
    low, high = (load(folder / name, trusted_types=trusted_types) for name in ENDS)
    return Ranged(learner, intervals, (low, high))


def fitted_within(learner: Learner) -> Learner:
    """The learner that was fitted, without what was learned from its predictions."""
    return fitted_within(learner.inner) if isinstance(learner, Calibrated | Ranged) else learner
