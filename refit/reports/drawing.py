"""The common style of all figures, and writing of figures and CSV tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from refit.files.artifacts import atomic
from refit.files.csv_cells import escaped
from refit.plain_text import one_line, visible

INK, QUIET, GRID = "#1f2933", "#6b7785", "#e4e8ec"
COLOURS = {"candidate": "#0f6e84", "champion": "#c8772a", "baseline": "#8a94a0", "anchor": "#7a5ea8"}
GOOD, BAD = "#2e7d4f", "#b3402f"

STYLE: dict[str, Any] = {
    "figure.figsize": (6.4, 4.4),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a category is not a formula
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.9,
    "legend.frameon": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "figure.facecolor": "white",
}


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table for `dvc plots`."""
    with atomic(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([escaped(one_line(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows)


def new_axes(title: str, size: tuple[float, float] = (6.4, 4.4)) -> tuple[Any, Any]:
    """Create a figure with one pair of axes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=size)
    axes.set_title(title)
    return figure, axes


def tint(colour: str) -> Any:
    """A colour map from white to a colour."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("tint", ["white", colour])


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG and close it; characters that no font can show are escaped."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    try:
        _make_visible(figure)
        with atomic(path) as scratch:  # `figure.savefig` would draw it twice, the first time only for its layout
            FigureCanvasAgg(figure).print_png(
                scratch, metadata={"Software": None}
            )  # no version: equal bytes on a rerun
    finally:
        plt.close(figure)


def _make_visible(figure: Any) -> None:
    """Escape control and format characters in all texts of a figure: matplotlib's warnings would print them.

    The texts of ticks are set when they are drawn, by the formatter of their axis.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    for text in figure.findobj(Text):
        text.set_text(visible(text.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(formatter := axis.get_major_formatter(), FuncFormatter):
            formatter.func = partial(_visible_label, formatter.func)


def _visible_label(label: Callable[..., str], value: float, position: int) -> str:
    return visible(label(value, position))
