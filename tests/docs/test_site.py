"""The pages in docs/ become a site whose links work and which loads nothing from elsewhere, with a full reference."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from browsing import chromium, looked_at
from commands import commands

import refit
from refit.cli import main
from refit.config.schema import params_schema


class Loaded(HTMLParser):
    """What a page loads by itself; a link that a reader follows is not loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}.get(tag)
        self.addresses += [value for name, value in attributes if name == wanted and value]


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("the extra [docs] is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def reference(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.syspath_prepend(str(root / "infra/site"))
    from reference import pages  # type: ignore[import-not-found]

    texts: dict[str, str] = pages()
    return texts


@pytest.mark.slow
def test_no_page_of_the_site_loads_anything_from_elsewhere(site: Path) -> None:
    seen = 0
    for path in site.rglob("*.html"):
        page = Loaded()
        page.feed(path.read_text(encoding="utf-8"))
        elsewhere = [each for each in page.addresses if re.match(r"(https?:)?//", each)]
        assert elsewhere == [], path
        seen += 1
    assert seen > 60
    for path in [*site.rglob("*.css"), *site.rglob("docs/*.svg")]:
        assert not re.search(r"url\(\s*['\"]?https?://|@import", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_the_search_of_the_site_knows_every_section_of_the_params_and_every_page(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))["docs"]
    text = " ".join(each["text"] for each in index)
    assert "cooldown_days" in text
    assert {"tutorial.html", "gate.html", "reference/commands.html"} <= {each["location"] for each in index}
    assert (site / "search/search_index.js").is_file(), "without which a page opened from a file cannot search"


@pytest.mark.slow
def test_the_site_is_whole_in_a_browser_and_can_be_searched_from_a_file(site: Path) -> None:
    names = ("index.html", "tutorial.html", "reference/params.html", "coming-from.html", "troubleshooting.html")
    assert looked_at(*(site / name for name in names), checks=("overflow",)) == []
    with chromium() as browser:
        browser.open(site / "index.html", width=1100)
        browser.ask("document.querySelector('.md-search__input').focus()")
        browser.type("cooldown")
        found = browser.wait_for("[...document.querySelectorAll('.md-search-result__link')].map((e) => e.href).join()")
        assert "reference/params.html" in found


def test_the_reference_has_every_key_of_the_params_every_command_and_every_function(reference: dict[str, str]) -> None:
    schema = params_schema()
    keys = {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}
    assert len(keys) > 120
    assert [
        key for key in keys - set(schema["properties"]) if f"| `{key}` |" not in reference["reference/params.md"]
    ] == []
    for section in schema["properties"]:
        assert f"\n## {section}\n" in reference["reference/params.md"]
    names = [" ".join(path) for path in commands(main.app)]
    assert [name for name in names if f"### refit {name}\n" not in reference["reference/commands.md"]] == []
    assert [name for name in refit.__all__ if f"## refit.{name}\n" not in reference["reference/api.md"]] == []
    assert "bound method" not in "".join(reference.values())


def test_every_function_for_programs_has_a_docstring_and_every_stored_file_a_sentence(
    reference: dict[str, str],
) -> None:
    assert all(getattr(refit, name).__doc__ for name in refit.__all__)
    rows = [line for line in reference["reference/stored-files.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if not row.split(" | ")[-1].strip(" |")] == []
