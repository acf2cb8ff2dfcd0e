"""Only refit/runtime/terminal.py prints: elsewhere a text from data would soon be read as markup, or obeyed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TERMINAL = Path("refit/runtime/terminal.py")
CHILDREN = (
    Path("refit/models/verification.py"),
    Path("refit/learners/conformance/__main__.py"),
)  # JSON, read by the parent alone
NAMES = {"Console", "Text", "markup", "from_markup", "from_ansi", "render_markup", "rprint", "Markdown", "Syntax"}
CALLS = {"print", "input", "echo", "secho", "confirm", "prompt", "print_exception"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}


def printing(source: str) -> Iterator[str]:
    """What a module has that prints, or that makes markup of a text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rich":
            yield from (f"{node.module}.{each.name}" for each in node.names if each.name in NAMES)
            if node.module in ("rich", "rich.text", "rich.markup", "rich.prompt"):
                yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] in ("rich", "click", "curses"))
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if (called in CALLS and owner in ("", "typer", "click", "traceback")) or (
                called in ("write", "writelines") and owner.rpartition(".")[2] in STREAMS
            ):
                yield ast.unparse(node.func)
            for keyword in node.keywords:
                if keyword.arg == "markup" and ast.unparse(keyword.value) != "False":
                    yield "markup="
            if called == "TextColumn" and not any(keyword.arg == "markup" for keyword in node.keywords):
                yield "TextColumn without markup=False"


@pytest.mark.ci
def test_nothing_but_the_terminal_prints_or_makes_markup(root: Path) -> None:
    for package in ("flows", "refit", "tasks", "feature_store", "registry"):
        for path in sorted((root / package).rglob("*.py")):
            if (inside := path.relative_to(root)) != TERMINAL and inside not in CHILDREN:
                assert list(printing(path.read_text(encoding="utf-8"))) == [], inside


@pytest.mark.parametrize(
    "source",
    [
        "from rich.console import Console",
        "from rich import print",
        "from rich.text import Text",
        "from rich.markup import escape",
        "import rich",
        "print('x')",
        "import typer\ntyper.echo('x')",
        "import sys\nsys.stderr.write('x')",
        "sys.__stdout__.write('x')",
        "TextColumn('{task.fields[what]}')",
        "table.print('x', markup=True)",
    ],
)
def test_each_way_to_print_is_seen(source: str) -> None:
    assert list(printing(source))
