"""What a model's predictions follow, measured on a sample of the test rows; and what its pictures show of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.config.learning import ExplainParams
from refit.evaluation.holdout import Holdout, tidy
from refit.explanations import contributions
from refit.explanations.partial import partial_dependence
from refit.explanations.shapley import Contributions
from refit.learners import Learner

if TYPE_CHECKING:
    import pyarrow as pa

Report = dict[str, Any]


def explained(
    learner: Learner, test: Holdout, importance: Sequence[Report], params: ExplainParams, seed: int
) -> Report:
    """What each feature adds to predictions (Shapley values), and how these follow the features that matter most.

    Args:
        importance: features by the loss when they are shuffled, the largest first; empty: none was measured.
    """
    count = min(params.rows, test.rows)
    if not count:
        return {"rows": 0, "classes": [], "shap": None, "partial_dependence": []}
    chosen = np.sort(np.random.default_rng(seed).choice(test.rows, count, replace=False))
    rows = test.table.select(learner.spec.features).take(chosen)
    shap = _shap(contributions(learner, rows, rows, seed=seed), learner, rows, params.features)
    order = [entry["name"] for entry in importance or shap["features"]]
    return {
        "rows": count,
        "classes": list(learner.spec.classes),
        "shap": shap,
        "partial_dependence": partial_dependence(learner, rows, order[: params.features]),
    }


def _shap(found: Contributions, learner: Learner, rows: pa.Table, most: int) -> Report:
    """Mean sizes of all features, and the single values of the largest ones where there is one output to draw."""
    sizes = found.mean_size()
    order = np.argsort(-sizes, kind="stable")
    drawn = order[:most] if found.values.shape[2] == 1 else order[:0]
    return {
        "unit": found.unit,
        "method": found.method,
        "calibrated": found.calibrated,
        "rows": len(found.places),
        "base": np.round(found.base, 10).tolist(),
        "features": [{"name": found.features[place], "value": tidy(sizes[place])} for place in order],
        "points": [
            {
                "name": found.features[place],
                "values": np.round(found.values[:, place, 0], 6).tolist(),
                "levels": _levels(learner, rows.take(found.places), found.features[place]),
            }
            for place in drawn
        ],
    }


def _levels(learner: Learner, rows: pa.Table, name: str) -> list[float | None]:
    """For each row how high its number is among all, from 0 to 1; None for a category, a text or a gap."""
    import pyarrow as pa

    if name in learner.spec.categorical or name in learner.spec.text:
        return [None] * rows.num_rows
    numbers = rows.column(name).cast(pa.float64(), safe=False).to_numpy()
    known = np.sort(numbers[np.isfinite(numbers)])
    below, upto = np.searchsorted(known, numbers, "left"), np.searchsorted(known, numbers, "right")
    levels = (below + upto) / (2 * max(len(known), 1))
    return [round(float(level), 3) if np.isfinite(n) else None for level, n in zip(levels, numbers, strict=True)]
