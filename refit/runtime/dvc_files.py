"""The files of DVC in a project: where they are, and whether they are whole."""

from __future__ import annotations

import glob
import json
import re
from pathlib import Path

import psutil

from refit.errors import RefitError, UserError, unreadable
from refit.files.yaml_files import read_yaml
from refit.runtime import provenance

__all__ = [
    "check_lock_file",
    "check_text",
    "in_git",
    "is_yaml_mapping",
    "kept_elsewhere",
    "root_of",
    "rwlock_is_sound",
]


def in_git(project: Path) -> bool:
    """Whether the project lies in a git repository."""
    return provenance.repository(project) is not None


def root_of(project: Path) -> Path | None:
    """The folder with `.dvc` that the project lies in, or is; None if there is none."""
    return next((p for p in (project.resolve(), *project.resolve().parents) if (p / ".dvc").is_dir()), None)


def kept_elsewhere(missing: Path) -> str:
    """What brings a file or folder that is not here, or a folder above it; empty unless a `.dvc` file has it.

    A clone has only what git has. The last part of `missing` may be a pattern.
    """
    root = root_of(missing.parent)
    missing = missing.parent.resolve() / missing.name
    for path in (missing, *missing.parents):
        if root is None or path == root:
            break
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            break  # it is here: what is missing in it is of another name
        if files := glob.glob(f"{glob.escape(str(root))}/{path.relative_to(root)}.dvc"):  # noqa: PTH207 -- Path.glob fails on `**.dvc`
            remote = "`dvc pull` brings it from DVC's remote"
            if not _names_remote(root):
                remote += "; no remote is configured here: `dvc remote add -d NAME URL` first"
            return f"{Path(files[0]).name} says that DVC keeps it: {remote}"
    return ""


def _names_remote(root: Path) -> bool:
    """Whether the repository has a default remote; a user's own configuration of DVC is not asked."""
    configs = (root / ".dvc/config", root / ".dvc/config.local")
    return any(re.search(r"^\s*remote\s*=", c.read_text(errors="replace"), re.M) for c in configs if c.is_file())


def check_text(path: Path) -> None:
    """Check that a file is UTF-8: DVC would fail on it without naming the file."""
    try:
        path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {line} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(unreadable(path, error)) from None


def check_lock_file(project: Path) -> None:
    """Refuse a `dvc.lock` that is damaged, or nested so deeply that DVC's parser would crash the process."""
    try:
        read_yaml(project / "dvc.lock")
    except UserError as error:
        if (project / "dvc.lock").is_file():
            raise RefitError(f"{error}; `refit run` sets it aside, and brings stages back from the run-cache") from None


def is_yaml_mapping(path: Path) -> bool:
    """Whether a file can be read as YAML."""
    try:
        read_yaml(path)
    except UserError:
        return False
    return True


def rwlock_is_sound(path: Path) -> bool:
    """Whether every entry belongs to a process that still runs the same command."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = [*content.get("write", {}).values(), *(e for es in content.get("read", {}).values() for e in es)]
        return all(not entry or _runs(entry["pid"], entry["cmd"]) for entry in entries)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return False


def _runs(pid: int, command: str) -> bool:
    try:
        return command.split(" ", 1)[-1] in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
