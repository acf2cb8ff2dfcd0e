"""Charts of the model card on how predictions depend on features."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from refit.reports.model_card.card_charts import bar
from refit.reports.model_card.explanation_lines import drawn_classes, lines_of, span_of, unit_of
from refit.reports.model_card.explanation_plots import ORDER, PREDICTED, short_name, stacked, swarm_span
from refit.reports.svg_charts import Plane, number, short, ticks

Report = dict[str, Any]
ROW = 19  # height of a category's line
MOST_BARS = 12
HOW = {
    "trees": "exactly, from its trees",
    "boosting library": "exactly, by its own library",
    "linear": "exactly, from its coefficients",
    "sampling": "by sampled orders of its features",
}


def shown(evaluation: Report) -> Report:
    """The values for the page's section on explanations."""
    explained = evaluation["explained"]
    features = explained["partial_dependence"]
    span = span_of(explained) if features else (0.0, 1.0)
    names = [explained["classes"][index] for index in drawn_classes(explained)]
    return {
        "rows": explained["rows"],
        "shap": _shap(explained["shap"]) if explained["shap"] else None,
        "predicted": PREDICTED.get(evaluation["task"], "mean prediction"),
        "classes": list(zip(ORDER, names, strict=False)),
        "more_classes": len(explained["classes"]) - len(names),
        "partial": [
            {"name": feature["name"], "chart": _partial(feature, lines_of(explained, feature), span)}
            for feature in features
        ],
    }


def _shap(values: Report) -> Report:
    """The largest features, as swarms of single contributions if available, otherwise as bars of their mean size."""
    most = max((each["value"] for each in values["features"]), default=0.0)
    swarms = {each["name"]: _swarm(each, swarm_span(values)) for each in values["points"]}
    largest = values["features"][: len(swarms) or MOST_BARS]
    return {
        "rows": values["rows"],
        "unit": unit_of(values),
        "how": HOW[values["method"]],
        "scale": _scale(swarm_span(values)) if swarms else None,
        "largest": [
            {**each, "chart": swarms.get(each["name"]) or bar({**each, "lower": None}, 0.0, max(most, 1e-12))}
            for each in largest
        ],
    }


def _swarm_plane(span: tuple[float, float], height: float) -> Plane:
    return Plane(span, (-0.5, 0.5), width=460, height=height, left=6, right=6, top=4, bottom=4)


def _scale(span: tuple[float, float]) -> Markup:
    """The numbers below the swarms."""
    plane = _swarm_plane(span, 16)
    marks = (
        Markup('<text class="tick mid" x="{}" y="11">{}</text>').format(
            short(plane.x(tick)), "0" if not tick else f"{tick:+.4g}"
        )
        for tick in ticks(*span, wanted=9)
    )
    return plane.svg("scale", *marks)


def _swarm(each: Report, span: tuple[float, float]) -> Markup:
    """A dot for each row; one path of many dots is a fifth of the size of as many circles."""
    plane = _swarm_plane(span, 34)
    parts = [Markup('<path class="zero" d="M{} 0v34"/>').format(short(plane.x(0)))]
    heights = stacked(each["values"], *span)
    groups: dict[str, list[str]] = {"none": [], "middle": [], "low": [], "high": []}
    for value, level, height in zip(each["values"], each["levels"], heights, strict=True):
        kind = "none" if level is None else "low" if level < 1 / 3 else "high" if level > 2 / 3 else "middle"
        groups[kind].append(f"M{short(plane.x(value))} {short(plane.y(height))}h0")
    for kind, dots in groups.items():
        if dots:
            parts.append(Markup('<path class="swarm {}" d="{}"/>').format(kind, "".join(dots)))
    return plane.svg(f"what {each['name']} adds to each prediction", *parts)


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
    """Categories one below another, most frequent first."""
    plane = Plane(span, (0, 1), width=300, height=24 + max(ROW * len(values), 120), left=112, top=4, bottom=24)
    step = (plane.height - plane.top - plane.bottom) / len(values)
    middle = [plane.top + step * (index + 0.5) for index in range(len(values))]
    parts = []
    for tick in ticks(*span, wanted=4):
        at = short(plane.x(tick))
        parts.append(
            Markup('<path class="grid" d="M{} {}V{}"/><text class="tick mid" x="{}" y="{}">{}</text>').format(
                at, plane.top, short(plane.height - plane.bottom), at, short(plane.height - 9), number(tick)
            )
        )
    for index, value in enumerate(values):
        parts.append(
            Markup('<text class="label end" x="{}" y="{}" dy="3.5">{}</text>').format(
                short(plane.left - 8), short(middle[index]), short_name(value)
            )
        )
        for kind, line in reversed(list(zip(ORDER, lines, strict=False))):
            parts.append(
                Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"/>').format(
                    kind, short(plane.x(line[index])), short(middle[index])
                )
            )
    return plane.svg(title, *parts)
