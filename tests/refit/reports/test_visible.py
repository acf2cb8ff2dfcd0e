"""What a browser or a terminal obeys, or does not show, stands as its escape in every page and chart of Refit's."""

from __future__ import annotations

import json
import unicodedata
import warnings
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure
from snapshots import batch_of

from refit.reports.drawing import drawn, save_png, styled, tip
from refit.reports.templates import render, templates
from refit.schemas.validated import ValidatedBatch
from tasks.validate import data_docs

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "a\x1b[31m\x07\x00\x9b\u202eevil\u2066\u200b\u2028\U000e0041 <b>"
SHOWN = r"a\x1b[31m\x07\x00\x9b\u202eevil\u2066\u200b\u2028\U000e0041"


def assert_visible(page: str) -> None:
    odd = {mark for mark in page if unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert odd <= {"\n"}
    assert SHOWN in page
    assert "<b>" not in page


def hostile_figure(text: str) -> Figure:
    figure = Figure(figsize=(14, 9))
    axes = figure.subplots()
    (line,) = axes.plot([0, 1], [0, 1], label=text)
    tip(line, text)
    axes.set(title=text, xlabel=text)
    axes.text(0.5, 0.5, text)
    axes.set_yticks([0, 1], [text, "b"])
    axes.legend()
    return figure


def test_a_page_shows_what_its_values_and_its_charts_hold() -> None:
    page = templates().from_string("<p>{{ value }}</p>\n")
    with styled():
        chart = drawn(hostile_figure(HOSTILE), "chart", HOSTILE)
    for value in (HOSTILE, Markup("<i>{}</i>").format(HOSTILE), chart.svg):
        assert_visible(render(page, value=value))


def test_the_data_docs_show_what_the_names_of_columns_and_batches_hold() -> None:
    judged = {"accepted": 1, "quarantined": 0, "excluded": [], "excluded_rows": None, "checks": 1, "warnings": []}
    batch = ValidatedBatch.model_validate_json(json.dumps(batch_of(HOSTILE, HOSTILE, **judged)))
    assert_visible(data_docs.index(HOSTILE, HOSTILE, [batch], [HOSTILE]))
    assert_visible(data_docs.Pages().page(HOSTILE, [], []))


def test_a_chart_shows_its_texts_and_no_warning_prints_them(tmp_path: Path) -> None:
    def png(text: str) -> bytes:
        save_png(hostile_figure(text), tmp_path / "chart.png")
        return (tmp_path / "chart.png").read_bytes()

    with styled(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png(HOSTILE) == png(f"{SHOWN} <b>")
        assert drawn(hostile_figure(HOSTILE), "a", "") == drawn(hostile_figure(f"{SHOWN} <b>"), "a", "")


def test_no_page_is_made_in_another_way() -> None:
    makers = {
        "refit/reports/templates/__init__.py": "from jinja2",
        "tasks/validate/data_docs.py": "from string import Template",
    }
    for folder in ("flows", "refit", "tasks", "registry"):
        for module in (ROOT / folder).rglob("*.py"):
            name, source = module.relative_to(ROOT).as_posix(), module.read_text(encoding="utf-8")
            made = {maker for maker in makers.values() if maker in source}
            assert made <= {makers.get(name)}, name
