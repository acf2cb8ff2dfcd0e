"""Where a model comes from: the commit, the patch of what was not committed, the versions of what computed it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from tasks.artifacts import RUN, STATE, sha256

CODE = (".py", ".sql", ".yaml", ".yml", ".toml")  # endings of files that decide what a run computes
LARGEST_NEW_FILE = 1_000_000  # bytes; what is larger and not committed is data, not code
SOURCE_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Commit:
    """The commit of a folder's repository, and what the working tree adds to it; both None outside of git."""

    hash: str | None
    patch: bytes | None
    left_out: tuple[str, ...] = ()  # new files too large to be code


def commit_hash(project: Path) -> str | None:
    """The commit that is checked out; None outside of git, or before the first commit."""
    return _line(project, "rev-parse", "--verify", "-q", "HEAD") or None


def commit(project: Path) -> Commit:
    """The commit with the patch of everything uncommitted, new files included; the index and objects stay untouched."""
    head = commit_hash(project)
    if head is None:
        return Commit(None, None)
    top = Path(_line(project, "rev-parse", "--show-toplevel"))
    names = [os.fsdecode(name) for name in _git(top, "ls-files", "-z", "--others", "--exclude-standard").split(b"\0")]
    new = [name for name in names if name and (top / name).is_file()]
    large = [name for name in new if (top / name).stat().st_size > LARGEST_NEW_FILE]
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(top / _line(top, "rev-parse", "--git-path", "objects")),
        }
        Path(scratch, "objects").mkdir()
        if (index := top / _line(top, "rev-parse", "--git-path", "index")).is_file():
            shutil.copy2(index, environment["GIT_INDEX_FILE"])
        _git(top, "add", "--update", **environment)
        for name in sorted(set(new) - set(large)):
            _git(top, "add", "--", name, **environment)
        patch = _git(top, "diff", "--cached", "--binary", "HEAD", **environment)
    return Commit(head, patch or None, tuple(large))


def uncommitted_code(project: Path) -> tuple[str, ...] | None:
    """Files of code that are new or changed since the last commit, from the repository's top; None outside of git.

    Code is what ends in `CODE`, and `constraints.txt`; neither `dvc.lock` nor `run.yaml`, nor what runs put out.
    """
    top = _line(project, "rev-parse", "--show-toplevel")
    if not top:
        return None
    status = _git(Path(top), "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    names = [os.fsdecode(entry)[3:] for entry in status.split(b"\0") if entry]
    inside = Path(project).resolve().relative_to(Path(top).resolve())
    outputs = tuple(f"{(inside / folder).as_posix()}/" for folder in (STATE, "data", "models", "reports"))
    return tuple(sorted(name for name in names if _is_code(name) and not name.startswith(outputs)))


def _is_code(name: str) -> bool:
    path = Path(name)
    return path.name == "constraints.txt" or (path.suffix in CODE and path.name != RUN.name)


def constraints_digest() -> str | None:
    """Digest of the pinned resolution that Refit was installed from."""
    constraints = SOURCE_ROOT / "constraints.txt"
    return sha256(constraints) if constraints.is_file() else None


def requirements(kind: str) -> list[str]:
    """What a stored model of a learner's kind needs besides Refit itself, pinned to what is installed."""
    names = ["numpy", "pandas", "pyarrow", "pydantic", "pyyaml"]
    root = kind.replace(":", ".").split(".")[0]
    if root == "torch_tabular":
        names += ["torch", "safetensors"]
    elif root in ("lightgbm", "xgboost"):
        names += _distributions().get(root, [])
    elif root != "baseline":
        names += ["scikit-learn", "skops", *([] if root == "sklearn" else _distributions().get(root, []))]
    return [f"{name}=={metadata.version(name)}" for name in dict.fromkeys(names)]


@cache
def _distributions() -> dict[str, list[str]]:
    return {module: list(names) for module, names in metadata.packages_distributions().items()}


def _line(folder: Path, *arguments: str) -> str:
    return os.fsdecode(_git(folder, *arguments)).strip()


def _git(project: Path, *arguments: str, **environment: str) -> bytes:
    """The output of a git command; empty where git or the repository is missing, or has nothing to say."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, env={**os.environ, **environment}, capture_output=True, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""
