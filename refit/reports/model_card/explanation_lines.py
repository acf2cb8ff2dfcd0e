"""What the pictures of an explanation show: for which classes, along which lines, on which axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from refit.explanations import format_unit
from refit.reports.svg_charts import roomy

Report = dict[str, Any]
MOST_CLASSES = 4  # in a picture


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


def unit_of(shap: Report) -> str:
    """In which unit contributions add up, in words."""
    return format_unit(shap["unit"], calibrated=shap["calibrated"])
