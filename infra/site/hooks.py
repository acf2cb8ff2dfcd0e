"""What `make docs` adds to the pages in docs/: the generated reference, and the repository's other pages.

A page links to files of the repository as they lie there. In the site, a link to a page that it has leads to that page,
and a link to any other file becomes its path; a link to a file that does not exist stays, and fails the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files
from reference import ROOT, pages

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
_DATE = "2026-01-01"


def repository_pages() -> dict[str, str]:
    """The pages outside of docs/ that the site has: their place in the repository, and in the site."""
    placed = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
    placed |= {
        "benchmarks/README.md": "benchmarks.md",
        "tests/README.md": "tests.md",
        "examples/README.md": "examples/index.md",
    }
    placed |= {f"infra/adr/{path.name}": f"adr/{path.name}" for path in sorted((ROOT / "infra/adr").glob("[0-9]*.md"))}
    placed |= {"infra/adr/README.md": "adr/index.md"}
    for path in sorted((ROOT / "examples").glob("*/README.md")):
        placed[f"examples/{path.parent.name}/README.md"] = f"examples/{path.parent.name}.md"
    return placed


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    for source, place in repository_pages().items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for picture in sorted((ROOT / "examples").glob("*/*.png")):
        files.append(File.generated(config, picture.relative_to(ROOT).as_posix(), abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to where their targets are in the site."""
    place = page.file.src_uri
    origin = {each: source for source, each in repository_pages().items()}.get(place)
    source = origin or (place if place in pages() else f"docs/{place}")
    return moved_links(markdown, source, place)


def moved_links(markdown: str, source: str, place: str) -> str:
    """The text of a page with the links of its `source` in the repository as links from its `place` in the site.

    >>> moved_links("[why](../infra/adr/README.md#x), [code](../refit/api.py)", "docs/a.md", "a.md")
    '[why](adr/index.md#x), `refit/api.py`'
    """
    by_source = repository_pages()

    def moved(match: re.Match[str]) -> str:
        mark, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            return match[0]
        if (ROOT / path / "README.md").is_file():
            path = posixpath.join(path, "README.md")
        if path == "README.md":
            path = "docs/README.md"
        to = by_source.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if to is None and path.endswith(".png"):
            to = path
        if to is None:
            return (
                text if "`" in text else f"`{path}`" if text == Path(path).name or "/" in text else f"{text} (`{path}`)"
            )
        return f"{mark}[{text}]({posixpath.relpath(to, posixpath.dirname(place) or '.')}{anchor})"

    return re.sub(_LINK, moved, markdown)
