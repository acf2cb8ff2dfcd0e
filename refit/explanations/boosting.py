"""Shapley values of LightGBM and XGBoost models, computed by these libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refit.explanations.encoded import folded, of_matrix
from refit.explanations.shapley import RawContributions
from refit.learners import Learner
from refit.learners.native_boosting import NativeBoosting

if TYPE_CHECKING:
    import pyarrow as pa


def explain(learner: Learner, rows: pa.Table, background: pa.Table, seconds: float) -> RawContributions | None:
    """Exact contributions, by the rows that the trees were fitted to; None if the learner or its booster has none."""
    if not isinstance(learner, NativeBoosting):
        return None
    matrix = learner._encoding.matrix(rows)
    outputs = max(len(learner.spec.classes), 1)
    try:
        if learner.library == "lightgbm":
            raw = learner._booster.predict(matrix, pred_contrib=True)
        else:
            raw = learner._booster.predict(learner._data(matrix), pred_contribs=True)  # type: ignore[attr-defined]
    except learner._error:
        return None
    columns = np.asarray(raw, dtype=np.float64).reshape(len(matrix), outputs, -1).transpose(0, 2, 1)
    values = folded(columns[:, :-1], of_matrix(learner, learner._encoding), len(learner.spec.features))
    return RawContributions(values, columns[0, -1], np.arange(rows.num_rows), "boosting library")
