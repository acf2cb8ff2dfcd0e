"""Values of the model card on how predictions depend on features."""

from __future__ import annotations

from refit.reports.drawing import Report
from refit.reports.model_card.feature_charts import ANY_PREDICTED, PREDICTED, drawn_classes, unit_of

MOST_FEATURES = 12
HOW = {
    "trees": "exactly, from its trees",
    "boosting library": "exactly, by its own library",
    "linear": "exactly, from its coefficients",
    "sampling": "by sampled orders of its features",
}


def shown(evaluation: Report) -> Report:
    """The values for the page's section on explanations."""
    explained = evaluation["explained"]
    return {
        "rows": explained["rows"],
        "shap": _shap(explained["shap"]) if explained["shap"] else None,
        "predicted": PREDICTED.get(evaluation["task"], ANY_PREDICTED),
        "more_classes": len(explained["classes"]) - len(drawn_classes(explained)) if explained["classes"] else 0,
    }


def _shap(values: Report) -> Report:
    return {
        "rows": values["rows"],
        "unit": unit_of(values),
        "how": HOW[values["method"]],
        "by_row": bool(values["points"]),
        "largest": values["features"][:MOST_FEATURES],
    }
