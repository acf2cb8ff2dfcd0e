"""Template of the model card; in a Python file, so that DVC tracks it like other code."""

from __future__ import annotations

from refit.reports.model_card.by_task import View

MACROS = """
{%- macro cell(found, digits=4) -%}
{% if not found or found.value is none %}<span class="quiet">not defined</span>
{%- else %}{{ found.value | fixed(digits) }}
{%- if found.lower is not none %} <small>{{ found.lower | fixed(digits) }} to {{ found.upper | fixed(digits) }}</small>
{%- endif %}{% endif %}
{%- endmacro -%}
{%- macro signed(found) -%}
{% if not found or found.value is none %}<span class="quiet">not defined</span>
{%- else %}{{ "{:+z.4f}".format(found.value) }}
{%- if found.lower is not none %} <small>{{ "{:+z.4f}".format(found.lower) }} to {{ "{:+z.4f}".format(found.upper) }}
</small>{% endif %}{% endif %}
{%- endmacro -%}
"""

BODY = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}: model card</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<p>Model card</p>
<h1>{{ name }}</h1>
{% if words.about %}<p class="about">{{ words.about }}</p>
{% endif %}<p>{{ candidate.learner }} on {{ candidate.features }} features, judged on {{ test.rows | count }} rows
from {{ days[0] }} to {{ days[-1] }}; data as of {{ as_of | moment }}</p>
<nav><a href="#gate">The gate</a><a href="#numbers">Numbers</a>{% if slices %}<a href="#slices">Slices</a>{% endif %}
<a href="#{{ view.link[0] }}">{{ view.link[1] }}</a><a href="#features">Features</a><a href="#learners">Learners</a>
<a href="#data">Data</a><a href="#assumptions">Assumptions</a><a href="#reproduce">Reproduce</a></nav>
</header>
{% if stand_in %}
<div class="verdict bad"><strong>GENERATED data: a stand-in for {{ stand_in }}</strong>
<p>No figure on this page means anything; the run's summary says where the real file is published.</p></div>
{% endif %}
<div class="verdict {{ 'good' if decision.promote else 'bad' }}">
<strong>{{ words.verdict }}</strong>
{% for sentence in words.summary %}<p>{{ sentence }}</p>{% endfor %}
</div>

<div class="tiles">
{% for tile in tiles %}<div class="tile"><span>{{ tile.name }}</span><b>{{ tile.value }}</b>
<span>{{ tile.note }}</span></div>
{% endfor %}</div>

<section id="gate">
<h2>The gate</h2>
<p class="lede">{{ words.gate }}</p>
{% for each in compared %}
<figure class="wide">
<h3>Against the {{ each.against }}{% if each.version %}, version {{ each.version }}{% endif %}:
<span class="{{ 'good' if each.passed else 'bad' }}-text">{{ each.words }}</span></h3>
{{ each.chart }}
</figure>
{% endfor %}
{% if gated %}
<h3>Against the champion, slice by slice</h3>
<div class="scroll"><table>
<thead><tr><th>slice</th><th class="n">gain</th><th class="n">at least</th><th class="n">has to exceed</th>
<th></th></tr></thead><tbody>
{% for each in gated %}<tr><th scope="row">{{ each.against }}</th>
<td class="n">{{ "{:+z.4f}".format(each.estimate) }}</td>
<td class="n {{ 'good' if each.passed else 'bad' }}-text">{{ "{:+z.4f}".format(each.lower) }}</td>
<td class="n">{{ "{:+z.4f}".format(each.must_exceed) }}</td><td class="chart">{{ each.chart }}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
<ul class="checks">
{% for check in decision.checks %}<li class="{{ 'good' if check.passed else 'bad' }}">{{ check.sentence }}</li>
{% endfor %}{% for note in decision.notes %}<li class="note">{{ note }}</li>
{% endfor %}</ul>
</section>

