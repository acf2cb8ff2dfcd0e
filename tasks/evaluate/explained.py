"""What a model's predictions follow, measured on a sample of the test rows; and what its pictures show of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.evaluate.judging import Holdout
from tasks.explaining.partial import partial_dependence
from tasks.learners import Learner
from tasks.pages.charts import roomy
from tasks.params.learning import ExplainParams

Report = dict[str, Any]
MOST_CLASSES = 4  # in a picture


def explained(
    learner: Learner, test: Holdout, importance: Sequence[Report], params: ExplainParams, seed: int
) -> Report:
    """Partial dependence of the features that matter most.

    Args:
        importance: features by the loss when they are shuffled, the largest first; empty: none was measured.
    """
    count = min(params.rows, test.rows)
    if not count:
        return {"rows": 0, "classes": [], "partial_dependence": []}
    chosen = np.sort(np.random.default_rng(seed).choice(test.rows, count, replace=False))
    rows = test.table.select(learner.spec.features).take(chosen)
    order = [entry["name"] for entry in importance] or list(learner.spec.features)
    return {
        "rows": count,
        "classes": list(learner.spec.classes),
        "partial_dependence": partial_dependence(learner, rows, order[: params.features]),
    }


def drawn_classes(explained: Report) -> list[int]:
    """Places of the classes that pictures show: the likeliest ones. No task but multiclass has any."""
    if not explained["classes"] or not explained["partial_dependence"]:
        return []
    likely = np.mean([np.mean(each["mean"], axis=0) for each in explained["partial_dependence"]], axis=0)
    return [int(place) for place in np.argsort(-likely, kind="stable")[:MOST_CLASSES]]


def lines_of(explained: Report, feature: Report) -> list[tuple[str, list[float]]]:
    """What a feature's picture shows: one line without a name, or one for each of the classes shown."""
    shown = drawn_classes(explained)
    if not shown:
        return [("", feature["mean"])]
    return [(explained["classes"][place], [mean[place] for mean in feature["mean"]]) for place in shown]


def span_of(explained: Report) -> tuple[float, float]:
    """The axis that all these pictures share, so that a steep feature looks steep beside a flat one."""
    found = [lines_of(explained, feature) for feature in explained["partial_dependence"]]
    return roomy([value for lines in found for _, line in lines for value in line])
