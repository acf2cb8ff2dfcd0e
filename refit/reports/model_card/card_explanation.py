"""Values of the model card on how predictions depend on features."""

from __future__ import annotations

from dataclasses import dataclass

from refit.reports.model_card.feature_charts import ANY_PREDICTED, PREDICTED, drawn_classes, unit_of
from refit.schemas.evaluation import Evaluation, Shap, ShapFeature
from refit.schemas.explanations import Method

MOST_FEATURES = 12
HOW: dict[Method, str] = {
    "trees": "exactly, from its trees",
    "boosting library": "exactly, by its own library",
    "linear": "exactly, from its coefficients",
    "sampling": "by sampled orders of its features",
}


@dataclass(frozen=True)
class ShownShap:
    """The Shapley values of the largest features."""

    rows: int
    unit: str
    how: str
    by_row: bool
    largest: tuple[ShapFeature, ...]


@dataclass(frozen=True)
class ShownExplanation:
    """The values for the page's section on explanations."""

    rows: int
    shap: ShownShap | None
    predicted: str
    more_classes: int  # that are not drawn


def shown(evaluation: Evaluation) -> ShownExplanation:
    """The values for the page's section on explanations."""
    explained = evaluation.explained
    return ShownExplanation(
        rows=explained.rows,
        shap=_shap(explained.shap) if explained.shap else None,
        predicted=PREDICTED.get(evaluation.task, ANY_PREDICTED),
        more_classes=len(explained.classes) - len(drawn_classes(explained)),
    )


def _shap(values: Shap) -> ShownShap:
    return ShownShap(
        rows=values.rows,
        unit=unit_of(values),
        how=HOW[values.method],
        by_row=bool(values.points),
        largest=values.features[:MOST_FEATURES],
    )
