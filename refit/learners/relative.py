"""Predicts the change from a level that each row has as a feature, so that a trend need not be learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from refit.config import nearest
from refit.errors import UserError, counted
from refit.learners.contract import Floats, Labels
from refit.learners.meta_learner import MetaLearner, matching, numbers, replaced

if TYPE_CHECKING:
    import pyarrow as pa

CHANGES = ("ratio", "difference")


class Relative(MetaLearner):
    """Fits the label's change from the feature `level`, and predicts the level plus that change.

    A tree cannot predict values beyond those it has seen, so it falls behind once demand has doubled. Relative to a
    recent mean, a Tuesday of this year resembles one of last year. Features in the label's units (`scaled`, shell
    patterns) become changes from the level too. If the level itself is among them, the model does not see how high it
    was; this works best if future levels exceed all past ones. `change: ratio` takes differences of log(1 + x), for
    numbers that are never negative; `difference` takes plain differences. A row without a level uses the median of the
    training levels. Iterations are chosen by the error of the changes: the absolute one where the metric is a share.
    """

    arguments: ClassVar[Mapping[str, object]] = {"level": None, "scaled": [], "change": "ratio"}

    def _check(self) -> None:
        level, change = self.settings["level"], self.settings["change"]
        if level not in self.spec.features:
            hint = nearest(str(level), self.spec.features)
            raise UserError(
                f"learner 'relative' needs `level`, a feature; found {level!r}{hint} ({self._where}.params)"
            )
        if change not in CHANGES:
            raise UserError(
                f"learner 'relative': change is ratio or difference; found {change!r} ({self._where}.params)"
            )
        if self.spec.stopping_metric.percent:  # shares of changes that are near 0 say nothing, nor are they finite
            self.spec = replace(self.spec, early_stopping_metric="mae")
        self._scaled = matching(self.settings["scaled"], self.spec.features, f"{self._where}.params.scaled")

    def _prepared(self, train: pa.Table, label: Labels) -> dict[str, float]:
        level = numbers(train, self.settings["level"])
        if self.settings["change"] == "ratio" and (label < 0).any():
            raise UserError(
                f"learner {self.spec.name!r}: {counted(int((label < 0).sum()), 'label is', 'labels are')} negative, so "
                "there is no ratio; set change: difference"
            )
        if not np.isfinite(level).any():
            raise UserError(f"learner {self.spec.name!r}: level {self.settings['level']!r} is missing in every row")
        return {"usual": float(np.nanmedian(level))}

    def _on_scale(self, values: Floats) -> Floats:
        """Numbers on the scale on which changes are differences."""
        return np.log1p(np.maximum(values, 0.0)) if self.settings["change"] == "ratio" else values

    def _level(self, table: pa.Table) -> Floats:
        level = numbers(table, self.settings["level"])
        return self._on_scale(np.where(np.isfinite(level), level, self._own.get("usual", np.nan)))

    def _relative(self, table: pa.Table, level: Floats) -> pa.Table:
        return replaced(table, {name: self._on_scale(numbers(table, name)) - level for name in self._scaled})

    def _learned(self, table: pa.Table, label: Labels) -> tuple[pa.Table, Labels]:
        level = self._level(table)
        return self._relative(table, level), self._on_scale(np.asarray(label, dtype=np.float64)) - level

    def predict(self, table: pa.Table) -> Floats:
        level = self._level(table)
        predicted = level + self.inner.predict(self._relative(table, level))
        return np.asarray(np.expm1(predicted) if self.settings["change"] == "ratio" else predicted, dtype=np.float64)
