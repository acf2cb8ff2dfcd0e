"""The common theme of HTML pages: style sheet, filters and macros of templates. Pages load and run nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from refit.plain_text import visible

__all__ = ["count", "fixed", "moment", "money", "percent", "render"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --panel: #ffffff; --ink: #1d2730; --quiet: #66717d; --line: #e0e4e6; --faint: #f1f3f3;
  --candidate: #0f6e84; --champion: #bf6b1e; --baseline: #8a94a0; --anchor: #7a5ea8;
  --good: #23744a; --good-soft: #e3f1e8; --bad: #a83a28; --bad-soft: #f8e8e4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12171c; --panel: #191f26; --ink: #e4e8eb; --quiet: #97a3ae; --line: #2c353e; --faint: #20272f;
    --candidate: #4bb6cd; --champion: #e39a55; --baseline: #76818d; --anchor: #ab92d6;
    --good: #5fc08a; --good-soft: #16291f; --bad: #ea8572; --bad-soft: #321d19;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; -webkit-print-color-adjust: exact; print-color-adjust: exact;
}
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header p.about { color: var(--ink); font-size: 1.1rem; margin-bottom: .3rem; }
header p { margin: 0; color: var(--quiet); }
h1 { font-size: clamp(1.7rem, 4vw, 2.4rem); line-height: 1.15; margin: .1rem 0 .4rem; letter-spacing: -.015em; }
h2 { font-size: 1.25rem; margin: 3rem 0 .3rem; letter-spacing: -.01em; }
h3 { font-size: .95rem; margin: 1.4rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
.quiet, .lede, figcaption, th, .unit { color: var(--quiet); }
.lede { margin-top: 0; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: 1.2rem; font-size: .9rem; }
a { color: var(--candidate); text-decoration-thickness: 1px; text-underline-offset: 3px; }
.verdict { border-left: 6px solid; border-radius: 6px; padding: 1.1rem 1.4rem; margin: 1.6rem 0 1.2rem; }
.verdict.good { border-color: var(--good); background: var(--good-soft); }
.verdict.bad { border-color: var(--bad); background: var(--bad-soft); }
.verdict strong { display: block; font-size: 1.3rem; line-height: 1.3; }
.good-text { color: var(--good); } .bad-text { color: var(--bad); }
.verdict p { margin: .35rem 0 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .8rem; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.55rem; font-weight: 650; line-height: 1.25; letter-spacing: -.02em; }
.tile span { display: block; font-size: .84rem; color: var(--quiet); line-height: 1.4; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1.2rem; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .2rem 1.2rem; }
.pair > *, .many > * { min-width: 0; }
figure { margin: 1rem 0 0; min-width: 0; }
figcaption { font-size: .87rem; margin-top: .3rem; max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; margin-top: .6rem; }
th, td { text-align: left; padding: .34rem .9rem .34rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 550; font-size: .84rem; }
tbody th { color: var(--ink); font-size: inherit; font-weight: 500; }
td.n, th.n { text-align: right; white-space: nowrap; }
td small { color: var(--quiet); white-space: nowrap; }
table.stacked small { display: block; }
td.chart { width: 14rem; min-width: 9rem; padding-top: .5rem; }
td.chart svg, td.swarm svg { display: block; }
td.swarm { width: 30rem; min-width: 18rem; padding-block: .15rem; }
tr.chosen > * { background: var(--faint); } tr.group th { padding-top: 1.1rem; border-bottom-color: var(--quiet); }
ul.checks { list-style: none; padding: 0; margin: .8rem 0 0; }
ul.checks li { padding: .22rem 0 .22rem 1.6rem; position: relative; }
ul.checks li::before { position: absolute; left: 0; font-weight: 700; }
ul.checks li.good::before { content: "\\2713"; color: var(--good); }
ul.checks li.bad::before { content: "\\2717"; color: var(--bad); }
ul.checks li.note::before { content: "i"; color: var(--quiet); font-style: italic; left: .25rem; }
code, pre { font: .87em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--faint); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }
td code { overflow-wrap: anywhere; }
details { margin-top: .8rem; } summary { cursor: pointer; color: var(--candidate); }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 .7em; }
.key:first-child { margin-left: 0; }
.confusion { max-width: 30rem; } .confusion td { text-align: right; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .87rem; }
svg { width: 100%; height: auto; overflow: visible; }
figure.wide { overflow-x: auto; overflow-y: hidden; } figure.wide svg { min-width: 34rem; }
svg text { fill: var(--quiet); font-size: 11px; } svg text.label { fill: var(--ink); }
.end { text-anchor: end; } .mid { text-anchor: middle; }
.grid { stroke: var(--line); } .axis { stroke: var(--quiet); } .zero { stroke: var(--line); stroke-width: 1.5; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chance { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 2 4; }
.line.thin { stroke: var(--candidate); stroke-width: 1.3; opacity: .6; }
.line.candidate, .line.validation { stroke: var(--candidate); } .line.champion { stroke: var(--champion); }
.line.baseline, .line.training { stroke: var(--baseline); } .line.anchor { stroke: var(--anchor); }
.dot.candidate, .dot.validation, .bar.candidate { fill: var(--candidate); } .dot.champion { fill: var(--champion); }
.dot.baseline, .dot.training { fill: var(--baseline); } .dot.anchor { fill: var(--anchor); }
.bar.candidate { opacity: .8; } .whisker { stroke: var(--candidate); stroke-width: 2.5; opacity: .45; }
.whisker.thin { stroke: var(--ink); stroke-width: 1; opacity: .8; }
path.swarm { fill: none; stroke-width: 3.4; stroke-linecap: round; stroke: var(--quiet); opacity: .8; }
path.swarm.low { stroke: var(--candidate); } path.swarm.middle { stroke: var(--baseline); opacity: .45; }
path.swarm.high { stroke: var(--champion); }
.area.negative { fill: var(--baseline); opacity: .45; } .area.positive { fill: var(--candidate); opacity: .5; }
.bar.good { fill: var(--good); opacity: .3; } .bar.bad { fill: var(--bad); opacity: .3; }
.dot.fold { fill: var(--candidate); opacity: .45; } .stop { stroke: var(--ink); }
.dot.good { fill: var(--good); } .dot.bad { fill: var(--bad); }
.stop { stroke-width: 2.5; } .stop.good { stroke: var(--good); } .stop.bad { stroke: var(--bad); }
.margin { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 3; } .forbidden { fill: var(--bad); opacity: .07; }
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --panel: #fff; --ink: #000; --quiet: #555; --line: #ccc; --faint: #f4f4f4;
    --candidate: #0f6e84; --champion: #bf6b1e; --baseline: #8a94a0; --anchor: #7a5ea8;
    --good: #23744a; --good-soft: #fff; --bad: #a83a28; --bad-soft: #fff;
  }
  @page { margin: 15mm 13mm; }
  html { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2 { margin-top: 1.6rem; }
  h2, h3, .lede, thead { break-after: avoid; }
  p, figure, .tile, .pair, .verdict, tr { break-inside: avoid; }
  table { font-size: .84rem; } th, td { padding: .2rem .6rem .2rem 0; }
  td.chart { width: 7rem; min-width: 5rem; }
  .scroll, figure.wide { overflow: visible; } figure.wide svg { min-width: 0; }
  pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""

MACROS = """
{%- macro swatch(name, text=None) -%}
<span class="key" style="background:var(--{{ name }})"></span>{{ text or name }}
{%- endmacro -%}
"""


def render(page: str, /, *, style: str = "", **values: Any) -> str:
    """Render a page: all values are escaped, invisible characters are made visible, a missing value is an error.

    Args:
        page: a Jinja template, which can use `style` and the macro `swatch`.
        style: additional rules for this page.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"fixed": fixed, "count": count, "percent": percent, "moment": moment}
    return visible(environment.from_string(MACROS + page).render(style=Markup(STYLE + style), **values))


def fixed(value: float | None, digits: int = 4) -> str:
    """Format a number; None becomes a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def count(value: float) -> str:
    """Format a whole number with commas."""
    return f"{value:,.0f}"


def money(value: float) -> str:
    """Format an amount of any size to two digits without an exponent.

    >>> money(0.00000014), money(12.345), money(0.0)
    ('0.00000014', '12.35', '0')
    """
    if value >= 1:
        return f"{value:,.2f}"
    digits = -math.floor(math.log10(value)) + 1 if value > 0 else 0
    return f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Format a share as a percentage."""
    return "–" if value is None else f"{value:.1%}"


def moment(time: datetime | str | None) -> str:
    """Format a time, stored as text or not, in UTC."""
    if time is None:
        return "the beginning"
    return f"{(datetime.fromisoformat(time) if isinstance(time, str) else time).astimezone(UTC):%Y-%m-%d %H:%M}"
