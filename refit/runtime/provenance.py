"""Provenance of a model: the commit, the patch of uncommitted changes, and the versions of libraries."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from refit.errors import RefitError, cut
from refit.files.artifacts import (
    BATCHES,
    CANDIDATE,
    COMPARAND,
    FEATURE_MODELS,
    FEATURES,
    PREDICTIONS,
    QUARANTINE,
    RECEIPT,
    REPORTS,
    RUN,
    SNAPSHOT,
    STATE,
    TRAINING,
    VALIDATED,
    VALIDATION,
    WARM_START,
    sha256,
)

CODE = (
    ".py",
    ".j2",
    ".css",
    ".js",
    ".sql",
    ".yaml",
    ".yml",
    ".toml",
)  # suffixes of files that affect what a run computes
# Files and folders that a run itself writes, in git or not: no change of the code. `released.json` is people's.
WRITTEN_BY_RUNS = (
    *(Path("dvc.lock"), Path(".dvc"), Path("dvc_plots"), RUN, STATE, COMPARAND, WARM_START),
    *(BATCHES, SNAPSHOT, VALIDATED, FEATURE_MODELS, VALIDATION),
    *(QUARANTINE, FEATURES, PREDICTIONS),
    *(CANDIDATE, TRAINING, RECEIPT, REPORTS),
)
LARGEST_NEW_FILE = 1_000_000  # bytes; a larger file that is not committed is data, not code
_CONFIG = ("GIT_CONFIG", "GIT_EXEC_PATH")  # variables GIT_* that do not select a repository
SOURCE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Commit:
    """The commit of a repository and the patch of its working tree; both None outside git."""

    hash: str | None
    patch: bytes | None
    left_out: tuple[str, ...] = ()  # new files too large to be code


def repository(project: Path) -> Path | None:
    """The top folder of the project's git repository; None if neither it nor a folder above it has a `.git`.

    Variables such as `GIT_DIR` are ignored: they may select another repository.

    Raises:
        RefitError: there is a `.git`, but git fails there or selects another repository.
    """
    project = Path(project).resolve()
    folder = next((each for each in (project, *project.parents) if os.path.lexists(each / ".git")), None)
    if folder is None:
        return None
    top = Path(_line(folder, "rev-parse", "--show-toplevel"))
    if top.resolve() != folder:
        raise RefitError(
            f"git passes over {folder / '.git'} and takes {top} for the repository of {project}; "
            f"mend it (`git -C {folder} status` says what is wrong), or remove it"
        )
    return folder


def commit_hash(project: Path) -> str | None:
    """The commit that is checked out; None outside git, or before the first commit.

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
    """The commit with a patch of all uncommitted changes, including new files; index and objects are not modified.

    What runs write (`WRITTEN_BY_RUNS`) is left out: a run whose only change is `dvc.lock` used the committed code.
    """
    top = repository(project)
    if top is None or (head := _head(top)) is None:
        return Commit(None, None)
    names = [os.fsdecode(name) for name in _git(top, "ls-files", "-z", "--others", "--exclude-standard").split(b"\0")]
    inside = Path(project).resolve().relative_to(top)
    written = [inside / each for each in WRITTEN_BY_RUNS]
    new = [
        name
        for name in names
        if name and (top / name).is_file() and not any(Path(name).is_relative_to(each) for each in written)
    ]
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
        but = (f":(top,exclude,literal){each.as_posix()}" for each in written)
        patch = _git(top, *prefixes, "diff", "--cached", *plain, "HEAD", "--", ".", *but, **environment)
    return Commit(head, patch or None, tuple(large))


def uncommitted_code(project: Path) -> tuple[str, ...] | None:
    """Code files that are new or changed since the last commit, relative to the repository's top; None outside git.

    Code files have a suffix of `CODE` or are `constraints.txt`; `dvc.lock`, `run.yaml` and the outputs of runs do not
    count. A changed submodule or a nested repository counts as one file. Files that git is told to skip count too.

    Raises:
        RefitError: the project lies in a repository, and git cannot say.
    """
    top = repository(project)
    if top is None:
        return None
    _head(top)  # fails on a broken repository, for which `git status` lists everything or nothing
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none")
    status = _git(top, "status", *options)
    names = [os.fsdecode(entry)[3:] for entry in status.split(b"\0") if entry]
    listed = [os.fsdecode(entry) for entry in _git(top, "ls-files", "-v", "-z").split(b"\0") if entry]
    names += [entry[2:] for entry in listed if entry[0].islower() or (entry[0] == "S" and (top / entry[2:]).exists())]
    inside = Path(project).resolve().relative_to(top)
    outputs = tuple(f"{(inside / folder).as_posix()}/" for folder in (STATE, "data", "models", "reports"))
    return tuple(sorted({name for name in names if _is_code(top / name) and not name.startswith(outputs)}))


def untracked(project: Path, files: Iterable[Path]) -> tuple[str, ...] | None:
    """The files that git does not track, including ignored ones; None outside git.

    A link counts as its target, which may be outside the repository.

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


def processor() -> str:
    """The kind of processor, and the kernels that linear algebra takes on it: others round the last bits differently.

    For example "x86_64 Haswell".
    """
    import numpy  # noqa: F401  # brings the linear algebra that is asked
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    kernels = {each["architecture"] for each in threadpool_info() if each.get("architecture")}
    return " ".join([platform.machine(), *sorted(kernels)])


def constraints_digest() -> str | None:
    """Digest of the pinned requirements that Refit was installed from."""
    constraints = SOURCE_ROOT / "constraints.txt"
    return sha256(constraints) if constraints.is_file() else None


def requirements(kind: str, *, network: Sequence[str] = ()) -> list[str]:
    """The packages that a stored model of this kind of learner needs in addition to Refit, at the installed versions.

    Args:
        network: the libraries that it needs as a network, none if it is no network.
    """
    names = ["numpy", "pandas", "pyarrow", "pydantic", "pyyaml"]
    root = kind.replace(":", ".").split(".")[0]
    if network or root == "torch_tabular":
        names += network or ("torch", "safetensors")
    elif root == "policy":
        names += ("gymnasium", "safetensors")
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
        RefitError: the command fails; the message is git's.
    """
    done = _run(folder, *arguments, **environment)
    if done.returncode:
        raise _failure(folder, done)
    return done.stdout


def git_environment() -> dict[str, str]:
    """The environment for git: without variables that select another repository, in English, without optional locks."""
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
    said = cut(" ".join(done.stderr.decode(errors="backslashreplace").split()), 500) or f"status {done.returncode}"
    return RefitError(
        f"{folder} is in git, and git fails there: {said}; mend that, for it has to be known which code a run uses"
    )
