"""`run.yaml`: the `as_of` and overrides of one run, beside the versioned intent in `params.yaml`, never rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tasks.artifacts import RUN, atomic, digest, sha256
from tasks.errors import UserError
from tasks.params import STAGES, Params, override, parse, read_yaml

SECTIONS = ("project", *STAGES, "registry")
SOURCE_ROOT = Path(__file__).resolve().parent.parent

# What decides a stage's result besides its inputs and params: a change in any of these makes the stage run again.
STAGE_CODE: dict[str, tuple[str, ...]] = {
    "ingest": ("tasks/ingest*.py", "tasks/sources*.py", "tasks/batches*.py"),
    "validate": ("tasks/validate*.py", "tasks/quarantine.py"),
    "featurize": ("tasks/featurize*.py", "tasks/profile.py", "feature_store"),
    "train": ("tasks/train*.py", "tasks/metrics.py", "tasks/learners"),
    "evaluate": (
        "tasks/evaluate*.py",
        "tasks/judging.py",
        "tasks/metrics.py",
        "tasks/learners",
        "registry/promotion.py",
    ),
    "register": ("tasks/register*.py", "tasks/verify.py"),
}


@dataclass(frozen=True)
class RunFile:
    """One run's own settings."""

    as_of: str = "latest"
    overrides: Mapping[str, Any] = field(default_factory=dict)  # "section.key" -> value


def read(project: Path) -> RunFile:
    """The settings in the project's `run.yaml`; the defaults where there is none."""
    path = project / RUN
    if not path.is_file():
        return RunFile()
    raw = read_yaml(path)
    overrides = {
        f"{section}.{key}": value
        for section, values in (raw.get("overrides") or {}).items()
        for key, value in (values or {}).items()
    }
    return RunFile(as_of=str(raw.get("as_of", "latest")), overrides=overrides)


def write(project: Path, run: RunFile) -> None:
    """Write `run.yaml`, unless it says the same already, so that DVC sees a change only where there is one."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for path, value in run.overrides.items():
        section, _, key = path.partition(".")
        if section not in sections or not key:
            raise UserError(f"--set {path}: expected SECTION.KEY=VALUE with a section out of {', '.join(SECTIONS)}")
        sections[section][key] = value
    content = {"as_of": run.as_of, "overrides": sections, "code": {stage: code_digest(stage) for stage in STAGES}}
    text = "# Written by each run; not versioned. `dvc repro` does again what it says.\n" + yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True
    )
    path = project / RUN
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic(path) as scratch:
            scratch.write_text(text, encoding="utf-8")


def params_of(project: Path) -> Params:
    """The project's params with this run's overrides applied.

    Raises:
        UserError: every problem of the file at once.
    """
    return check(project, read(project))


def check(project: Path, run: RunFile) -> Params:
    """The params that `run` would work with, without writing anything."""
    return parse(override(read_yaml(project / "params.yaml"), run.overrides))


@cache
def code_digest(stage: str) -> str:
    """Digest of the stage's code and of the pinned libraries: the dependency of projects that do not hold the code."""
    files = [path for pattern in STAGE_CODE[stage] for path in sorted(SOURCE_ROOT.glob(pattern))]
    sources = [inner for path in files for inner in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    constraints = SOURCE_ROOT / "constraints.txt"
    return digest([[p.name, sha256(p)] for p in [*sources, *([constraints] if constraints.is_file() else [])]])[:16]
