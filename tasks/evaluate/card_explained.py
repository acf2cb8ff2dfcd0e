"""The model card's pictures of how predictions follow features."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from tasks.evaluate.explained import drawn_classes, lines_of, span_of
from tasks.evaluate.explained_plots import ORDER, PREDICTED, short_name
from tasks.pages.charts import Plane, number, short, ticks

Report = dict[str, Any]
ROW = 19  # height of a category's line


def shown(evaluation: Report) -> Report:
    """What the page's section tells of them."""
    explained = evaluation["explained"]
    features = explained["partial_dependence"]
    span = span_of(explained) if features else (0.0, 1.0)
    names = [explained["classes"][place] for place in drawn_classes(explained)]
    return {
        "rows": explained["rows"],
        "predicted": PREDICTED[evaluation["task"]],
        "classes": list(zip(ORDER, names, strict=False)),
        "more_classes": len(explained["classes"]) - len(names),
        "partial": [
            {"name": feature["name"], "chart": _partial(feature, lines_of(explained, feature), span)}
            for feature in features
        ],
    }


def _partial(feature: Report, lines: list[tuple[str, list[float]]], span: tuple[float, float]) -> Markup:
    draw = _by_number if feature["kind"] == "number" else _by_category
    return draw(feature["values"], [line for _, line in lines], span, f"mean prediction for each {feature['name']}")


def _by_number(values: list[float], lines: list[list[float]], span: tuple[float, float], title: str) -> Markup:
    plane = Plane((values[0], values[-1]), span, width=300, height=190, left=46, bottom=24)
    parts = []
    for kind, line in zip(ORDER, lines, strict=False):
        points = list(zip(values, line, strict=True))
        parts += [plane.line(points, kind), plane.dots(points, kind, 2.2)]
    marks = {tick: number(tick) for tick in ticks(*plane.x_range, wanted=4)}
    return plane.svg(title, plane.axes("", "", marks), *parts)


def _by_category(values: list[str], lines: list[list[float]], span: tuple[float, float], title: str) -> Markup:
    """Categories one below another, the most frequent first."""
    plane = Plane(span, (0, 1), width=300, height=24 + max(ROW * len(values), 120), left=112, top=4, bottom=24)
    step = (plane.height - plane.top - plane.bottom) / len(values)
    middle = [plane.top + step * (place + 0.5) for place in range(len(values))]
    parts = []
    for tick in ticks(*span, wanted=4):
        at = short(plane.x(tick))
        parts.append(
            Markup('<path class="grid" d="M{} {}V{}"/><text class="tick mid" x="{}" y="{}">{}</text>').format(
                at, plane.top, short(plane.height - plane.bottom), at, short(plane.height - 9), number(tick)
            )
        )
    for place, value in enumerate(values):
        parts.append(
            Markup('<text class="label end" x="{}" y="{}" dy="3.5">{}</text>').format(
                short(plane.left - 8), short(middle[place]), short_name(value)
            )
        )
        for kind, line in reversed(list(zip(ORDER, lines, strict=False))):
            parts.append(
                Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"/>').format(
                    kind, short(plane.x(line[place])), short(middle[place])
                )
            )
    return plane.svg(title, *parts)
