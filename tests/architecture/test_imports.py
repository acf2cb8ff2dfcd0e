"""No module imports itself by way of another, lazily or for types alone, and any can be the first one imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGES = ("flows", "refit", "tasks", "feature_store", "registry")


def dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, modules: set[str]) -> set[str]:
    """Our modules that a file imports anywhere in it; a name that is no module counts as the one it is taken from."""
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules else str(node.module) for name in inner}
    return names & modules


@pytest.mark.ci
def test_no_module_imports_itself_by_way_of_another(root: Path) -> None:
    paths = {dotted(path, root): path for package in PACKAGES for path in (root / package).rglob("*.py")}
    graph = TopologicalSorter({name: imports(path, set(paths)) - {name} for name, path in paths.items()})
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.slow
def test_every_module_can_be_imported_first(root: Path) -> None:
    modules = [
        dotted(path, root)
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        if path.stem != "__main__"
    ]
    script = (
        "import importlib, sys\n"
        f"ours = {PACKAGES}\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] in ours]: del sys.modules[loaded]\n"
        "    try: importlib.import_module(name)\n"
        "    except Exception as error: print(name, repr(error))\n"
    )
    command = [sys.executable, "-c", script, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == ""
