"""Charts of the model card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from refit.reports.svg_charts import Plane, Points, number, roomy, short, ticks, within


def gain_line(each: Mapping[str, Any]) -> Markup:
    """One comparison of the gate on a number line: the interval and the margin for its lower end."""
    lower, upper, margin = each["lower"], each["upper"], each["must_exceed"]
    ends = (0.0, margin, lower, upper)
    room = 0.16 * max(max(ends) - min(ends), 1e-6)
    plane = Plane(
        (min(ends) - room, max(ends) + room), (0, 1), width=720, height=92, left=8, right=8, top=26, bottom=24
    )
    kind = "good" if each["passed"] else "bad"
    at, floor, middle = plane.x(margin), plane.height - plane.bottom, 46
    parts = [
        Markup('<rect class="forbidden" x="{}" y="22" width="{}" height="{}"/>').format(
            short(plane.left), short(max(at - plane.left, 0)), short(floor - 22)
        ),
        Markup('<path class="axis" d="M{} {}H{}"/>').format(
            short(plane.left), short(floor), short(plane.width - plane.right)
        ),
        Markup('<path class="zero" d="M{} 22V{}"/>').format(short(plane.x(0)), short(floor)),
        Markup('<path class="margin" d="M{} 18V{}"/>').format(short(at), short(floor)),
        Markup('<text class="tick {}" x="{}" y="12">has to exceed {}</text>').format(
            "end" if at > plane.width / 2 else "start", short(at), f"{margin:+z.4f}"
        ),
        Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="10" rx="5"/>').format(
            kind, short(plane.x(lower)), middle - 5, short(max(plane.x(upper) - plane.x(lower), 1))
        ),
        Markup('<path class="stop {}" d="M{} {}v24"/>').format(kind, short(plane.x(lower)), middle - 12),
        Markup('<circle class="dot {}" cx="{}" cy="{}" r="6"/>').format(kind, short(plane.x(each["estimate"])), middle),
    ]
    for tick in ticks(*plane.x_range, wanted=8):
        parts.append(
            Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(
                short(plane.x(tick)), short(plane.height - 8), "0" if not tick else f"{tick:+.4g}"
            )
        )
    return plane.svg(f"gain against the {each['against']} with its bounds, and the margin", *parts)


def margin_line(each: Mapping[str, Any], low: float, high: float) -> Markup:
    """The same for a table cell, on a scale shared by all rows."""
    plane = Plane((low, high), (0, 1), width=220, height=18, left=4, right=4, top=0, bottom=0)
    kind = "good" if each["passed"] else "bad"
    lower, at, zero = (short(plane.x(value)) for value in (each["lower"], each["must_exceed"], 0))
    return plane.svg(
        f"gain where {each['against']} with its bounds, and the margin",
        Markup('<path class="zero" d="M{} 1v16"/>').format(zero),
        Markup('<path class="margin" d="M{} 1v16"/>').format(at),
        Markup('<rect class="bar {}" x="{}" y="6" width="{}" height="6" rx="3"/>').format(
            kind, lower, short(max(plane.x(each["upper"]) - plane.x(each["lower"]), 1))
        ),
        Markup('<path class="stop {}" d="M{} 3v12"/>').format(kind, lower),
        Markup('<circle class="dot {}" cx="{}" cy="9" r="4"/>').format(kind, short(plane.x(each["estimate"]))),
    )


def interval_line(entry: Mapping[str, Any] | None, low: float, high: float, mark: float) -> Markup:
    """A value with its interval on a shared scale, for a table cell; `mark` is the value to compare with."""
    plane = Plane((low, high), (0, 1), width=220, height=18, left=4, right=4, top=0, bottom=0)
    parts = [Markup('<path class="zero" d="M{} 1v16"/>').format(short(plane.x(mark)))]
    if entry and entry["value"] is not None:
        if entry["lower"] is not None:
            span = (short(plane.x(within(entry[end], low, high))) for end in ("lower", "upper"))
            parts.append(Markup('<path class="whisker" d="M{} 9H{}"/>').format(*span))
        at = within(entry["value"], low, high)
        parts.append(Markup('<circle class="dot candidate" cx="{}" cy="9" r="4"/>').format(short(plane.x(at))))
    return plane.svg("value with interval", *parts)


def bar(entry: Mapping[str, Any], low: float, high: float) -> Markup:
    """A loss as a bar from zero with its interval, for a cell of a table."""
    plane = Plane((low, high), (0, 1), width=220, height=14, left=2, right=2, top=0, bottom=0)
    zero, at = plane.x(0), plane.x(within(entry["value"] or 0.0, low, high))
    parts = [
        Markup('<rect class="bar candidate" x="{}" y="2" width="{}" height="10" rx="1.5"/>').format(
            short(min(zero, at)), short(max(abs(at - zero), 0.8))
        )
    ]
    if entry["lower"] is not None:
        span = (short(plane.x(within(entry[end], low, high))) for end in ("lower", "upper"))
        parts.append(Markup('<path class="whisker thin" d="M{} 7H{}"/>').format(*span))
    return plane.svg("loss when shuffled", *parts)


def roc(curves: Mapping[str, Points]) -> Markup:
    plane = Plane((0, 1), (0, 1), height=330)
    lines = [plane.line(points, name) for name, points in reversed(list(curves.items()))]
    chance = plane.line([(0, 0), (1, 1)], "chance")
    axes = plane.axes("false positive rate", "true positive rate")
    return plane.svg("ROC curve", axes, chance, *lines)


def precision_recall(curves: Mapping[str, Points], rate: float) -> Markup:
    plane = Plane((0, 1), (0, 1), height=330)
    lines = [plane.line(points, name) for name, points in reversed(list(curves.items()))]
    chance = plane.line([(0, rate), (1, rate)], "chance")
    return plane.svg("precision at each recall", plane.axes("recall", "precision"), chance, *lines)


def reliability(bins: Sequence[Mapping[str, Any]]) -> Markup:
    tops = [b["observed"]["upper"] or b["observed"]["value"] for b in bins] + [b["predicted"] for b in bins]
    top = min(1.0, 1.08 * max(tops))
    plane = Plane((0, top), (0, top), height=330)
    points = [(b["predicted"], b["observed"]["value"]) for b in bins]
    whiskers = [
        plane.line([(b["predicted"], b["observed"]["lower"]), (b["predicted"], b["observed"]["upper"])], "thin")
        for b in bins
        if b["observed"]["lower"] is not None
    ]
    parts = [plane.line([(0, 0), (top, top)], "chance"), *whiskers, plane.line(points, "candidate")]
    axes = plane.axes("mean prediction", "observed rate")
    return plane.svg("observed rate for each prediction", axes, *parts, plane.dots(points, "candidate"))


def histogram(scores: Mapping[str, Sequence[float]], threshold: float) -> Markup:
    edges = scores["edges"]
    shares = {name: [count / max(sum(scores[name]), 1) for count in scores[name]] for name in ("negative", "positive")}
    filled = [index for index in range(len(edges) - 1) if scores["negative"][index] or scores["positive"][index]]
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    plane = Plane((low, high), (0, 1.05 * max(map(max, shares.values()))), height=330)
    areas = []
    for name, values in shares.items():
        path = f"M{short(plane.x(low))} {short(plane.y(0))}"
        for index in range(filled[0], filled[-1] + 1):
            path += (
                f"L{short(plane.x(edges[index]))} {short(plane.y(values[index]))}H{short(plane.x(edges[index + 1]))}"
            )
        path += f"V{short(plane.y(0))}Z"
        areas.append(Markup('<path class="area {}" d="{}"/>').format(name, path))
    mark = plane.line([(threshold, plane.y_range[0]), (threshold, plane.y_range[1])], "chance")
    within = [mark] if low <= threshold <= high else []
    axes = plane.axes("predicted probability", "share of the class")
    return plane.svg("predictions given to each class", axes, *areas, *within)


def daily(days: Sequence[Mapping[str, Any]], models: Iterable[str], label: str) -> Markup:
    models = list(models)
    values = [day[name] for day in days for name in models if day[name] is not None]
    if not values:
        return Markup("")
    low, high = roomy(values)
    plane = Plane((0, max(len(days) - 1, 1)), (low, high), width=760, height=240)
    step = max(1, math.ceil(len(days) / 10))
    marks = {float(index): str(days[index]["day"])[5:] for index in range(0, len(days), step)}
    parts = []
    for name in models:
        points = [(float(index), math.nan if day[name] is None else day[name]) for index, day in enumerate(days)]
        parts += [plane.line(points, name), plane.dots(points, name, 2.5)]
    return plane.svg("metric for each day", plane.axes("day of the test window", label, marks), *parts)


def learning(points: Sequence[Mapping[str, Any]], x: str, x_label: str, chosen: float | None = None) -> Markup:
    low, high = roomy([point[part] for point in points for part in ("training", "validation")])
    plane = Plane((points[0][x], points[-1][x]), (low, high), width=330, height=220)
    parts = []
    for part in ("training", "validation"):
        line = [(point[x], point[part]) for point in points]
        parts.append(plane.line(line, part))
        if len(points) < 12:
            parts.append(plane.dots(line, part, 2.5))
    if chosen is not None:
        parts.append(plane.line([(chosen, low), (chosen, high)], "chance"))
    marks = {tick: number(tick) for tick in ticks(*plane.x_range, wanted=4)}
    return plane.svg("learning curve", plane.axes(x_label, "", marks), *parts)


def scatter(points: Points, x_label: str, y_label: str) -> Markup:
    """Points, and the diagonal."""
    ends = roomy([value for point in points for value in point])
    plane = Plane(ends, ends, height=330)
    parts = [plane.line([(ends[0], ends[0]), (ends[1], ends[1])], "chance"), plane.dots(points, "candidate", 1.6)]
    return plane.svg(f"{y_label} against {x_label}", plane.axes(x_label, y_label), *parts)


def counts(binned: Mapping[str, Any], label: str) -> Markup:
    """Histogram of the rows in each bin."""
    edges, rows = binned["edges"], binned["rows"]
    plane = Plane((edges[0], edges[-1]), (0, 1.05 * max(rows)), height=330)
    path = f"M{short(plane.x(edges[0]))} {short(plane.y(0))}"
    for index, count in enumerate(rows):
        path += f"L{short(plane.x(edges[index]))} {short(plane.y(count))}H{short(plane.x(edges[index + 1]))}"
    area = Markup('<path class="area positive" d="{}"/>').format(f"{path}V{short(plane.y(0))}Z")
    zero = plane.line([(0, 0), (0, plane.y_range[1])], "chance") if edges[0] <= 0 <= edges[-1] else Markup("")
    return plane.svg(f"rows by {label}", plane.axes(label, "test rows"), area, zero)


def whiskers(
    bins: Sequence[Mapping[str, Any]], what: str, x_label: str, y_label: str, *, diagonal: bool = False
) -> Markup:
    """A value of each bin with its interval, over the bin's mean prediction."""
    points = [(b["predicted"], b[what]["value"]) for b in bins]
    ends = [b[what][end] for b in bins for end in ("value", "lower", "upper") if b[what][end] is not None]
    x_range, y_range = roomy([x for x, _ in points]), roomy(ends)
    if diagonal:
        x_range = y_range = (min(x_range[0], y_range[0]), max(x_range[1], y_range[1]))
    plane = Plane(x_range, y_range, height=330)
    parts = [plane.line([(x_range[0], x_range[0]), (x_range[1], x_range[1])], "chance")] if diagonal else []
    parts += [
        plane.line([(b["predicted"], b[what]["lower"]), (b["predicted"], b[what]["upper"])], "thin")
        for b in bins
        if b[what]["lower"] is not None
    ]
    parts += [plane.line(points, "candidate"), plane.dots(points, "candidate")]
    return plane.svg(f"{y_label} by {x_label}", plane.axes(x_label, y_label), *parts)
