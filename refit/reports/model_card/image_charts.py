"""The chart of images: those that the model was surest of, and its worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.config.column_types import ArrayColumn
from refit.evaluation.holdout import Holdout
from refit.learners import Floats, Labels, Spec
from refit.problems.contract import Problem
from refit.reports.drawing import BAD, GOOD, Chart, new_grid, short_name
from refit.schemas.evaluation import Evaluation
from refit.storage.arrays import images

SHOWN = 8  # images of each kind
NAME = 14  # characters of a class, so that it fits over its image with its probability


@dataclass(frozen=True)
class ShownImage:
    """An image with its label and what the model predicted, as texts."""

    pixels: NDArray[np.uint8]  # (height, width, channels)
    label: str
    prediction: str
    right: bool


def charts(test: Holdout, predicted: Floats, spec: Spec, threshold: float) -> list[Chart]:
    """A chart of each image feature.

    Args:
        predicted: of the test rows, for the classes of their problem.
        threshold: probability from which a row is predicted as 1, in a binary problem.
    """
    predicted, arrays = test.problem.output(predicted), spec.arrays.items()
    return [_chart(test, predicted, threshold, name, array) for name, array in arrays if array.kind == "image"]


def _chart(test: Holdout, predicted: Floats, threshold: float, name: str, array: ArrayColumn) -> Chart:
    def shown_at(positions: list[int]) -> list[ShownImage]:
        cells = images(test.table.take(np.array(positions, np.int64)), name, array)
        rows = zip(cells, positions, strict=True)
        return [shown(test.problem, pixels, test.labels[row], predicted[row], threshold) for pixels, row in rows]

    def draw_images(_: Evaluation) -> Any:
        best, worst = chosen(test.labels, predicted)
        return draw(shown_at(best), shown_at(worst), name)

    what = "test rows by their error, the smallest above and the largest below: label, then prediction"
    return Chart(f"images_{name}", "images", what, draw_images)


def chosen(labels: Labels, predicted: Floats) -> tuple[list[int], list[int]]:
    """The rows to show: the smallest errors, and the largest; ties in the order of the rows.

    The error is the probability that the label was not given, or the distance from it.
    """
    if predicted.ndim == 2:
        error = 1 - predicted[np.arange(len(labels)), labels.astype(np.int64)]
    else:
        error = np.abs(labels - predicted)
    order = np.argsort(error, kind="stable")
    worst = order[::-1][:SHOWN]
    return order[: min(SHOWN, len(order) - len(worst))].tolist(), worst.tolist()


def shown(problem: Problem, pixels: NDArray[np.uint8], label: Any, predicted: Any, threshold: float) -> ShownImage:
    """An image with its label and prediction in words."""
    if problem.classes:
        best = int(np.argmax(predicted))
        name = problem.classes[int(label)]
        prediction = f"{short_name(problem.classes[best], NAME)} ({predicted[best]:.0%})"
        return ShownImage(pixels, short_name(name, NAME), prediction, best == int(label))
    if problem.parts:
        return ShownImage(pixels, "loss", f"{predicted:.4g}", True)
    if problem.task == "binary":
        return ShownImage(pixels, f"{int(label)}", f"{predicted:.0%}", (predicted >= threshold) == bool(label))
    return ShownImage(pixels, f"{label:.4g}", f"{predicted:.4g}", True)


def draw(best: Sequence[ShownImage], worst: Sequence[ShownImage], name: str) -> Any:
    """A figure with a row of images each."""
    title = f"{name}: the smallest errors, and the largest"
    figure, axes = new_grid(title, (9.6, 3.6), 2, SHOWN)
    for line, row in zip(axes, (best, worst), strict=True):
        for index, axis in enumerate(line):
            axis.set_axis_off()
            if index >= len(row):
                continue
            image = row[index]
            grey = image.pixels.shape[2] == 1
            axis.imshow(image.pixels[:, :, 0] if grey else image.pixels, cmap="gray", vmin=0, vmax=255)
            colour = GOOD if image.right else BAD
            texts = f"{image.label}\n→ {image.prediction}"
            axis.set_title(texts, color=colour, fontsize=7.5, fontweight="normal", loc="center")
    return figure
