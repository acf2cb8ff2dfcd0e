"""Draws the contributions of features to one prediction, as bars from the base value to the prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.explanations.occlusion import edges
from refit.plain_text import MISSING
from refit.reports.drawing import COLOURS, INK, QUIET, list_down, new_grid, save_png, short_name, styled
from refit.schemas.explanations import FeatureContribution, RowExplanations

MOST_FEATURES = 12
UP, DOWN = COLOURS["champion"], COLOURS["candidate"]


def draw(report: RowExplanations, path: Path, pictures: Mapping[str, NDArray[np.uint8]] | None = None) -> None:
    """Write a PNG of the first explained row.

    Args:
        pictures: its images by the name of their feature; each is drawn with the patches that matter.
    """
    row = report.rows[0]
    shown, rest = row.features[:MOST_FEATURES], row.features[MOST_FEATURES:]
    steps = [(f"{short_name(each.name, 34)} = {format_value(each.value)}", each.adds) for each in shown]
    if rest:
        steps.append((f"{len(rest)} other features", sum(each.adds for each in rest)))
    what = f"{row.predicted_class!r} {row.prediction:.3g}" if row.predicted_class else f"{row.prediction:.4g}"
    title = f"Why {row.key} is predicted {what} ({report.model} version {report.version})"
    with styled():
        of_images = [(each, pictures[each.name]) for each in row.features if pictures and each.patches]
        height, count = 1.4 + 0.3 * len(steps), len(of_images)
        size = (8.2 + 2.6 * count, max(height, 2.9)) if count else (8.2, height)
        figure, (grid,) = new_grid(title, size, 1, 1 + count, width_ratios=[3] + [1] * count)
        axes = grid[0]
        for panel, (feature, picture) in zip(grid[1:], of_images, strict=True):
            _draw_patches(panel, feature, picture)
        at = row.base
        for position, (_, adds) in enumerate(steps):
            axes.barh(position, adds, left=at, color=UP if adds >= 0 else DOWN, height=0.66, alpha=0.85)
            axes.text(max(at, at + adds), position, f" {adds:+.3g}", va="center", fontsize=8, color=INK)
            at += adds
            axes.plot([at, at], [position - 0.33, position + 1.33], color=QUIET, linewidth=0.7)
        axes.axvline(row.base, color=QUIET, linewidth=0.8, linestyle=":")
        list_down(axes, [name for name, _ in steps])
        axes.use_sticky_edges = False
        axes.margins(x=0.1)
        axes.set_xlabel(f"{report.in_words}: from {row.base:.3g} on the whole to {row.total:.3g} for this row")
        save_png(figure, path)


def _draw_patches(axes: Any, feature: FeatureContribution, picture: NDArray[np.uint8]) -> None:
    """An image, coloured where covering a patch would take from the prediction or add to it."""
    from matplotlib.colors import to_rgb

    losses = np.asarray(feature.patches)
    rows, columns = (np.diff(edges(pixels)) for pixels in picture.shape[:2])
    strength = np.repeat(np.repeat(losses / (np.abs(losses).max() or 1.0), rows, axis=0), columns, axis=1)
    colour = np.where(strength[:, :, None] >= 0, to_rgb(UP), to_rgb(DOWN))
    axes.imshow(picture[:, :, 0] if picture.shape[2] == 1 else picture, cmap="gray", vmin=0, vmax=255)
    axes.imshow(np.dstack([colour, 0.7 * np.abs(strength)]))
    axes.set_axis_off()
    axes.set_title(f"{short_name(feature.name, 20)}: for and against", fontsize=8, fontweight="normal", loc="center")


def format_value(value: Any) -> str:
    """Format the value of a feature for people.

    >>> format_value(None), format_value(0.123456), format_value(3), format_value("red")
    ('missing', '0.1235', '3', 'red')
    """
    if value is None:
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else short_name(str(value), 24)
