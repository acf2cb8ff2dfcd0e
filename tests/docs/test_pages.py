"""What README and docs tell people to type can be typed, and the errors that they explain are errors of Refit."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from refit.cli import main
from refit.config.schema import params_schema

SCHEMA = params_schema()
APP = typer.main.get_command(main.app)
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
    node: Any = APP
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


def settings_of(text: str) -> Iterator[dict[str, Any]]:
    """The blocks of YAML of a page, and those of an indented block that begins with a section of the params."""
    fenced = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    text = re.sub(
        r"```.*?```|^ {4}(?:refit|git|dvc) [^\n]*", "", text, flags=re.DOTALL | re.M
    )  # also commands in between
    indented = re.findall(r"((?:^ {4}.*\n|^\n)+)", text, re.M)
    starts = tuple(f"{section}:" for section in SCHEMA["properties"])
    for block in (*fenced, *(each for each in map(textwrap.dedent, indented) if each.strip().startswith(starts))):
        if isinstance(content := yaml.safe_load(block), dict) and content.keys() <= SCHEMA["properties"].keys():
            yield content


def unknown_keys(value: Any, *schemas: Any) -> Iterator[str]:
    """Keys that no kind of the section at this place has; below a place of any content, nothing is unknown."""
    found = [each for schema in schemas for each in resolved(schema)]
    if isinstance(value, list):
        for each in value:
            yield from unknown_keys(each, *(schema["items"] for schema in found if "items" in schema))
    elif isinstance(value, dict) and found:
        for name, inner in value.items():
            key = "on" if name is True else name  # YAML 1.1 takes the word for true; ours does not
            places = [schema["properties"][key] for schema in found if key in schema.get("properties", {})]
            places += [schema["additionalProperties"] for schema in found if schema.get("additionalProperties")]
            if not places and all("properties" in schema for schema in found if schema.get("type") == "object"):
                yield str(key)
            yield from unknown_keys(inner, *(place for place in places if place is not True))


def resolved(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema without references, or each of its alternatives."""
    if "properties" in schema:
        yield schema
    elif "$ref" in schema:
        yield from resolved(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    elif parts := [part for name in ("anyOf", "oneOf", "allOf") for part in schema.get(name, ())]:
        yield from (each for part in parts for each in resolved(part))
    else:
        yield schema


def test_every_setting_that_readme_docs_and_examples_show_is_a_key_of_the_params(root: Path) -> None:
    shown = [(path.name, each) for path in pages(root) for each in settings_of(path.read_text(encoding="utf-8"))]
    assert len(shown) > 25
    assert [(name, wrong) for name, each in shown if (wrong := list(unknown_keys(each, SCHEMA)))] == []


def test_a_setting_that_does_not_exist_is_noticed() -> None:
    text = "Set\n\n    train:\n      thresholds: {by: f1}\n      threshold: {buy: f1}\n"
    assert [list(unknown_keys(each, SCHEMA)) for each in settings_of(text)] == [["thresholds", "buy"]]


def test_every_python_snippet_is_python_and_imports_what_is_there(root: Path) -> None:
    """With a prompt they are run; without one they are fragments of a project."""
    blocks = [
        (path.name, textwrap.dedent(block))
        for path in pages(root)
        for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(blocks) > 5
    for name, block in blocks:
        if ">>>" in block:
            example = doctest.DocTestParser().get_doctest(block, {}, name, None, 0)
            assert doctest.DocTestRunner().run(example).failed == 0, name
            continue
        for node in ast.walk(ast.parse(block, name)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
                module = importlib.import_module(str(node.module))
                assert [each.name for each in node.names if not hasattr(module, each.name)] == [], name


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
    steps = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    script = "\n".join(["set -e", *(f"echo '== {number}'\n{step}" for number, step in enumerate(steps))])
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW", "REFIT"))}
    (home := tmp_path / "home").mkdir()  # as on a machine where nothing of it ever ran
    env |= {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (work := tmp_path / "work").mkdir()
    (work / "orders.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", script], cwd=work, env=env, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    printed = re.split(r"^== \d+\n", done.stdout, flags=re.M)[1:]
    assert len(printed) == len(steps) == 8
    _, made, first, champion, drift, second, history, back = printed
    assert "refit run" in made
    assert "version 1 is champion" in first
    assert "shop version 1" in champion
    assert re.search(r"^verdict +retrain *$", drift, re.M)
    assert "performance: " in drift
    assert "0 of 6 columns moved" in drift
    assert "version 2 is champion" in second
    assert history.count("  promote ") == 2
    assert "shop version 1" in back


def test_the_glossary_is_in_alphabetical_order(root: Path) -> None:
    terms = re.findall(r"^\*\*`?([^*`]+)", (root / "docs/glossary.md").read_text(encoding="utf-8"), re.M)
    letters = [re.sub("[^a-z]", "", term.lower()) for term in terms]
    assert len(letters) > 50
    assert letters == sorted(letters)
