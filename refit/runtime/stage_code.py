"""Digests the code that affects a stage's result, so that a change makes it run again.

This is all files that the stage imports, of Refit and of the project, and the defaults of its params.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from refit.config import STAGES, defaults, file_of
from refit.files.artifacts import digest, sha256

SOURCE_ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("refit", "tasks", "feature_store", "registry")

# The params that each stage depends on in dvc.yaml.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("project", "ingest", "featurize.label"),
    "validate": ("project", "validate", "ingest"),
    "featurize": ("project", "featurize", "ingest"),
    "train": ("train", "featurize.label", "registry.trusted_types"),
    "evaluate": ("project", "evaluate", "train.seed", "registry", "cost"),
    "register": ("project", "register", "registry"),
}
# Imported by every stage without affecting its result: names of files, checks of params, error messages, SQL
# quoting, logging to MLflow. The values of params, including defaults, are digested as values.
PLUMBING = (
    "feature_store/sql_text.py",
    "refit/__init__.py",
    *(
        f"refit/config/{module}.py"
        for module in (
            *("__init__", "cost", "drift", "evaluate", "featurize", "ingest", "project", "queries"),
            *("notify", "register", "registry", "resources", "retention", "section", "sinks", "validate"),
        )
    ),
    "refit/errors.py",
    "refit/extras.py",
    "refit/files/artifacts.py",
    "refit/files/deletion.py",
    "refit/files/scratch_folders.py",
    "refit/files/yaml_files.py",
    "refit/models/live_logging.py",
    "refit/models/run_content.py",
    "refit/models/run_logging.py",
    "refit/runtime/context.py",
    "refit/runtime/environments.py",
    "refit/runtime/memory.py",
    "refit/runtime/registry_store.py",
    "refit/runtime/run_file.py",
    "refit/runtime/stage_code.py",
    "refit/runtime/workers.py",
    "tasks/__init__.py",
)
# What sections derive from the params file: the query and steps of forecasts, metrics by task, arguments of learners.
COMPUTED: Mapping[str, tuple[str, ...]] = {
    "ingest": ("refit/config/forecasting.py",),
    "featurize": ("refit/config/forecasting.py",),
    "train": ("refit/config/metric_choice.py", "refit/config/train.py"),
    "evaluate": ("refit/config/metric_choice.py",),
}
CODE = (".py", ".j2", ".css", ".js")
# Folders that count as a whole: their modules are found by name at run time, or belong together.
FAMILIES = (
    "feature_store",
    "refit/evaluation/details",
    "refit/metrics",
    "refit/problems",
    "registry",
    "refit/explanations",
    "refit/learners",
    "refit/reports/model_card",
    "refit/reports/templates",
    "refit/sources",
    *(f"tasks/{stage}" for stage in STAGES),
)


@cache
def stage_code(stage: str) -> tuple[str, ...]:
    """The files of a stage, relative to the repository and sorted; a family is listed as its folder.

    >>> "tasks/ingest" in stage_code("ingest")
    True
    """
    files: set[str] = set()
    waiting = [f"tasks/{stage}/__init__.py"]
    waiting += [name for section in SECTIONS[stage] for name in COMPUTED.get(section.partition(".")[0], ())]
    while waiting:
        name = waiting.pop()
        family = next((folder for folder in FAMILIES if name.startswith(f"{folder}/")), None)
        if name.startswith(PLUMBING) or name in files or family in files:
            continue
        if family:
            files.add(family)
            waiting += [name for path in (SOURCE_ROOT / family).rglob("*.py") for name in _imports(path)]
            continue
        files.add(name)
        if not name.startswith("refit/config/"):  # they import SQL quoting, which affects no feature
            waiting += _imports(SOURCE_ROOT / name)
    return tuple(sorted(files))


@cache
def code_digest(stage: str) -> str:
    """Digest of the files of a stage, the defaults of its params, and the pinned libraries.

    Projects outside this repository depend on it.
    """
    files = [path for name in stage_code(stage) for path in _files(SOURCE_ROOT / name)]
    constraints = SOURCE_ROOT / "constraints.txt"
    if constraints.is_file():
        files.append(constraints)
    return digest([defaults_digest(stage), *([_relative(path), sha256(path)] for path in files)])[:16]


@cache
def defaults_digest(stage: str) -> str:
    """Digest of all defaults of the params that a stage depends on, whether a project sets them or not."""
    return digest({section: defaults(section) for section in SECTIONS[stage]})[:16]


def own_code(project: Path, names: Iterable[str]) -> list[Path]:
    """The project's files that some names refer to, and all project files that those import.

    Args:
        names: files, `file.py:Class`, modules, or import paths of classes; names outside the project are ignored.
    """
    files: set[Path] = set()
    waiting = [path for name in names if name for path in _own(project, file_of(name) or name)]
    while waiting:
        if (path := waiting.pop()) not in files:
            files.add(path)
            waiting += [each for name in _imported(path) for each in _own(project, name)]
    return sorted(files)


def _own(project: Path, name: str) -> Iterator[Path]:
    """The project files that run when a name is imported: its module and the packages above it."""
    if name.endswith(".py"):
        path = project / name
        if path.is_file():
            yield path
        return
    parts = name.split(".")
    if project == SOURCE_ROOT and parts[0] in PACKAGES:
        return
    for depth in range(1, len(parts) + 1):
        stem = project.joinpath(*parts[:depth])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file() and not _is_ours(project, path):
                yield path


def _is_ours(project: Path, path: Path) -> bool:
    """Whether a file is Refit's own, in a clone of its repository too: it counts with Refit's code."""
    ours = SOURCE_ROOT / path.relative_to(project)
    return path.relative_to(project).parts[0] in PACKAGES and ours.is_file() and ours.read_bytes() == path.read_bytes()


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.suffix in CODE) if path.is_dir() else [path]


@cache
def _imports(path: Path) -> list[str]:
    """The files of Refit that one of its files imports; cached, since families are part of several stages."""
    ours = [name for name in _imported(path) if name.split(".")[0] in PACKAGES]
    return [file for name in ours if (file := _module_file(name))]


def _imported(path: Path) -> set[str]:
    """Every name that a file imports; empty if it is not valid Python, which is reported when it runs."""
    names: set[str] = set()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return names
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _statements(parent: ast.AST) -> Iterator[ast.stmt]:
    """Every nested statement, at any depth; `ast.walk` would visit all expressions as well."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(parent, block, ())
        for node in inner if isinstance(inner, list) else ():  # the body of a lambda is not a list
            if isinstance(node, ast.stmt):
                yield node
            yield from _statements(node)


def _module_file(name: str) -> str | None:
    stem = SOURCE_ROOT / name.replace(".", "/")
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return _relative(path)
    return None


def _relative(path: Path) -> str:
    return path.relative_to(SOURCE_ROOT).as_posix()
