"""The model card's part on intervals: who is held, how wide they are, and what the newest rows looked like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from refit.reports.svg_charts import Plane, roomy

Report = Mapping[str, Any]


def drawn(found: Report | None) -> dict[str, Markup]:
    """Charts by name; none where there are no intervals."""
    if not found:
        return {}
    charts = {"stretch": stretch(found["stretch"])}
    if groups := found["groups"]:
        charts["coverage"] = by_group(groups, "coverage", found["within"], "share within", found["level"])
        charts["width"] = by_group(groups, "width", found["within"], "mean width")
    return charts


def stretch(rows: Sequence[Report]) -> Markup:
    """Each row's interval as an upright line, with what was predicted and what came."""
    y_range = roomy([row[name] for row in rows for name in ("low", "high", "label")])
    plane = Plane((0, max(len(rows) - 1, 1)), y_range, width=760, height=260)
    step = max(1, len(rows) // 6)
    marks = {float(place): rows[place]["time"][5:10] for place in range(0, len(rows), step)}
    spans = [plane.line([(place, row["low"]), (place, row["high"])], "thin") for place, row in enumerate(rows)]
    came = [(place, row["label"]) for place, row in enumerate(rows)]
    outside = [(place, row["label"]) for place, row in enumerate(rows) if not row["low"] <= row["label"] <= row["high"]]
    dots = [plane.dots(came, "candidate", 1.8), plane.dots(outside, "bad", 3)]
    return plane.svg(
        "intervals of the newest test rows", plane.axes("test rows, newest last", "", marks), *spans, *dots
    )


def by_group(groups: Sequence[Report], what: str, within: str, label: str, mark: float | None = None) -> Markup:
    """A value of each group with its interval, in the groups' order."""
    known = [end for each in groups for end in each[what].values() if end is not None]
    y_range = roomy([*known, *([] if mark is None else [mark])])
    plane = Plane((-0.5, len(groups) - 0.5), y_range, height=330)
    step = max(1, len(groups) // 8)
    marks = {float(place): groups[place]["value"] for place in range(0, len(groups), step)}
    parts = [] if mark is None else [plane.line([(plane.x_range[0], mark), (plane.x_range[1], mark)], "chance")]
    parts += [
        plane.line([(place, each[what]["lower"]), (place, each[what]["upper"])], "thin")
        for place, each in enumerate(groups)
        if each[what]["lower"] is not None
    ]
    points = [(float(place), each[what]["value"]) for place, each in enumerate(groups)]
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
