"""What README and docs tell people to type can be typed, and the errors that they explain are errors of Refit."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from refit.cli import main

PACKAGES = ("refit", "flows", "tasks", "registry", "feature_store")


def snippets(text: str) -> Iterator[str]:
    """The lines of a page's blocks that call `refit`, without comments, one command each."""
    for line in re.findall(r"^(?: {4})?((?:uv run )?refit [a-z].*)$", text, re.M):
        for command in re.split(r"&&|;|\|", line.partition("  #")[0]):
            if re.match(r"\s*(?:uv run )?refit [a-z-]+", command):
                yield command.strip().rstrip("\\").removeprefix("uv run ")


def unknown(command: str) -> str:
    """What a command line names that Refit does not have; empty if there is nothing."""
    words = shlex.split(command, comments=True)[1:]
    node: Any = typer.main.get_command(main.app)
    while words and words[0] in getattr(node, "commands", {}):
        node = node.commands[words.pop(0)]
    if hasattr(node, "commands"):
        return f"no command {words[:1]}"
    options = {name for each in node.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    return ", ".join(word for word in given if word not in options)


def pages(root: Path) -> list[Path]:
    return [
        root / "README.md",
        root / "CONTRIBUTING.md",
        *(root / "docs").glob("*.md"),
        *(root / "examples").glob("**/*.md"),
    ]


def test_every_command_in_readme_docs_and_examples_exists_with_its_options(root: Path) -> None:
    typed = [(path.name, command) for path in pages(root) for command in snippets(path.read_text(encoding="utf-8"))]
    assert len(typed) > 80
    assert [(name, command, fault) for name, command in typed if (fault := unknown(command))] == []


@pytest.mark.parametrize(
    "command", ["refit rum", "refit run --seed 1", "refit quarantine lsit", "refit drift --as-off now"]
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert unknown(command)


def test_every_error_on_the_page_of_errors_is_one_that_refit_prints(root: Path) -> None:
    """The texts of the code, in which a long line is often two literals."""
    code = "".join(path.read_text(encoding="utf-8") for package in PACKAGES for path in (root / package).rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    rows = re.findall(
        r"^\| `([^`]+)` \| (.*) \|$", (root / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.M
    )
    assert len(rows) > 20
    assert [words for words, _ in rows if words not in code] == []


def test_the_readme_is_one_screen(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 90
    assert "docs/tutorial.md" in text


@pytest.mark.slow
def test_the_tutorial_goes_from_a_csv_to_a_retraining_by_drift(root: Path, tmp_path: Path) -> None:
    text = (root / "docs/tutorial.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "orders.py").write_text(program, encoding="utf-8")
    steps = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    script = "\n".join(["set -e", *(f"echo '== {number}'\n{step}" for number, step in enumerate(steps))])
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    printed = re.split(r"^== \d+\n", done.stdout, flags=re.M)[1:]
    assert len(printed) == len(steps) == 8
    _, made, first, champion, drift, second, history, back = printed
    assert "refit run" in made
    assert "version 1 is champion" in first
    assert "shop version 1" in champion
    assert re.search(r"^verdict +retrain$", drift, re.M)
    assert "performance: " in drift
    assert "0 of 6 columns moved" in drift
    assert "version 2 is champion" in second
    assert history.count("  promote ") == 2
    assert "shop version 1" in back
