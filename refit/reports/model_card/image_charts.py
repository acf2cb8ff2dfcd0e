"""The chart of images: those that the model was surest of, and its worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.learners import Floats, Labels
from refit.problems.contract import Problem
from refit.reports.drawing import BAD, GOOD, new_grid, short_name

SHOWN = 8  # images of each kind
DESCRIPTION = "above, the test rows that the model was surest of and right; below, its largest errors"


@dataclass(frozen=True)
class ShownImage:
    """An image with its label and what the model predicted, as texts."""

    pixels: NDArray[np.uint8]  # (height, width, channels)
    label: str
    prediction: str
    right: bool


def chosen(problem: Problem, labels: Labels, predicted: Floats) -> tuple[list[int], list[int]]:
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


def shown(problem: Problem, pixels: NDArray[np.uint8], label: Any, predicted: Any) -> ShownImage:
    """An image with its label and prediction in words."""
    if problem.classes:
        best = int(np.argmax(predicted))
        name = problem.classes[int(label)]
        return ShownImage(pixels, name, f"{problem.classes[best]} ({predicted[best]:.0%})", best == int(label))
    if problem.task == "binary":
        return ShownImage(pixels, f"{int(label)}", f"{predicted:.0%}", (predicted >= 0.5) == bool(label))
    return ShownImage(pixels, f"{label:.4g}", f"{predicted:.4g}", True)


def draw(best: Sequence[ShownImage], worst: Sequence[ShownImage]) -> Any:
    """A figure with a row of images each."""
    title = "The surest, and the largest errors: label → prediction"
    figure, axes = new_grid(title, (9.6, 3.4), 2, SHOWN)
    for line, images in zip(axes, (best, worst), strict=True):
        for index, axis in enumerate(line):
            axis.set_axis_off()
            if index >= len(images):
                continue
            image = images[index]
            grey = image.pixels.shape[2] == 1
            axis.imshow(image.pixels[:, :, 0] if grey else image.pixels, cmap="gray", vmin=0, vmax=255)
            colour = GOOD if image.right else BAD
            texts = f"{short_name(image.label, 9)} → {short_name(image.prediction, 12)}"
            axis.set_title(texts, color=colour, fontsize=7.5, fontweight="normal", loc="center")
    return figure