<section id="numbers">
<h2>Numbers on unseen rows</h2>
<p class="lede">In small type: {{ confidence }} intervals{{ words.clustered }}.
<<lede>></p>
<div class="scroll"><table class="stacked">
<thead><tr><th></th>{% for model in models %}<th class="n">{{ swatch(model) }}</th>{% endfor %}
{% for other in gains %}<th class="n">gain over {{ other }}</th>{% endfor %}</tr></thead>
<tbody>
{% for metric in metrics %}<tr><th scope="row">{{ metric.label }} <span class="unit">{{ metric.better }}</span></th>
{% for model in models %}<td class="n">{{ cell(measured[model][metric.name]) }}</td>{% endfor %}
{% for other in gains %}<td class="n">{% if metric.name in gains[other] %}{{ signed(gains[other][metric.name]) }}
{% endif %}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<p class="quiet">A gain is positive where the candidate is better. Both are measured on the same rows, so a gain is
known better than either number alone. {{ words.budgets }}</p>
<figure class="wide">{{ charts.daily }}<figcaption>{{ metric_word }} on each day of the test window.
{% for model in models %}{{ swatch(model) }}{% endfor %}</figcaption></figure>
<<numbers>></section>

{% if slices %}
<section id="slices" class="long">
<h2>Where it is better, and worse</h2>
<p class="lede">{{ metric_word }} on parts of the test rows, the line marks all rows together. Of {{ slice_count }}
intervals about {{ slice_misses }} will miss the truth by chance alone.</p>
<div class="scroll"><table>
<thead><tr><th>slice</th><th class="n">rows</th>
{% for head in view.slice_heads %}<th class="n">{{ head }}</th>{% endfor %}
<th class="n">{{ metric_word }}</th><th></th>
{% if "champion" in models %}<th class="n">gain over champion</th>{% endif %}</tr></thead>
<tbody>
{% for group in slices %}<tr class="group"><th colspan="{{ 5 + view.slice_heads | length }}">{{ group.by }}</th></tr>
{% for part in group.parts %}<tr><th scope="row">{{ part.value }}</th><td class="n">{{ part.rows | count }}</td>
{% for cell in view.slice_cells(part) %}<td class="n">{{ cell }}</td>{% endfor %}
{% if part.enough %}<td class="n">{{ cell(part[metric], 3) }}</td><td class="chart">{{ part.chart }}</td>
{% if "champion" in models %}<td class="n">{{ signed(part.gain) }}</td>{% endif %}
{% else %}<td colspan="3" class="quiet">too few rows to say: {{ part.problem }}</td>{% endif %}</tr>
{% endfor %}{% endfor %}</tbody></table></div>
</section>
{% endif %}

