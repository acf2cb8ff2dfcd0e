"""Label spreading: labels flow from labelled rows to rows that are near them, and on to those near these."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.errors import UserError
from refit.learners.contract import Batch, Declaration, FitReport, Floats, Labels, Spec
from refit.learners.sklearn_estimator import SklearnEstimator
from refit.runtime.context import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

ESTIMATOR = "sklearn.semi_supervised.LabelSpreading"
MOST_ROWS = 5_000


class LabelSpreading(SklearnEstimator):
    """Wraps scikit-learn's `LabelSpreading`, with its arguments, its encoding of rows and its file.

    The model holds every row that it was fitted to, and `kernel: rbf` compares each pair of them, so `most_rows` bounds
    the rows without a label; if there are more, the seed draws some. A row that is near none of them gets the mean
    probabilities.

    Source: Zhou, Bousquet, Lal, Weston, Schölkopf (2004), "Learning with local and global consistency", section 2.
    """

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        params = {"kernel": "knn", **spec.params}
        self._most_rows = params.pop("most_rows", MOST_ROWS)
        if not isinstance(self._most_rows, int) or self._most_rows < 1:
            given = f"found {self._most_rows!r}"
            raise UserError(
                f"learner {spec.kind!r}: most_rows is a number from 1 on; {given} ({where}.params.most_rows)"
            )
        super().__init__(replace(spec, kind=ESTIMATOR, params=params), where=where)
        self.spec = spec
        self._unlabelled: pa.Table | None = None

    @property
    def declaration(self) -> Declaration:
        return Declaration(("binary", "multiclass"), images=True, unlabelled="needed", safe_format="skops")

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
        self._unlabelled = None if unlabelled is None else self._some_of(unlabelled)
        try:
            return super().fit(train, label, progress=progress)
        finally:
            self._unlabelled = None

    def _some_of(self, table: pa.Table) -> pa.Table:
        if len(table) <= self._most_rows:
            return table
        drawn = np.random.default_rng(self.spec.seed).choice(len(table), self._most_rows, replace=False)
        return table.take(np.sort(drawn))

    def _encoded(self, train: pa.Table, estimator: Any) -> tuple[Any, Any]:
        import pyarrow as pa

        features = list(self.spec.features)
        extra = [] if self._unlabelled is None else [self._unlabelled.select(features)]
        return super()._encoded(pa.concat_tables([train.select(features), *extra]), estimator)

    def _fit(
        self, estimator: Any, encoder: Any, rows: Any, train: pa.Table, label: Labels, validation: Batch | None
    ) -> FitReport:
        none = np.full(rows.shape[0] - len(label), -1)  # scikit-learn's mark of a row without a label
        return super()._fit(estimator, encoder, rows, train, np.concatenate([label, none]), None)

    def predict(self, table: pa.Table) -> Floats:
        with np.errstate(invalid="ignore"):
            predicted = super().predict(table)
        usual = self._model[-1].label_distributions_.mean(axis=0)
        usual = self._shaped((usual / usual.sum())[None], self._model)
        return np.where(np.isfinite(predicted), predicted, usual)
