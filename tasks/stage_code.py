"""Which files of Refit decide a stage's result: all that it imports, so that a change of code makes it run again."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tasks.artifacts import digest, sha256
from tasks.params import STAGES

SOURCE_ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tasks", "feature_store", "registry")

# Read by every stage and deciding none: how files are named, params checked, errors told, runs shown in MLflow.
PLUMBING = tuple(
    f"tasks/{name}"
    for name in (
        "__init__.py",
        "artifacts.py",
        "context.py",
        "errors.py",
        "params/",
        "runfile.py",
        "stage_code.py",
        "tracking.py",
        "yaml_files.py",
    )
)
# A folder that counts as a whole: what is in it is found by name at run time, or belongs together.
FAMILIES = (
    "feature_store",
    "registry/metrics",
    "registry",
    "tasks/explaining",
    "tasks/learners",
    "tasks/pages",
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
    while waiting:
        name = waiting.pop()
        family = next((folder for folder in FAMILIES if name.startswith(f"{folder}/")), None)
        if name.startswith(PLUMBING) or name in found or family in found:
            continue
        if family:
            found.add(family)
            waiting += [name for path in (SOURCE_ROOT / family).glob("*.py") for name in _imports(path)]
            continue
        found.add(name)
        waiting += _imports(SOURCE_ROOT / name)
    return tuple(sorted(found))


@cache
def code_digest(stage: str) -> str:
    """Digest of the stage's files and of the pinned libraries: what projects outside this repository depend on."""
    files = [path for name in stage_code(stage) for path in _files(SOURCE_ROOT / name)]
    constraints = SOURCE_ROOT / "constraints.txt"
    if constraints.is_file():
        files.append(constraints)
    return digest([[_relative(path), sha256(path)] for path in files])[:16]


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _imports(path: Path) -> list[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = [name for name in names if name.split(".")[0] in PACKAGES]
    return [found for name in ours if (found := _module_file(name))]


def _module_file(name: str) -> str | None:
    stem = SOURCE_ROOT / name.replace(".", "/")
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return _relative(path)
    return None


def _relative(path: Path) -> str:
    return path.relative_to(SOURCE_ROOT).as_posix()