<<section>>
<section id="features" class="long">
<h2>What it leans on</h2>
{% if words.giveaways %}<div class="verdict bad"><strong>Features that may give the label away</strong>
{% for sentence in words.giveaways %}<p>{{ sentence }}</p>
{% endfor %}<p>If one of them is known only with the label, or after it, the numbers of this page will not come true:
leave it out (featurize.exclude).</p></div>
{% endif %}{% if importance.rows %}
<p class="lede">{{ metric_word }} lost on {{ importance.rows | count }} test rows when the values are shuffled between
rows. Features that tell the same hide each other, so whole views are shuffled, too.</p>
<div class="scroll"><table>
<thead><tr><th>view</th><th class="n">loss</th><th></th><th>features</th></tr></thead><tbody>
{% for group in importance.groups %}<tr><th scope="row">{{ group.name }}</th><td class="n">{{ signed(group) }}</td>
<td class="chart">{{ group.chart }}</td><td class="quiet">{{ group.count }}</td></tr>
{% endfor %}</tbody></table></div>
<div class="scroll"><table>
<thead><tr><th>feature</th><th class="n">loss</th><th></th><th>what it is</th></tr></thead><tbody>
{% for feature in importance.first %}<tr><th scope="row">{{ feature.name }}</th><td class="n">{{ signed(feature) }}</td>
<td class="chart">{{ feature.chart }}</td><td class="quiet">{{ feature.description }}</td></tr>
{% endfor %}</tbody></table></div>
{% if importance.rest %}<details><summary>{{ importance.rest | length }} more features</summary>
<div class="scroll"><table><tbody>
{% for feature in importance.rest %}<tr><th scope="row">{{ feature.name }}</th><td class="n">{{ signed(feature) }}</td>
<td class="quiet">{{ feature.description }}</td></tr>
{% endfor %}</tbody></table></div></details>{% endif %}
{% else %}<p class="lede">Not measured: evaluate.permutation_rows is 0.</p>{% endif %}
{% if explained.shap %}
<h3>What they add to single predictions</h3>
<p class="lede">SHAP values of {{ explained.shap.rows | count }} test rows, computed {{ explained.shap.how }}: what each
feature adds to a prediction, in {{ explained.shap.unit }}. {% if explained.shap.scale %}A dot is a row:
{{ swatch("candidate", "the feature is low there") }}{{ swatch("baseline", "in the middle") }}
{{ swatch("champion", "high") }}{{ swatch("quiet", "a category or a gap") }}{% else %}Mean sizes, over rows and
classes.{% endif %}</p>
<div class="scroll"><table>
<thead><tr><th>feature</th><th class="n">mean size</th><th></th></tr></thead><tbody>
{% for feature in explained.shap.largest %}<tr><th scope="row">{{ feature.name }}</th>
<td class="n">{{ "%.3g" | format(feature.value) }}</td>
<td class="{{ 'swarm' if explained.shap.scale else 'chart' }}">{{ feature.chart }}</td></tr>
{% endfor %}
{% if explained.shap.scale %}<tr><th></th><td></td><td class="swarm">{{ explained.shap.scale }}</td></tr>{% endif %}
</tbody></table></div>
{% endif %}
{% if explained.partial %}
<h3>How its predictions follow them</h3>
<p class="lede">The {{ explained.predicted }} of {{ explained.rows | count }} test rows, were all of them to have one
value of a feature and keep their others; one scale for all. Where features go together, some of these rows do not
exist.</p>
{% if explained.classes %}<p>{% for kind, name in explained.classes %}{{ swatch(kind, name) }}{% endfor %}
{% if explained.more_classes %} <span class="quiet">and {{ explained.more_classes }} less likely ones, not
drawn</span>{% endif %}</p>{% endif %}
<div class="many">
{% for feature in explained.partial %}<figure><h3>{{ feature.name }}</h3>{{ feature.chart }}</figure>
{% endfor %}</div>
{% endif %}
</section>

