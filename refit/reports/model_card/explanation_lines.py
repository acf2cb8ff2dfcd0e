"""The classes, lines and axis that the figures of an explanation show."""

from __future__ import annotations

from typing import Any

import numpy as np

from refit.explanations import format_unit
from refit.reports.svg_charts import roomy

Report = dict[str, Any]
MOST_CLASSES = 4  # in a figure


def drawn_classes(explained: Report) -> list[int]:
    """Indices of the classes in figures, which are the most likely ones; empty unless the task is multiclass."""
    if not explained["classes"] or not explained["partial_dependence"]:
        return []
    likely = np.mean([np.mean(each["mean"], axis=0) for each in explained["partial_dependence"]], axis=0)
    return [int(index) for index in np.argsort(-likely, kind="stable")[:MOST_CLASSES]]


def lines_of(explained: Report, feature: Report) -> list[tuple[str, list[float]]]:
    """The lines in the figure of a feature: one without a name, or one for each shown class."""
    shown = drawn_classes(explained)
    if not shown:
        return [("", feature["mean"])]
    return [(explained["classes"][index], [mean[index] for mean in feature["mean"]]) for index in shown]


def span_of(explained: Report) -> tuple[float, float]:
    """The axis that all these figures share, so that slopes can be compared."""
    lines_by_feature = [lines_of(explained, feature) for feature in explained["partial_dependence"]]
    return roomy([value for lines in lines_by_feature for _, line in lines for value in line])


def unit_of(shap: Report) -> str:
    """The unit in which contributions are summed."""
    return format_unit(shap["unit"], calibrated=shap["calibrated"])
