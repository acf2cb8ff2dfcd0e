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

from tasks.artifacts import sha256

SOURCE_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Commit:
    """The commit of a folder's repository, and what the working tree adds to it; both None outside of git."""

    hash: str | None
    patch: bytes | None


def commit_hash(project: Path) -> str | None:
    """The commit that is checked out; None outside of git, or before the first commit."""
    return _git(project, "rev-parse", "--verify", "-q", "HEAD").decode().strip() or None


def commit(project: Path) -> Commit:
    """The commit with the patch of everything uncommitted, new files included; the index and objects stay untouched."""
    head = commit_hash(project)
    if head is None:
        return Commit(None, None)
    with tempfile.TemporaryDirectory() as scratch:
        objects = Path(os.fsdecode(_git(project, "rev-parse", "--git-path", "objects")).strip())
        environment = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((project / objects).resolve()),
        }
        index = project / os.fsdecode(_git(project, "rev-parse", "--git-path", "index")).strip()
        Path(scratch, "objects").mkdir()
        if index.is_file():
            shutil.copy2(index, environment["GIT_INDEX_FILE"])
        _git(project, "add", "--all", ":/", **environment)
        return Commit(head, _git(project, "diff", "--cached", "--binary", "HEAD", **environment) or None)


def constraints_digest() -> str | None:
    """Digest of the pinned resolution that Refit was installed from."""
    constraints = SOURCE_ROOT / "constraints.txt"
    return sha256(constraints) if constraints.is_file() else None


def requirements(kind: str) -> list[str]:
    """What a stored model of a learner's kind needs besides Refit itself, pinned to what is installed."""
    names = ["numpy", "pandas", "pyarrow", "pydantic", "pyyaml"]
    root = kind.split(".")[0]
    if root == "torch_tabular":
        names += ["torch", "safetensors"]
    elif root != "baseline":
        names += ["scikit-learn", "skops", *([] if root == "sklearn" else _distributions().get(root, []))]
    return [f"{name}=={metadata.version(name)}" for name in dict.fromkeys(names)]


@cache
def _distributions() -> dict[str, list[str]]:
    return {module: list(names) for module, names in metadata.packages_distributions().items()}


def _git(project: Path, *arguments: str, **environment: str) -> bytes:
    """The output of a git command; empty where git or the repository is missing, or has nothing to say."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, env={**os.environ, **environment}, capture_output=True, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""
