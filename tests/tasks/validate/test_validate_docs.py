"""The Data Docs pages: GX's own findings, readable offline, and safe whatever the data says."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from browsing import looked_at

from refit.errors import UserError
from refit.files import artifacts

NOTE = {"expect_column_values_to_be_in_set": {"column": "note", "value_set": ["paid", "<i>free</i>"]}}


class Seen(HTMLParser):
    """The tags and addresses of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def pages(shop, sales):
    """The index and the page of a month with a note that is HTML."""
    shop.add("2024-01", sales(100, at={3: {"note": "<script>alert(1)</script>"}}))
    shop.add("2024-02", sales(100, 2, at={n: {"amount": None} for n in range(50)}))
    amount = {"expect_column_values_to_not_be_null": {"column": "amount"}}
    with pytest.raises(UserError, match="2024-02 fails expect_column_values_to_not_be_null"):
        shop.run(NOTE, amount, {"expect_column_mean_to_be_between": {"column": "items", "min_value": 1}})
    folder = shop.project / artifacts.DATA_DOCS
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.html")}


def test_there_is_an_index_and_a_page_for_each_batch(pages):
    assert sorted(pages) == ["index.html", "sales/2024-01.html", "sales/2024-02.html"]
    index = Seen(pages["index.html"])
    assert index.addresses == ["sales/2024-02.html", "sales/2024-01.html"], "what failed comes first"
    assert "demo: what validation found" in index.text
    assert "1 of 2 batches fail, as of 2024-12-01 00:00 (UTC)" in index.text
    assert "✓ accepted" in index.text
    assert "✗ sales 2024-02 fails expect_column_values_to_not_be_null (amount)" in index.text


def test_a_page_holds_what_gx_says_of_each_expectation(pages):
    page = Seen(pages["sales/2024-01.html"])
    text = " ".join(page.text.split())
    assert "values must belong to this set:" in text
    assert re.search(r"Unexpected Value Count <script>alert\(1\)</script> ?1", text)
    assert "1% unexpected" in text
    assert "mean must be greater than or equal to 1.0. 1.99" in text
    assert "Must have greater than or equal to 1 rows." in text
    assert "Exception" not in text
    assert re.search(r"\d+ of \d+ expectations hold", text)
    assert page.addresses == ["../index.html"]


def test_a_page_loads_nothing_and_runs_nothing(pages):
    for page in pages.values():
        seen = Seen(page)
        assert not {"script", "link", "img", "iframe", "i"} & seen.tags - {"i"}
        assert not [address for address in seen.addresses if "//" in address]
        assert "url(" not in page
        assert "http" not in page


@pytest.mark.slow
def test_the_pages_are_whole_at_every_width_in_the_dark_and_on_paper(pages, tmp_path):
    for name, text in pages.items():
        (tmp_path / name.replace("/", " ")).write_text(text)
    assert looked_at(*tmp_path.glob("*.html"), checks=("overflow", "without_hint", "faint")) == []


def test_a_value_of_the_data_never_becomes_markup(pages):
    page = pages["sales/2024-01.html"]
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<i>free" not in page