<section id="learners">
<h2>Learners tried</h2>
<p class="lede">Chosen by {{ learning_word }}
{%- if fold_count %}, the mean of {{ fold_count }} folds{% else %} on the validation window{% endif %}, then fitted anew
on training and validation rows together ({{ refit_rows | count }}). None has seen the test window. Seconds and rows are
those of its fits; MB is the most memory of one of them; 95 % of predictions take no more milliseconds than told.</p>
<div class="scroll"><table>
<thead><tr><th>learner</th><th class="n">validation</th>{% if fold_count %}<th>each fold</th>{% endif %}
<th class="n">training</th><th class="n">iterations</th><th class="n">seconds</th><th class="n">rows/s</th>
<th class="n">MB</th><th class="n">ms a row</th><th class="n">ms a thousand</th><th>verdict</th></tr></thead><tbody>
{% for learner in learners %}<tr{% if learner.name == candidate.learner %} class="chosen"{% endif %}>
<th scope="row">{{ learner.name }}</th>
<td class="n">{{ learner.validation[learning_metric] | fixed }}
{%- if learner.by_fold %} <small>± {{ learner.by_fold.deviation | fixed }}</small>{% endif %}</td>
{% if fold_count %}<td class="chart">{% if learner.by_fold %}{{ learner.by_fold.chart }}{% endif %}</td>{% endif %}
<td class="n">{{ learner.training[learning_metric] | fixed }}</td>
<td class="n">{{ learner.iterations if learner.iterations is not none else "" }}</td>
<td class="n">{{ learner.seconds | fixed(1) }}</td>
<td class="n">{{ learner.rows_per_second | count }}</td>
<td class="n">{{ learner.peak_memory_mb | fixed(0) }}</td>
<td class="n">{{ learner.latency_ms.p95 | fixed(1) }}</td>
<td class="n">{{ learner.latency_1000_ms.p95 | fixed(1) }}</td>
<td class="quiet">{{ learner.verdict }}{% if learner.not_chosen %}; not chosen: {{ learner.not_chosen }}{% endif %}
</td></tr>
{% endfor %}</tbody></table></div>
{% if fold_count %}<p class="quiet">± is the standard deviation over the folds, the line their mean.</p>{% endif %}
{% for search in searches %}
<h3>{{ search.name }}: {{ search.trials }} trials</h3>
<div class="pair">
<div>
<p>{{ search.states | capitalize }}, in {{ search.seconds | fixed(0) }} s of computing. The best is trial
{{ search.best }} with {{ search.value | fixed }}:</p>
<table><thead><tr><th>argument</th><th class="n">best</th><th>what mattered</th></tr></thead><tbody>
{% for argument in search.arguments %}<tr><th scope="row">{{ argument.name }}</th>
<td class="n">{{ argument.value }}</td>
<td class="chart">{% if argument.share is none %}<span class="quiet">not told</span>{% else %}{{ argument.chart }}
{% endif %}</td></tr>
{% endfor %}</tbody></table>
</div>
<figure>{{ search.chart }}<figcaption>{{ learning_word }} of {{ swatch("baseline", "each trial") }}
{{ swatch("candidate", "the best so far") }}</figcaption></figure>
</div>
{% endfor %}
<div class="pair">
{% for curve in learning %}<figure><h3>{{ curve.title }}</h3>{{ curve.chart }}</figure>{% endfor %}
</div>
{% if learning %}<p class="quiet">{{ learning_word }} of {{ swatch("baseline", "training rows") }}
{{ swatch("candidate", "validation rows") }}</p>{% endif %}
</section>

<section id="data">
<h2>Data</h2>
<div class="scroll"><table>
<thead><tr><th>window</th><th>from</th><th>up to</th><th class="n">rows</th>
<th class="n">{{ view.label_head }}</th></tr></thead>
<tbody>
{% for window in windows %}<tr><th scope="row">{{ window.name }}</th><td>{{ window.start | moment }}</td>
<td>{{ window.end | moment }}</td><td class="n">{{ window.rows | count }}</td>
<td class="n">{{ view.label_cell(window) }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="quiet">{{ words.labels }} Times are UTC.</p>
</section>

<section id="assumptions">
<h2>Assumptions and limits</h2>
<ul>{% for sentence in words.assumptions %}<li>{{ sentence }}</li>
{% endfor %}</ul>
</section>

<section id="reproduce">
<h2>Reproduce</h2>
<pre>git checkout COMMIT                     # the commit that the registered version names (refit show)
refit run --as-of {{ as_of }}{% for setting in settings %} --set '{{ setting }}'{% endfor %}</pre>
<div class="scroll"><table><tbody>
{% for name, value in identity %}<tr><th scope="row">{{ name }}</th><td><code>{{ value }}</code></td></tr>
{% endfor %}</tbody></table></div>
</section>

<footer>Written by Refit's stage <code>evaluate</code>. All numbers of this page are in
<code>reports/evaluation.json</code>, the decision in <code>reports/decision.json</code>, the predictions in
<code>reports/predictions.parquet</code>.</footer>
</main>
</body>
</html>
"""


def page(view: View) -> str:
    """The template, with the parts specific to the task."""
    body = BODY.replace("<<lede>>", view.lede).replace("<<numbers>>", view.numbers).replace("<<section>>", view.section)
    return MACROS + body
