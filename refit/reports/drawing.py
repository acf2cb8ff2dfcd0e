"""Charts: what one is, the common style of all figures, and writing of figures and of CSV tables for `dvc plots`."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from markupsafe import Markup

from refit.files.artifacts import atomic
from refit.files.csv_cells import escaped
from refit.plain_text import one_line
from refit.reports.hover import TIP
from refit.reports.palette import LIGHT, ROLES, SERIES
from refit.reports.svg import make_visible, to_svg

if TYPE_CHECKING:
    from refit.schemas.evaluation import Evaluation

PAPER, INK, QUIET, GRID = LIGHT["paper"], LIGHT["ink"], LIGHT["quiet"], LIGHT["line"]
COLOURS = {role: LIGHT[role] for role in ROLES}
GROUPS = tuple(LIGHT[name] for name in SERIES)  # the colours of groups of rows, in order
GOOD, BAD = LIGHT["good"], LIGHT["bad"]
FULL, HALF, THIRD = 9.6, 4.7, 3.1  # widths in inches: of a page, and of one of two or three next to each other

_LOCK = Lock()

STYLE: dict[str, object] = {
    "figure.dpi": 110,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06,
    "font.family": "DejaVu Sans",  # wider than the fonts of pages, so that no text of theirs overlaps
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a category is not a formula
    "axes.edgecolor": QUIET,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "butt",
    "legend.frameon": False,
    "legend.borderaxespad": 0.1,
    "legend.borderpad": 0.2,
    "legend.columnspacing": 1.2,
    "legend.handlelength": 1.2,
    "legend.handletextpad": 0.5,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "svg.fonttype": "none",
}


@contextmanager
def styled() -> Iterator[None]:
    """The style within which figures are made and drawn, by one thread at a time: matplotlib's settings are global."""
    from matplotlib import rc_context

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it warns that its first start is slow
    with _LOCK, rc_context(STYLE):
        yield


class Bounded(Protocol):
    """What has an interval, such as a measured number; None where it is undefined."""

    @property
    def lower(self) -> float | None: ...

    @property
    def upper(self) -> float | None: ...


@dataclass(frozen=True)
class Chart:
    """A chart of the model card, which MLflow and DVC have as a file."""

    name: str
    section: str  # of the card
    description: str  # what it shows: its caption, and the text for those who do not see it
    draw: Callable[[Evaluation], Any]  # a figure of an evaluation; None if there is nothing to draw


@dataclass(frozen=True)
class DrawnChart:
    """A chart as a page shows it."""

    svg: Markup
    caption: str


def drawn(figure: Any, name: str, description: str) -> DrawnChart:
    """Draw a figure for a page; `name` is unique in the page."""
    return DrawnChart(Markup(to_svg(figure, name, description)), description)


def chart(section: str, description: str) -> Callable[[Callable[[Evaluation], Any]], Chart]:
    """Make a chart of a function; its name is that of the chart's file."""
    return lambda draw: Chart(draw.__name__, section, description, draw)


def new_figure(title: str, size: tuple[float, float]) -> tuple[Any, Any]:
    """Create a figure with one pair of axes.

    Args:
        title: of the figure, above its axes and legend; may be empty.
        size: width and height in inches.
    """
    figure, axes = new_grid(title, size)
    return figure, axes[0, 0]


def new_grid(title: str, size: tuple[float, float], rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Any, Any]:
    """Create a figure with an array of axes of shape (rows, columns); `grid` are arguments of `Figure.subplots`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    if title:
        figure.suptitle(title, x=0.05 / size[0], ha="left")  # above the labels of the axes
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def legend(axes: Any, **more: Any) -> None:
    """A legend above the axes, if anything has a label; `more` are arguments of `Axes.legend`."""
    if "handles" in more or axes.get_legend_handles_labels()[0]:
        axes.legend(**{"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 6, **more})


def dots(axes: Any, points: Iterable[tuple[Any, Any]], colour: str, size: float = 3, **more: Any) -> None:
    """Many dots as one path, a third of the size of as many markers; one with a None is not drawn."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    ends = [point for point in points for _ in range(2)]
    if ends:
        outline = Outline(ends, [Outline.MOVETO, Outline.LINETO] * (len(ends) // 2))
        outline.should_simplify = False  # it would leave lines without a length out
        axes.add_patch(PathPatch(outline, fill=False, edgecolor=colour, linewidth=size, capstyle="round", **more))
        axes.autoscale_view()


def intervals(axes: Any, at: Iterable[float | None], measured: Iterable[Bounded], colour: str) -> None:
    """Intervals as vertical lines; undefined ones are left out."""
    for x, each in zip(at, measured, strict=True):
        if each.lower is not None:
            axes.vlines(x, each.lower, each.upper, color=colour, linewidth=1.4, alpha=0.55)


def spans(axes: Any, at: Iterable[float], measured: Iterable[Bounded], colour: str, **more: Any) -> None:
    """Intervals as horizontal lines; undefined ones are left out."""
    for y, each in zip(at, measured, strict=True):
        if each.lower is not None:
            axes.hlines(y, each.lower, each.upper, color=colour, **{"linewidth": 1, **more})


def signed_ticks(axes: Any) -> None:
    """Show the sign of each number below the x-axis."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.4g}" if value else "0")


def name_columns(axes: Any, names: Sequence[str], most: int = 12) -> None:
    """Name the columns of a chart from left to right; of many, some have their name below the axis."""
    axes.set_xticks(range(len(names)), names)
    step = max(1, -(-len(names) // most))
    for index, label in enumerate(axes.get_xticklabels()):
        label.set_visible(index % step == 0)


def list_down(axes: Any, names: Sequence[str], **more: Any) -> None:
    """Name the rows of a chart from top to bottom; its grid is vertical."""
    axes.set_yticks(range(len(names)), names, color=INK, **more)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", pad=6)


def tip(artist: Any, text: str) -> None:
    """Show a text when a reader points at a part of a chart."""
    artist.set_gid(f"{TIP}{text}")


def short_name(value: str, most: int = 18) -> str:
    """Shorten the name of a category to fit a figure.

    >>> short_name("a"), short_name("the longest of all the names")
    ('a', 'the longest of al…')
    """
    return value if len(value) <= most else f"{value[: most - 1]}…"


def roomy(values: Iterable[float], room: float = 0.08) -> tuple[float, float]:
    """A range a little wider than the values, for an axis.

    >>> roomy([0.0, 10.0], 0.1)
    (-1.0, 11.0)
    """
    values = list(values)
    room *= max(max(values) - min(values), 1e-4)
    return min(values) - room, max(values) + room


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table for `dvc plots`."""
    with atomic(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([escaped(one_line(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows)


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as PNG; characters that no font can show are escaped."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    make_visible(figure)
    with atomic(path) as scratch:  # `figure.savefig` would draw it twice, the first time only for its layout
        FigureCanvasAgg(figure).print_png(scratch, metadata={"Software": None})  # no version: equal bytes on a rerun
