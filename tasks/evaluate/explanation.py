"""Explains a model's predictions on a sample of the test rows, with the values that its charts show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from refit.config.evaluate import ExplainParams
from refit.evaluation.holdout import Holdout, tidy
from refit.explanations import contributions
from refit.explanations.partial import partial_dependence
from refit.explanations.shapley import Contributions
from refit.learners import Learner
from refit.schemas.evaluation import Explained, FeatureLoss, Shap, ShapFeature, ShapPoints

if TYPE_CHECKING:
    import pyarrow as pa


def explained(
    learner: Learner, test: Holdout, importance: Sequence[FeatureLoss], params: ExplainParams, seed: int
) -> Explained:
    """Compute Shapley values of all features, and partial dependence on the most important ones.

    Args:
        importance: features with their permutation loss, largest first; empty if it was not measured.
    """
    count = min(params.rows, test.rows)
    if not count or test.problem.inexplicable:
        return Explained(rows=0, classes=(), shap=None, partial_dependence=())
    chosen = np.sort(np.random.default_rng(seed).choice(test.rows, count, replace=False))
    rows = test.table.select(learner.spec.features).take(chosen)
    shap = _shap(contributions(learner, rows, rows, seed=seed), learner, rows, params.features)
    order = [each.name for each in importance or shap.features]
    return Explained(
        rows=count,
        classes=learner.spec.classes,
        shap=shap,
        partial_dependence=partial_dependence(learner, rows, order[: params.features]),
    )


def _shap(shapley: Contributions, learner: Learner, rows: pa.Table, most: int) -> Shap:
    """Return mean absolute values of all features, and the values of the largest if there is a single output."""
    sizes = shapley.mean_size()
    order = np.argsort(-sizes, kind="stable")
    drawn = order[:most] if shapley.values.shape[2] == 1 else order[:0]
    return Shap(
        unit=shapley.unit,
        method=shapley.method,
        calibrated=shapley.calibrated,
        rows=len(shapley.indices),
        base=tuple(float(f"{value:.12g}") for value in shapley.base),
        features=tuple(ShapFeature(name=shapley.features[index], value=tidy(sizes[index])) for index in order),
        points=tuple(
            ShapPoints(
                name=shapley.features[index],
                values=tuple(float(f"{value:.6g}") for value in shapley.values[:, index, 0]),
                levels=_levels(learner, rows.take(shapley.indices), shapley.features[index]),
            )
            for index in drawn
        ),
    )


def _levels(learner: Learner, rows: pa.Table, name: str) -> tuple[float | None, ...]:
    """Return the rank of each row's number, from 0 to 1; None if it is no number, or missing."""
    import pyarrow as pa

    if not learner.spec.is_number(name):
        return tuple(None for _ in range(rows.num_rows))
    numbers = rows.column(name).cast(pa.float64(), safe=False).to_numpy()
    finite = np.sort(numbers[np.isfinite(numbers)])
    below, upto = np.searchsorted(finite, numbers, "left"), np.searchsorted(finite, numbers, "right")
    levels = (below + upto) / (2 * max(len(finite), 1))
    is_number = np.isfinite(numbers).tolist()
    return tuple(round(float(level), 3) if there else None for level, there in zip(levels, is_number, strict=True))
