"""The model card's section on intervals: coverage, width, and the newest rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from refit.reports.svg_charts import Plane, roomy

Report = Mapping[str, Any]


def drawn(intervals: Report | None) -> dict[str, Markup]:
    """Charts by name; empty if there are no intervals."""
    if not intervals:
        return {}
    charts = {"stretch": stretch(intervals["stretch"])}
    if groups := intervals["groups"]:
        charts["coverage"] = by_group(groups, "coverage", intervals["within"], "share within", intervals["level"])
        charts["width"] = by_group(groups, "width", intervals["within"], "mean width")
    return charts


def stretch(rows: Sequence[Report]) -> Markup:
    """The interval of each row as a vertical line, with the actual value."""
    y_range = roomy([row[name] for row in rows for name in ("low", "high", "label")])
    plane = Plane((0, max(len(rows) - 1, 1)), y_range, width=760, height=260)
    step = max(1, len(rows) // 6)
    marks = {float(index): rows[index]["time"][5:10] for index in range(0, len(rows), step)}
    spans = [plane.line([(index, row["low"]), (index, row["high"])], "thin") for index, row in enumerate(rows)]
    came = [(index, row["label"]) for index, row in enumerate(rows)]
    outside = [(index, row["label"]) for index, row in enumerate(rows) if not row["low"] <= row["label"] <= row["high"]]
    dots = [plane.dots(came, "candidate", 1.8), plane.dots(outside, "bad", 3)]
    return plane.svg(
        "intervals of the newest test rows", plane.axes("test rows, newest last", "", marks), *spans, *dots
    )


def by_group(groups: Sequence[Report], what: str, within: str, label: str, mark: float | None = None) -> Markup:
    """A value of each group with its interval, in the order of the groups."""
    ends = [end for each in groups for end in each[what].values() if end is not None]
    y_range = roomy([*ends, *([] if mark is None else [mark])])
    plane = Plane((-0.5, len(groups) - 0.5), y_range, height=330)
    step = max(1, len(groups) // 8)
    marks = {float(index): groups[index]["value"] for index in range(0, len(groups), step)}
    parts = [] if mark is None else [plane.line([(plane.x_range[0], mark), (plane.x_range[1], mark)], "chance")]
    parts += [
        plane.line([(index, each[what]["lower"]), (index, each[what]["upper"])], "thin")
        for index, each in enumerate(groups)
        if each[what]["lower"] is not None
    ]
    points = [(float(index), each[what]["value"]) for index, each in enumerate(groups)]
    return plane.svg(f"{label} by {within}", plane.axes(within, label, marks), *parts, plane.dots(points, "candidate"))


SECTION = """{% if evaluation.intervals %}<section id="intervals">
<h2>How sure is it?</h2>
<p class="lede">An interval is to hold {{ "%.4g" | format(100 * evaluation.intervals.level) }} % of the labels. Of two
that do, the narrower is better; the Winkler score puts both into one number:
{{ evaluation.intervals.winkler.value | fixed(3) }}.</p>
<figure class="wide">{{ charts.stretch }}<figcaption>The newest test rows: interval, and what came; large dots lie
outside</figcaption></figure>
{% if evaluation.intervals.groups %}<div class="pair">
<figure>{{ charts.coverage }}<figcaption>Share of labels within; dotted: what was asked for</figcaption></figure>
<figure>{{ charts.width }}<figcaption>Mean width</figcaption></figure>
</div>
{% endif %}</section>
{% endif %}"""
