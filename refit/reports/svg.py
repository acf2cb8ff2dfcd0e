"""Turns a figure into SVG that is the same in a page and as a file: small, light and dark, with a text alternative.

matplotlib draws with the colours of the light theme. Here each becomes a CSS variable, which a page defines for light,
dark and print, and a file defines for itself. A chart has no link to a file, no script, no font and no date, and equal
figures have equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from xml.etree import ElementTree

from refit.plain_text import visible
from refit.reports.hover import TIP, hover_points, name_bars
from refit.reports.palette import DARK, LIGHT, variables

__all__ = ["make_visible", "standalone", "to_svg"]

Element = ElementTree.Element

PIXELS = 4 / 3  # of a point
NARROWEST = 0.65  # of the full width, where a page is narrow
REACH = "5"  # points around a value from which its tooltip appears

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_PIXELS = "data:image/png;base64,"  # an image within the chart
_NUMBER = re.compile(r"-?\d+\.\d+")
_POINT = re.compile(r"M([-\d.]+ [-\d.]+)L\1(?![-\d.])")
_VARIABLES = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
_COLOUR = re.compile("|".join(_VARIABLES))
_FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif'
_DEFAULTS = {"stroke-linejoin: miter", "stroke-linejoin: round", "stroke-linecap: butt", "font-family: 'DejaVu Sans'"}


def to_svg(figure: Any, name: str, description: str) -> str:
    """Return a figure as SVG for a page that defines the colours; its title is that of the figure.

    Args:
        figure: a matplotlib figure; characters that cannot be seen are escaped in all its texts.
        name: prefix of the ids, unique in a page.
        description: what the chart shows, for those who do not see it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    name_bars(figure)
    make_visible(figure)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts show it
        FigureCanvasSVG(figure).print_svg(buffer)  # `savefig` draws twice, the first time only for the layout
    drawing = ElementTree.fromstring(buffer.getvalue())
    width, height = (float(size) for size in drawing.attrib["viewBox"].split()[2:])
    attributes = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": f"{width * PIXELS:.0f}",
        "height": f"{height * PIXELS:.0f}",
        "style": f"min-width:{width * PIXELS * NARROWEST:.0f}px",
        "stroke-linejoin": "round",
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
    }
    svg = ElementTree.Element("svg", attributes)
    for part, text in (("title", figure.get_suptitle()), ("desc", visible(description))):
        if text:
            ElementTree.SubElement(svg, part, {"id": f"{name}-{part}"}).text = text
    ids: dict[str, str] = {}  # below, lists: of a generator that fails, `extend` hides the error
    for group in drawing.iter(f"{_SVG}g"):
        svg.extend(list(_parts(group, partial(_renamed, ids, name))))
        break  # the first group is the whole figure; the date and definitions of clip paths are next to it
    svg.extend(list(_tooltips(figure)))
    return ElementTree.tostring(svg, encoding="unicode")


def _tooltips(figure: Any) -> Iterator[Element]:
    """Circles that cannot be seen, each with the value below it as a title."""
    if points := list(hover_points(figure)):
        group = ElementTree.Element("g", {"fill": "none", "pointer-events": "all"})
        for each in points:
            at = {"cx": _short(f"{each.x:.2f}"), "cy": _short(f"{each.y:.2f}"), "r": REACH}
            ElementTree.SubElement(ElementTree.SubElement(group, "circle", at), "title").text = each.text
        yield group


def standalone(svg: str) -> str:
    """Return the chart of a page as the content of a file, which defines the colours for light and dark itself."""
    style = (
        f"svg{{font-family:{_FONT};{variables(LIGHT)}}}@media(prefers-color-scheme:dark){{svg{{{variables(DARK)}}}}}"
    )
    head, body = str(svg).split(">", 1)  # not Markup, which would escape what is inserted
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{head}><style>{style}</style>{body}\n"


def _parts(element: Element, renamed: Callable[[str], str]) -> Iterator[Element]:
    """An element without what is not needed, or its children where a group holds nothing else."""
    tag, name = element.tag.removeprefix(_SVG), element.attrib.pop("id", "")
    children = [part for child in element for part in _parts(child, renamed)]
    styles = {child.get("style", "") for child in children}
    shared = styles.pop() if len(styles) == 1 else ""
    if not children and tag in ("defs", "g"):
        return
    small = ElementTree.Element(tag, dict(_attributes(element, name if tag == "path" else "", renamed)))
    if tag == "g" and not name.startswith(TIP) and not small.attrib and (len(children) < 2 or not shared):
        yield from children
        return
    if tag == "g" and shared:
        small.attrib["style"] = shared
        for child in children:
            del child.attrib["style"]
    if name.startswith(TIP):
        ElementTree.SubElement(small, "title").text = name.removeprefix(TIP)
    small.text = (element.text or "").strip() or None
    small.extend(children)
    yield small


def _attributes(element: Element, name: str, renamed: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    if name:
        yield "id", renamed(name)  # of a marker, which `use` refers to
    for key, value in element.attrib.items():
        if key == _LINK and value.startswith(_PIXELS):
            yield "href", value
        elif key == _LINK:
            yield "href", f"#{renamed(value.removeprefix('#'))}"
        elif key == "style":
            yield "style", _style(value)
        elif key == "d":
            yield "d", _path(value)
        elif key != "clip-path" and not value.startswith("rotate(-0 "):  # all charts have room for all that they show
            yield key, _short(value)


def _style(value: str) -> str:
    parts = (part.replace(": ", ":") for part in value.split("; ") if part not in _DEFAULTS)
    return _COLOUR.sub(lambda match: _VARIABLES[match[0]], ";".join(parts))


def _path(value: str) -> str:
    compact = re.sub(r"\s*([MLCQz])\s*", r"\1", _short(value))
    return _POINT.sub(r"M\1h0", compact).replace("\n", " ")


def _short(value: str) -> str:
    """Numbers with one decimal, a seventh of a pixel."""
    return _NUMBER.sub(lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), value)


def _renamed(names: dict[str, str], prefix: str, old: str) -> str:
    return names.setdefault(old, f"{prefix}-{len(names) + 1}")


def make_visible(figure: Any) -> None:
    """Escape control and format characters in all texts of a figure: matplotlib's warnings would print them.

    The texts of ticks are set when they are drawn, by the formatter of their axis.
    """
    from matplotlib.artist import Artist
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    for artist in figure.findobj(Artist):
        if isinstance(artist, Text):
            artist.set_text(visible(artist.get_text()))
        if gid := artist.get_gid():
            artist.set_gid(visible(gid))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(formatter := axis.get_major_formatter(), FuncFormatter):
            formatter.func = partial(_visible_label, formatter.func)


def _visible_label(label: Callable[..., str], value: float, position: int) -> str:
    return visible(label(value, position))
