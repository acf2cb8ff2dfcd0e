"""What a chart says where a reader points at it: the values of its lines, dots, bars and histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from refit.plain_text import visible

TIP = "tip:"  # the id of an artist that has a tooltip begins with this, and its text follows
MOST_OF_A_LINE = 24  # points of a line with a tooltip, at equal distances in its list
MOST_DOTS = 60  # a cloud of more dots has none

Point = tuple[float, float]


@dataclass(frozen=True)
class HoverPoint:
    """A point of a drawing with the text that appears there; in points of 1/72 inch from the top left."""

    x: float
    y: float
    text: str


def name_bars(figure: Any) -> None:
    """Give every bar that has no tooltip one with its name and its length. Call it before the figure is drawn."""
    for axes in figure.axes:
        for bars in axes.containers:
            for bar in bars:
                if not bar.get_gid():
                    row, length = bar.get_y() + bar.get_height() / 2, bar.get_x() + bar.get_width()
                    bar.set_gid(f"{TIP}{_name(axes.yaxis, row) or _number(row)}: {_number(length)}")


def hover_points(figure: Any) -> Iterator[HoverPoint]:
    """The values of lines, of dots and of histograms. Call it once the figure was drawn, with the size of its canvas.

    A point is left out where an artist has a tooltip of its own, and so are dotted lines, which mark chance or what is
    usual.
    """
    scale, height = 72 / figure.dpi, 72 * figure.get_figheight()
    for axes in (each for each in figure.axes if each.axison):
        tipped = [line for line in axes.lines if str(line.get_gid() or "").startswith(TIP)]
        seen = {_rounded(point) for line in tipped for point in zip(*line.get_data(orig=False), strict=True)}
        for label, points in (*_lines(axes), *_dots(axes)):
            for point in points:
                if _rounded(point) in seen or not all(map(math.isfinite, point)):
                    continue
                seen.add(_rounded(point))
                x, y = (float(each) * scale for each in axes.transData.transform(point))
                yield HoverPoint(x, height - y, visible(_text(axes, label, point)))
        for step in axes.patches:
            if hasattr(step, "get_data") and (label := _label(step)):
                values, edges, _ = step.get_data()
                for value, low, high in zip(values, edges[:-1], edges[1:], strict=True):
                    x, y = (float(each) * scale for each in axes.transData.transform(((low + high) / 2, value)))
                    yield HoverPoint(
                        x, height - y, visible(f"{label}, {_number(low)} to {_number(high)}: {_number(value)}")
                    )


def _lines(axes: Any) -> Iterator[tuple[str, list[Point]]]:
    for line in axes.lines:
        if line.get_gid() or line.get_linestyle() == ":" or line.get_transform() != axes.transData:
            continue
        x, y = line.get_data(orig=False)  # times as numbers, too
        if len(x):
            step = max(1, math.ceil(len(x) / MOST_OF_A_LINE))
            yield _label(line), [(float(a), float(b)) for a, b in zip(x[::step], y[::step], strict=True)]


def _dots(axes: Any) -> Iterator[tuple[str, list[Point]]]:
    """Dots, which are drawn as one path of lines without a length."""
    from matplotlib.patches import PathPatch

    for patch in axes.patches:
        of_histogram = hasattr(patch, "get_data")
        if isinstance(patch, PathPatch) and not patch.get_fill() and not patch.get_gid() and not of_histogram:
            vertices: Any = patch.get_path().vertices
            points = vertices[::2]
            if len(points) <= MOST_DOTS:
                yield _label(patch), [(float(x), float(y)) for x, y in points]


def _text(axes: Any, label: str, point: Point) -> str:
    """A value in words: `candidate, recall 0.5: precision 0.25`, or with the name of a row or a day."""
    x, y = point
    if row := _name(axes.yaxis, y):
        return _joined([label, row], _number(x))
    if moment := _moment(axes.xaxis, x):
        return _joined([label, moment], _number(y))
    if named := _name(axes.xaxis, x):
        return _joined([label, named], _number(y))
    return _joined([label, f"{axes.get_xlabel()} {_number(x)}"], f"{axes.get_ylabel()} {_number(y)}")


def _joined(names: Sequence[str], value: str) -> str:
    return f"{', '.join(each.strip() for each in names if each.strip())}: {value.strip()}"


def _name(axis: Any, value: float) -> str:
    """The name of a place on an axis of names; empty on an axis of numbers, and between two names."""
    from matplotlib.ticker import FixedLocator

    locator = axis.get_major_locator()
    points = getattr(locator, "locs", ()) if isinstance(locator, FixedLocator) else ()
    return next((str(axis.get_major_formatter()(each, None)) for each in points if abs(each - value) < 1e-6), "")


def _moment(axis: Any, value: float) -> str:
    """The day and minute of a value on an axis of times; empty on others."""
    from matplotlib.dates import AutoDateFormatter, num2date

    return f"{num2date(value):%Y-%m-%d %H:%M}" if isinstance(axis.get_major_formatter(), AutoDateFormatter) else ""


def _label(artist: Any) -> str:
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else label


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _rounded(point: Point) -> tuple[float, float]:
    return round(float(point[0]), 6), round(float(point[1]), 6)
