"""Self-training: a learner labels the rows that it is sure of, and is fitted again to them as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refit.errors import UserError
from refit.learners import make
from refit.learners.contract import Batch, Declaration, FitReport, Floats, Labels, check_labels
from refit.learners.meta_learner import MetaLearner
from refit.runtime.context import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa


class SelfTraining(MetaLearner):
    """Fits a classifier to the labelled rows, lets it label the others where it is sure, and fits it again; in rounds.

    A round takes the rows whose class has a probability of at least `threshold`, or the `k_best` surest; it ends when a
    round finds none, or after `rounds`. A label once given stays. All fits take the iterations that the first one found
    on the validation rows. Errors of the first fit are learned as if they were true: a high threshold of a calibrated
    classifier keeps them few.

    Source: Yarowsky (1995), "Unsupervised word sense disambiguation rivaling supervised methods", section 3.
    """

    arguments: ClassVar[Mapping[str, object]] = {"threshold": 0.95, "k_best": None, "rounds": 5}

    @property
    def declaration(self) -> Declaration:
        inner = self.inner.declaration
        tasks = tuple(task for task in ("binary", "multiclass") if task in inner.tasks)
        return replace(inner, tasks=tasks, warm_start=False, unlabelled="needed")

    def _check(self) -> None:
        threshold, k_best, rounds = (self.settings[name] for name in ("threshold", "k_best", "rounds"))
        fault = ""
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            fault = f"threshold is a probability above 0, up to 1; found {threshold!r}"
        for name, value in (("rounds", rounds), *([] if k_best is None else [("k_best", k_best)])):
            if not isinstance(value, int) or value < 1:
                fault = f"{name} is a number from 1 on; found {value!r}"
        if fault:
            raise UserError(f"learner 'self_training': {fault} ({self._where}.params)")

    def _learned(self, table: pa.Table, label: Labels) -> tuple[pa.Table, Labels]:
        return table, label

    def predict(self, table: pa.Table) -> Floats:
        return self.inner.predict(table)

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: Batch | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
        unlabelled: pa.Table | None = None,
    ) -> FitReport:
        import pyarrow as pa

        check_labels(label, self.spec)
        rest = train.slice(0, 0) if unlabelled is None else unlabelled
        rows, rest = train.select(list(self.spec.features)), rest.select(list(self.spec.features))
        report = self._fit(rows, label, rest, validation=validation, iterations=iterations, progress=progress)
        given = 0
        for number in range(1, self.settings["rounds"] + 1):
            classes, chosen = self._surest(rest)
            if not chosen.any():
                break
            progress(f"{self.spec.name}: round {number} labels {chosen.sum():,} of {len(rest):,} rows")
            given += int(chosen.sum())
            rows, rest = pa.concat_tables([rows, rest.filter(pa.array(chosen))]), rest.filter(pa.array(~chosen))
            label = np.concatenate([label, classes[chosen].astype(label.dtype)])
            self.inner = make(self._inner_spec(), where=f"{self._where}.params")
            self._fit(rows, label, rest, iterations=report.iterations, progress=progress)
        self._own = {"rows": float(given)}
        return replace(report, curve=()) if given else report  # the curve is that of the first fit

    def _fit(self, rows: pa.Table, label: Labels, rest: pa.Table, **named: Any) -> FitReport:
        if self.inner.declaration.unlabelled != "ignored":
            named["unlabelled"] = rest
        return self.inner.fit(rows, label, **named)

    def _surest(self, rest: pa.Table) -> tuple[Labels, NDArray[np.bool_]]:
        """The predicted class of each row, and whether it is sure enough to be learned."""
        if not len(rest):
            return np.arange(0), np.zeros(0, dtype=np.bool_)
        predicted = self.inner.predict(rest)
        if predicted.ndim == 1:
            predicted = np.column_stack([1 - predicted, predicted])
        surety = predicted.max(axis=1)
        chosen = surety >= self.settings["threshold"]
        if (k_best := self.settings["k_best"]) is not None:
            chosen = np.zeros(len(rest), dtype=np.bool_)
            chosen[np.argsort(-surety, kind="stable")[:k_best]] = True
        return predicted.argmax(axis=1), chosen
