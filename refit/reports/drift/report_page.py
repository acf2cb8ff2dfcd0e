"""Template and styles of the drift report."""

STYLE = """
:root { --warn: #93660a; --warn-soft: #f8f0d8; }
@media (prefers-color-scheme: dark) { :root { --warn: #e0b04c; --warn-soft: #2b2412; } }
.tiles { grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); }
.verdict.warn { border-color: var(--warn); background: var(--warn-soft); }
.verdict ul { margin: .5rem 0 0; padding-left: 1.1rem; } .verdict li { margin: .15rem 0; }
.verdict pre { display: inline-block; margin: .5rem 0 0; background: var(--panel); padding: .35rem .9rem; }
.badge { font-size: .78rem; font-weight: 600; padding: .08rem .5rem; border-radius: 1rem; white-space: nowrap; }
.badge.ok { color: var(--good); background: var(--good-soft); }
.badge.warn { color: var(--warn); background: var(--warn-soft); }
.badge.retrain { color: var(--bad); background: var(--bad-soft); }
.usual { fill: var(--candidate); opacity: .11; } .border { stroke: var(--line); stroke-width: 1.5; }
.line.estimated { stroke: var(--champion); stroke-width: 1.6; stroke-dasharray: 6 4; }
.line.estimated.baseline, .line.baseline { opacity: .6; }
.whisker.baseline { stroke: var(--baseline); }
.cell.under { fill: var(--candidate); } .cell.over { fill: var(--bad); }
.cell.breached { stroke: var(--ink); stroke-width: 1.6; }
.empty { fill: none; stroke: var(--line); stroke-dasharray: 3 3; }
svg text.over { fill: var(--paper); font-weight: 650; }
.now { fill: var(--candidate); fill-opacity: .18; stroke: var(--candidate); stroke-width: 1.8; }
.bar.candidate { opacity: 1; } .bar.then { fill: var(--baseline); opacity: .6; }
#history th { white-space: nowrap; }
td.over { color: var(--bad); font-weight: 600; } td.over small { font-weight: 400; }
@media print { :root { --warn: #93660a; --warn-soft: #fff; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ decision.model }}: drift</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<p>Drift report</p>
<h1>{{ decision.model }}</h1>
<p>Version {{ decision.version }}, as of {{ decision.as_of | moment }} UTC{% if span
%}; windows from {{ span }}{% endif %}</p>
<nav><a href="#performance">Performance</a><a href="#columns">Columns</a>
{% if distributions %}<a href="#distributions">Then and now</a>{% endif %}
{% if columns %}<a href="#numbers">Numbers</a>{% endif %}<a href="#history">History</a>
<a href="#method">How it was judged</a></nav>
</header>

<div class="verdict {{ kind }}">
<strong>{{ verdict }}</strong>
<ul>{% for mark, sentence in reasons %}<li{% if mark == "bad" %} class="bad-text"{% endif %}>{{ sentence }}</li>
{% endfor %}</ul>
<p>{{ step }}</p>
<pre>{{ command }}</pre>
</div>

<div class="tiles">
{% for name, value, note in tiles %}<div class="tile"><span>{{ name }}</span><b>{{ value }}</b>
<span>{{ note }}</span></div>
{% endfor %}</div>

<section id="performance">
<h2>Is it still as good?</h2>
<p class="lede">{{ performance }}</p>
{% if skills %}<figure class="wide">{{ skills }}<figcaption>
{% if has_backtest %}{{ swatch("baseline", "backtest: rows it had not seen") }}{% endif %}
{{ swatch("candidate", "production") }}{{ swatch("champion", "estimated without labels (dashed)") }}
{{ swatch("bad", "lost") }}; shaded: what is usual; dotted: the backtest's mean</figcaption></figure>
{% else %}<p class="quiet">Neither the backtest nor production holds a window with enough labelled rows.</p>{% endif %}
{% if waiting %}<div class="scroll"><table>
<thead><tr><th>window</th><th class="n">rows</th><th class="n">labelled</th><th class="n">{{ metric }}</th>
<th class="n">estimated</th><th class="n">skill</th><th class="n">loss below</th></tr></thead><tbody>
{% for window in waiting %}{% set each = window.performance %}<tr>
<th scope="row">{{ window }}</th><td class="n">{{ each.rows | count }}</td>
<td class="n">{{ each.labelled | count }}</td><td class="n">{{ each.value | fixed(3) }}</td>
<td class="n">{{ each.estimated | fixed(3) }}</td>
<td class="n{% if each.breached %} over{% endif %}">{{ each.skill | fixed(3) }}
{% if each.lower is not none %} <small>{{ each.lower | fixed(3) }} to {{ each.upper | fixed(3) }}</small>
{% endif %}</td>
<td class="n">{{ each.threshold | fixed(3) }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}
</section>

<section id="columns">
<h2>Which columns moved, and when</h2>
<p class="lede">{{ inputs }}</p>
{% if heat_map %}<figure class="wide">{{ legend }}{{ heat_map }}
{% if left_out %}<figcaption>{{ left_out }} columns that moved less are left out.</figcaption>{% endif %}
</figure>{% endif %}
</section>

{% if distributions %}
<section id="distributions">
<h2>Then and now</h2>
<p class="lede">The columns that moved most in the newest window ({{ newest }}):
{{ swatch("baseline", "then: what the model learned from") }}{{ swatch("candidate", "now") }}.
Shares are of the rows that have a value.</p>
<div class="pair">
{% for picture in distributions %}{% set each = picture.distribution %}<figure>
<h3>{{ each.column }}{% if each.kind == "text" %}, letters{% endif %}
{% if picture.breached %} <span class="badge retrain">drifted</span>{% endif %}</h3>
{{ picture.chart }}
<figcaption>{{ picture.effect }}.
{% if each.missing[0] or each.missing[1] %}Missing {{ each.missing[0] | percent }} → {{ each.missing[1] | percent }}.
{% endif %}
{% if each.kind != "category" and (each.beyond[0] or each.beyond[1]) %}Beyond the axis {{ each.beyond[0] | percent }} →
{{ each.beyond[1] | percent }}.{% endif %}</figcaption></figure>
{% endfor %}</div>
</section>
{% endif %}

{% macro effects_of(rows) %}
<div class="scroll"><table class="stacked">
<thead><tr><th>column</th><th class="n">PSI</th><th class="n">distance</th><th class="n">unseen names</th>
<th class="n">missing</th><th class="n">p</th><th class="n">windows drifted</th></tr></thead><tbody>
{% for row in rows %}{% set each = row.drift %}<tr><th scope="row">{{ each.column }}
{% if each.breached %}<span class="badge retrain">drifted</span>{% endif %}</th>
{% for effect in row.cells %}<td class="n{% if effect and effect.size >= effect.limit %} over{% endif %}">
{% if effect %}{{ effect.size | fixed(3) }} <small>of {{ effect.limit | fixed(3) }}</small>{% endif %}</td>
{% endfor %}<td class="n">{{ "–" if each.p is none else "< 0.001" if each.p < 0.001 else each.p | fixed(3) }}</td>
<td class="n">{{ row.times or "" }}</td></tr>
{% endfor %}</tbody></table></div>
{% endmacro %}
{% if columns %}
<section id="numbers" class="long">
<h2>Numbers of the newest window</h2>
<p class="lede">{{ newest }}, worst first; in small type: from where on it is drift. Distance is Wasserstein's for
numbers, in standard deviations, and Jensen and Shannon's for categories, from 0 to 1. p is the column's own, before the
allowance for looking at many.</p>
{{ effects_of(columns[:most]) }}
{% if columns | length > most %}<details><summary>{{ columns | length - most }} more columns</summary>
{{ effects_of(columns[most:]) }}</details>{% endif %}
</section>
{% endif %}

<section id="history" class="long">
<h2>Decisions so far</h2>
<div class="scroll"><table>
<thead><tr><th>as of</th><th>version</th><th>verdict</th><th>first reason</th></tr></thead><tbody>
{% for each in history %}<tr><th scope="row">{{ each.as_of | moment }}</th><td>{{ each.version }}</td>
<td><span class="badge {{ each.verdict }}">{{ each.verdict }}</span></td>
<td class="quiet">{{ each.reasons[0] if each.reasons else "" }}</td></tr>
{% endfor %}</tbody></table></div>
</section>

<section id="method">
<h2>How it was judged</h2>
<ul>{% for sentence in method %}<li>{{ sentence }}</li>
{% endfor %}</ul>
</section>

<footer>Written by <code>refit drift</code>. All numbers of this page are in this decision's file in
<code>reports/drift/decisions</code>.</footer>
</main>
</body>
</html>
"""
