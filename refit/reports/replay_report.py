"""Writes the report of a replay: scores over time by policy, costs, and the reasons for each training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from refit.files import artifacts
from refit.problems import metric_named
from refit.reports import html_theme
from refit.reports.svg_charts import Plane, roomy, short
from refit.schemas.replay_result import PolicyResult, ReplayResult, WindowResult

REPORT = "report.html"
RESULT = "replay.json"
COLOURS = 6  # of lines that can be distinguished

STYLE = """
:root { --p0: #8a94a0; --p1: #bf6b1e; --p2: #7a5ea8; --p3: #0f6e84; --p4: #23744a; --p5: #a83a28; }
@media (prefers-color-scheme: dark) {
  :root { --p0: #76818d; --p1: #e39a55; --p2: #ab92d6; --p3: #4bb6cd; --p4: #5fc08a; --p5: #ea8572; }
}
.line.p0 { stroke: var(--p0); stroke-width: 8; }
.line.p1 { stroke: var(--p1); stroke-width: 6.5; }
.line.p2 { stroke: var(--p2); stroke-width: 5; }
.line.p3 { stroke: var(--p3); stroke-width: 3.5; }
.line.p4 { stroke: var(--p4); stroke-width: 2; }
.line.p5 { stroke: var(--p5); stroke-width: 1.4; }
.dot.p0 { fill: var(--p0); } .dot.p1 { fill: var(--p1); } .dot.p2 { fill: var(--p2); }
.dot.p3 { fill: var(--p3); } .dot.p4 { fill: var(--p4); } .dot.p5 { fill: var(--p5); }
.policy { white-space: pre-line; }
.refused { fill: var(--paper); stroke: var(--ink); stroke-width: 1.2; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ result.model }}: replay</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<p>Replay of retraining policies</p>
<h1>{{ result.model }}</h1>
<p>{{ result.start }} to {{ result.end }}, every {{ result.every }}</p>
</header>
<div class="verdict good"><strong>{{ verdict }}</strong><p>{{ meaning }}</p></div>

<section id="windows">
<h2>{{ metric }} over time</h2>
<p class="lede">Each row is scored by the model in charge when it was predicted. A filled dot: a new model took charge
at the beginning of that window; a hollow one: one was trained and the gate refused it.</p>
<figure class="wide">{{ chart }}<figcaption>{% for name, colour in legend %}{{ swatch(colour, name) }}{% endfor %}
</figcaption></figure>
</section>

<section id="policies">
<h2>What each policy came to</h2>
<div class="scroll"><table>
<thead><tr><th>policy</th><th class="n">{{ metric }}</th><th class="n">behind the best</th>
<th class="n">retrainings</th>
<th class="n">promotions</th>
<th class="n">refusals</th><th class="n">training</th><th class="n">cost</th></tr></thead>
<tbody>
{% for name, each in result.policies.items() %}<tr{% if name == result.best %} class="chosen"{% endif %}>
<th scope="row" class="policy">{{ name | replace(":", "\\n:") }}</th><td class="n">{{ each.score | fixed }}</td>
<td class="n">{{ each.behind_best.value | fixed }}{% if each.behind_best.lower is not none %}
 <small>{{ each.behind_best.lower | fixed }} to {{ each.behind_best.upper | fixed }}</small>{% endif %}</td>
<td class="n">{{ each.retrainings }}</td><td class="n">{{ each.promotions }}</td><td class="n">{{ each.refusals }}</td>
<td class="n">{{ "%.0f" | format(each.train_seconds) }} s</td>
<td class="n">{{ "%g" | format(each.train_cost) }} {{ result.currency }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="quiet">Behind the best: on the same rows, with its {{ result.confidence | percent }} interval by days. An
interval that holds zero shows no difference.</p>
</section>

<section id="steps">
<h2>Why it trained, and what the gate said</h2>
{% for name, each in result.policies.items() %}<details><summary>{{ name }}</summary><div class="scroll"><table>
<thead><tr><th>as of (UTC)</th><th>decision</th><th>gate</th></tr></thead><tbody>
{% for step in each.steps %}<tr><th scope="row">{{ step.as_of | moment }}</th><td>{{ step.reasons | join("; ") }}</td>
<td>{% if step.learner %}{{ "took charge" if step.promoted else "refused" }}: {{ step.gate | join("; ") }}{% endif %}
</td></tr>
{% endfor %}</tbody></table></div></details>{% endfor %}
</section>
<footer>Written by <code>refit replay</code>; all numbers are in <code>replay.json</code> beside this page.</footer>
</main>
</body>
</html>
"""


def write(folder: Path, result: ReplayResult) -> Path:
    """Write the page and the numbers to a folder. Returns the path of the page."""
    result.write(folder / RESULT)
    with artifacts.atomic(folder / REPORT) as scratch:
        scratch.write_text(render(result), encoding="utf-8")
    return folder / REPORT


def render(result: ReplayResult) -> str:
    """Render the page, without scripts or external links, with every value escaped."""
    return html_theme.render(
        PAGE,
        style=STYLE,
        result=result,
        metric=metric_named(result.metric).words,
        verdict=_verdict(result),
        meaning=_meaning(result),
        chart=chart(result.policies, metric_named(result.metric).words),
        legend=[(name, f"p{index % COLOURS}") for index, name in enumerate(result.policies)],
    )


def _verdict(result: ReplayResult) -> str:
    within = "" if result.budget is None else f" with at most {result.budget} retrainings"
    if result.best is None:
        return f"No policy had a score{within}."
    best = result.policies[result.best]
    return f"{result.best} did best{within}: {best.score:.4f} with {best.retrainings} retrainings."


def _meaning(result: ReplayResult) -> str:
    """The policies with fewer retrainings that are not shown to be worse."""
    if result.best is None:
        return "Give a larger --budget, or more time."
    best = result.policies[result.best]
    not_worse = [
        f"{name} ({each.retrainings})"
        for name, each in result.policies.items()
        if each.retrainings < best.retrainings and each.behind_best.lower is not None and each.behind_best.lower <= 0
    ]
    if not best.retrainings:
        return ""
    if not not_worse:
        return "Every policy with fewer retrainings was worse by more than chance explains, or there is none."
    return f"With fewer retrainings, and not shown to be worse: {', '.join(not_worse)}."


def chart(policies: Mapping[str, PolicyResult], metric: str) -> Markup:
    """The chart with a line for each policy and a point for each window."""
    windows = next(iter(policies.values())).by_window
    values = [window.score for each in policies.values() for window in each.by_window if window.score is not None]
    if not values:
        return Markup("")
    plane = Plane((-0.4, len(windows) - 0.6), roomy(values), width=760, height=320)
    step = max(1, math.ceil(len(windows) / 12))
    parts = [plane.axes("window from", metric, {float(n): str(windows[n].day) for n in range(0, len(windows), step)})]
    for index, (name, each) in enumerate(policies.items()):
        parts += _drawn(plane, name, each.by_window, f"p{index % COLOURS}")
    return plane.svg(f"{metric} of each window by policy", *parts)


def _drawn(plane: Plane, name: str, windows: Sequence[WindowResult], kind: str) -> list[Markup]:
    points = [(float(n), math.nan if window.score is None else window.score) for n, window in enumerate(windows)]
    parts = [plane.line(points, kind)]
    for (x, y), window in zip(points, windows, strict=True):
        if not window.trained or not math.isfinite(y):
            continue
        title = f"{name}, {window.day}: {y:.4f}, {'took charge' if window.promoted else 'refused'}"
        parts.append(
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
                kind if window.promoted else "refused", short(plane.x(x)), short(plane.y(y)), title
            )
        )
    return parts
