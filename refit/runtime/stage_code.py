"""What of Refit and of a project decides a stage's result, so that a change makes it run again: all files that it
imports, and the defaults of its params.
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
# Read by every stage and deciding none: how files are named, params checked, errors told, runs shown in MLflow. The
# values of params, defaults among them, are digested as values.
PLUMBING = (
    "refit/__init__.py",
    "refit/config/__init__.py",
    "refit/config/data.py",
    "refit/config/learning.py",
    "refit/config/monitoring.py",
    "refit/config/queries.py",
    "refit/config/section.py",
    "refit/errors.py",
    "refit/files/artifacts.py",
    "refit/files/yaml_files.py",
    "refit/models/run_logging.py",
    "refit/runtime/context.py",
    "refit/runtime/run_file.py",
    "refit/runtime/stage_code.py",
    "tasks/__init__.py",
)
# What sections compute out of what is written: the query and steps of forecasts, metrics by task, arguments in place.
COMPUTED: Mapping[str, tuple[str, ...]] = {
    "ingest": ("refit/config/forecasting.py",),
    "featurize": ("refit/config/forecasting.py",),
    "train": ("refit/config/metric_choice.py", "refit/config/training.py"),
    "evaluate": ("refit/config/metric_choice.py",),
}
# A folder that counts as a whole: what is in it is found by name at run time, or belongs together.
FAMILIES = (
    "feature_store",
    "refit/metrics",
    "registry",
    "refit/explanations",
    "refit/learners",
    "refit/reports/model_card",
    *(f"tasks/{stage}" for stage in STAGES),
)


@cache
def stage_code(stage: str) -> tuple[str, ...]:
    """The stage's files, relative to the repository and sorted; a family that is found by name counts as its folder.

    >>> "tasks/ingest" in stage_code("ingest")
    True
    """
    found: set[str] = set()
    waiting = [f"tasks/{stage}/__init__.py"]
    waiting += [name for section in SECTIONS[stage] for name in COMPUTED.get(section.partition(".")[0], ())]
    while waiting:
        name = waiting.pop()
        family = next((folder for folder in FAMILIES if name.startswith(f"{folder}/")), None)
        if name.startswith(PLUMBING) or name in found or family in found:
            continue
        if family:
            found.add(family)
            waiting += [name for path in (SOURCE_ROOT / family).rglob("*.py") for name in _imports(path)]
            continue
        found.add(name)
        if not name.startswith("refit/config/"):  # they borrow how SQL is written, which no feature hangs on
            waiting += _imports(SOURCE_ROOT / name)
    return tuple(sorted(found))


@cache
def code_digest(stage: str) -> str:
    """Digest of the stage's files, of the defaults of its params, and of the pinned libraries: what projects outside
    this repository depend on.
    """
    files = [path for name in stage_code(stage) for path in _files(SOURCE_ROOT / name)]
    constraints = SOURCE_ROOT / "constraints.txt"
    if constraints.is_file():
        files.append(constraints)
    return digest([defaults_digest(stage), *([_relative(path), sha256(path)] for path in files)])[:16]


@cache
def defaults_digest(stage: str) -> str:
    """Digest of every default of the params that the stage depends on, whether a project states them or not."""
    return digest({section: defaults(section) for section in SECTIONS[stage]})[:16]


def own_code(project: Path, names: Iterable[str]) -> list[Path]:
    """The project's own files that some names mean, and all of its files that those import.

    Args:
        names: a file, `file.py:Class`, a module, or a class by its import path; those that lie elsewhere mean nothing.
    """
    found: set[Path] = set()
    waiting = [path for name in names for path in _own(project, file_of(name) or name)]
    while waiting:
        if (path := waiting.pop()) not in found:
            found.add(path)
            waiting += [each for name in _imported(path) for each in _own(project, name)]
    return sorted(found)


def _own(project: Path, name: str) -> Iterator[Path]:
    """The files of a project that are run where a name is imported: of the module, and of the packages it lies in."""
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
        yield from (path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file())


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@cache
def _imports(path: Path) -> list[str]:
    """The files of Refit that one of its files imports; families are part of several stages, and parsed once."""
    ours = [name for name in _imported(path) if name.split(".")[0] in PACKAGES]
    return [found for name in ours if (found := _module_file(name))]


def _imported(path: Path) -> set[str]:
    """Every name that a file imports; none where it is no Python, which is said where it is run."""
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
    """Every statement within, at any depth; `ast.walk` would go through all expressions as well."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(parent, block, ())
        for node in inner if isinstance(inner, list) else ():  # the body of a lambda is no list
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
