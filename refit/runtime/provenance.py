"""Where a model comes from: the commit, the patch of what was not committed, the versions of what computed it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from refit.errors import RefitError
from refit.files.artifacts import RUN, STATE, sha256

CODE = (".py", ".sql", ".yaml", ".yml", ".toml")  # endings of files that decide what a run computes
LARGEST_NEW_FILE = 1_000_000  # bytes; what is larger and not committed is data, not code
_CONFIG = ("GIT_CONFIG", "GIT_EXEC_PATH")  # of GIT_*, what names no repository
SOURCE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Commit:
    """The commit of a folder's repository, and what the working tree adds to it; both None outside of git."""

    hash: str | None
    patch: bytes | None
    left_out: tuple[str, ...] = ()  # new files too large to be code


def repository(project: Path) -> Path | None:
    """The top of the git repository that a project lies in; None where no folder above it has a `.git`.

    What `GIT_DIR` and the like say is left aside: they may mean another repository.

    Raises:
        RefitError: there is a `.git`, and git fails there, or takes another repository for the project's.
    """
    project = Path(project).resolve()
    place = next((folder for folder in (project, *project.parents) if os.path.lexists(folder / ".git")), None)
    if place is None:
        return None
    top = Path(_line(place, "rev-parse", "--show-toplevel"))
    if top.resolve() != place:
        raise RefitError(
            f"git passes over {place / '.git'} and takes {top} for the repository of {project}; "
            f"mend it (`git -C {place} status` says what is wrong), or remove it"
        )
    return place


def commit_hash(project: Path) -> str | None:
    """The commit that is checked out; None outside of git, or before the first commit.

    Raises:
        RefitError: the project lies in a repository, and git cannot say.
    """
    top = repository(project)
    return None if top is None else _head(top)


def _head(top: Path) -> str | None:
    done = _run(top, "rev-parse", "--verify", "-q", "HEAD^{commit}")
    if done.returncode == 0:
        return os.fsdecode(done.stdout).strip()
    done = _run(top, "log", "-1", "--format=%H")
    if b"does not have any commits yet" in done.stderr:
        return None
    raise _failure(top, done)


def commit(project: Path) -> Commit:
    """The commit with the patch of everything uncommitted, new files included; the index and objects stay untouched."""
    top = repository(project)
    if top is None or (head := _head(top)) is None:
        return Commit(None, None)
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
        prefixes = ("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false")  # as `git apply` expects them
        plain = ("--binary", "--no-ext-diff", "--no-textconv")
        patch = _git(top, *prefixes, "diff", "--cached", *plain, "HEAD", **environment)
    return Commit(head, patch or None, tuple(large))


def uncommitted_code(project: Path) -> tuple[str, ...] | None:
    """Files of code that are new or changed since the last commit, from the repository's top; None outside of git.

    Code is what ends in `CODE`, and `constraints.txt`; neither `dvc.lock` nor `run.yaml`, nor what runs put out. A
    submodule that differs, and a repository within this one, count whole; so does a file that git is to pass over.

    Raises:
        RefitError: the project lies in a repository, and git cannot say.
    """
    top = repository(project)
    if top is None:
        return None
    _head(top)  # of a broken one, `git status` says that all is new, or nothing
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none")
    status = _git(top, "status", *options)
    names = [os.fsdecode(entry)[3:] for entry in status.split(b"\0") if entry]
    listed = [os.fsdecode(entry) for entry in _git(top, "ls-files", "-v", "-z").split(b"\0") if entry]
    names += [entry[2:] for entry in listed if entry[0].islower() or (entry[0] == "S" and (top / entry[2:]).exists())]
    inside = Path(project).resolve().relative_to(top)
    outputs = tuple(f"{(inside / folder).as_posix()}/" for folder in (STATE, "data", "models", "reports"))
    return tuple(sorted({name for name in names if _is_code(top / name) and not name.startswith(outputs)}))


def untracked(project: Path, files: Iterable[Path]) -> tuple[str, ...] | None:
    """Those of some files that no commit holds, though git may be told to ignore them; None outside of git.

    A link counts as what it leads to, which may lie outside of the repository.

    Raises:
        RefitError: the project lies in a repository, and git cannot say.
    """
    if (top := repository(project)) is None:
        return None
    tracked = {os.fsdecode(name) for name in _git(top, "ls-files", "-z", "--cached").split(b"\0")}
    real = {path: path.resolve() for path in files}
    held = {path for path, at in real.items() if at.is_relative_to(top) and at.relative_to(top).as_posix() in tracked}
    return tuple(sorted(path.relative_to(Path(project)).as_posix() for path in real.keys() - held))


def _is_code(path: Path) -> bool:
    return path.is_dir() or path.name == "constraints.txt" or (path.suffix in CODE and path.name != RUN.name)


def release() -> str:
    """Refit's own version, as `refit --version` shows it; "unknown" where it was never installed."""
    try:
        return metadata.version("refit")
    except metadata.PackageNotFoundError:
        return "unknown"


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


def _git(folder: Path, *arguments: str, **environment: str) -> bytes:
    """The output of a git command.

    Raises:
        RefitError: it fails, with git's own words.
    """
    done = _run(folder, *arguments, **environment)
    if done.returncode:
        raise _failure(folder, done)
    return done.stdout


def git_environment() -> dict[str, str]:
    """The environment for git: without variables that mean another repository, in English, and locking nothing."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(_CONFIG)}
    return own | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", *arguments]
    try:
        return subprocess.run(
            command, cwd=folder, env={**git_environment(), **environment}, capture_output=True, check=False, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, b"", os.fsencode(str(error)))


def _failure(folder: Path, done: subprocess.CompletedProcess[bytes]) -> RefitError:
    said = " ".join(done.stderr.decode(errors="backslashreplace").split())[:500] or f"status {done.returncode}"
    return RefitError(
        f"{folder} is in git, and git fails there: {said}; mend that, for it has to be known which code a run uses"
    )
