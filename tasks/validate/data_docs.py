"""Renders the Data Docs of each batch: sections by Great Expectations, on pages that work offline.

GX's own site loads its styles, scripts and logo from six hosts and puts values into the HTML unescaped, so only its
renderers are used here, in a page of our own.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import cache
from string import Template
from typing import Any

from refit.errors import counted
from refit.plain_text import visible
from refit.schemas.validated import ValidatedBatch
from tasks.validate.expectations import Check

FRAME = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
a { color: #0b5cad; } h1 { font-size: 1.5rem; } h5 { font-size: 1.1rem; margin: 1.5rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; } td td, th th { font-size: .9em; }
th, td { border-bottom: 1px solid #ddd; padding: .35rem .6rem; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.badge { background: #eef1f4; border-radius: .3rem; padding: .05rem .35rem; font-family: ui-monospace, monospace; }
.text-danger, .failed { color: #b3261e; } .text-success, .passed { color: #1b7f3b; }
.fas::before { content: "•"; font-style: normal; } .fa-check-circle::before { content: "✓"; }
.fa-times::before { content: "✗"; } .fa-exclamation-triangle::before { content: "!"; }
/* A shadow at the right edge says that a table goes on there. */
:root { --paper: #fff; } body { background: var(--paper); }
.scroll { overflow-x: auto; background:
  linear-gradient(to left, var(--paper) 50%, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to left, #8888, transparent) right / .8rem 100% no-repeat scroll; }
td { overflow-wrap: anywhere; } td.failed { min-width: 14rem; } td a { white-space: nowrap; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; } body { color: #e6e6e6; } a { color: #7db7f0; }
th, td { border-color: #3a3d42; } .badge { background: #2b2f35; } .text-danger, .failed { color: #ff8a80; }
.text-success, .passed { color: #7bd88f; } }
</style></head><body>
$body
</body></html>
""")


class Pages:
    """Renders pages; GX compiles its templates only once in a process."""

    def __init__(self) -> None:
        from great_expectations.render.renderer import ValidationResultsPageRenderer

        self._renderer = ValidationResultsPageRenderer()
        self._view = _section_view()

    def page(self, name: str, results: Sequence[Any], settled: Sequence[Check]) -> str:
        """Render one batch's page: the sections by GX, and the checks that were settled without GX."""
        sections = []
        for result in results:
            for item in result.results:
                item.result = {key: _escaped(value) for key, value in item.result.items()}
            sections += self._renderer.render(result).sections[1:]  # without GX's overview, which ours replaces
        rendered = [
            self._view.render({"section": _plain_headings(section.to_json_dict()), "section_loop": {"index": index}})
            for index, section in enumerate(sections)
        ]
        items = [item for result in results for item in result.results]
        failed = [item for item in items if not item.success]
        listed_failures = "".join(f'<li class="failed">{html.escape(_named(item))}</li>' for item in failed)
        hold = len(items) - len(failed) + len(settled)
        listed = "".join(f"<li>{html.escape(f'{check.name}: {check.columns[0]}')}</li>" for check in settled)
        overview = (
            f'<p><a href="../index.html">All batches</a></p><h1>{html.escape(name)}</h1>'
            f"<p>{hold} of {hold + len(failed)} expectations hold.</p>"
            f"{f'<ul>{listed_failures}</ul>' if failed else ''}"
            f"<details><summary>{len(settled)} were settled by the number of nulls</summary><ul>{listed}</ul></details>"
        )
        return _framed(name, overview + "\n".join(rendered))


def _named(item: Any) -> str:
    """An expectation with its column."""
    config = item.expectation_config
    column = config.kwargs.get("column") or ", ".join(map(str, config.kwargs.get("column_list") or ()))
    return f"✗ {config.type}{f' ({column})' if column else ''}"


@cache
def _section_view() -> Any:
    from great_expectations.render.view import DefaultJinjaSectionView

    return DefaultJinjaSectionView()


def _plain_headings(section: dict[str, Any]) -> dict[str, Any]:
    """Escape a section's headings, which are column names: GX escapes everything but these."""
    for block in section["content_blocks"]:
        if block["content_block_type"] == "header":
            words = block["header"]["string_template"]
            words["template"] = html.escape(
                words["template"].replace("$$", "$")
            )  # GX doubles it, and then does not fill
    return section


def _escaped(value: Any) -> Any:
    """Escape every text of a value for HTML, and convert NumPy numbers to Python numbers, which GX can render."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value


def index(project: str, as_of: str, batches: Sequence[ValidatedBatch], failures: Sequence[str | None]) -> str:
    """Render the page that lists all batches, those that fail first with the reason.

    Args:
        project: the project's name.
        as_of: the time up to which batches were judged, in the project's zone.
    """
    columns = ("source", "batch", "", "read", "accepted", "quarantined", "checks")
    head = "".join(f"<th>{column}</th>" for column in columns)
    failed_first = sorted(zip(batches, failures, strict=True), key=lambda pair: not pair[1])  # a stable sort
    body = "".join(_line(batch, failure) for batch, failure in failed_first)
    failed = sum(bool(failure) for failure in failures)
    state = "failed" if failed else "passed"
    verdict = f"{failed} of {len(batches)} batches fail" if failed else f"All {len(batches)} batches are accepted"
    quarantined = sum(batch.quarantined for batch in batches)
    return _framed(
        f"{project}: Data Docs",
        f'<h1>{html.escape(project)}: what validation found</h1><p class="{state}">{verdict}, '
        f"as of {html.escape(as_of)}; {counted(quarantined, 'row lies', 'rows lie')} in quarantine.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
    )


def _framed(title: str, body: str) -> str:
    """Render a whole page around an HTML body."""
    return visible(FRAME.substitute(title=html.escape(title), body=body))


def _line(batch: ValidatedBatch, failure: str | None) -> str:
    source, name = html.escape(batch.source), html.escape(batch.name)
    numbers = (batch.rows_read, batch.accepted, batch.quarantined, batch.checks)
    counts = "".join(f"<td>{number:,}</td>" for number in numbers)
    state = f'<td class="failed">✗ {html.escape(failure)}</td>' if failure else '<td class="passed">✓ accepted</td>'
    return f'<tr><td>{source}</td><td><a href="{source}/{name}.html">{name}</a></td>{state}{counts}</tr>'
