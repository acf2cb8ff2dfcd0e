"""What a project shares with other machines: pushes to and pulls from DVC's default remote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refit.errors import RefitError, message_of
from refit.files.artifacts import RECEIPT
from refit.runtime.dvc_runner import repository


def has_remote(project: Path) -> bool:
    """Whether DVC has a default remote to push to and pull from."""
    with repository(project) as repo:
        return bool(repo.config["core"].get("remote"))


def push(project: Path) -> bool:
    """Push what `dvc.lock` names, and the run-cache, to the default remote; returns False if there is none.

    Raises:
        RefitError: the remote does not take it.
    """
    if not has_remote(project):
        return False
    with repository(project) as repo, _remote_faults("pushed to"):
        repo.push(run_cache=True)
    return True


def pull(project: Path, lock: bytes | None = None) -> None:
    """Bring what `dvc.lock` names, and the run-cache, from the default remote.

    Args:
        lock: what `dvc.lock` becomes, if all that it names is there.

    Raises:
        RefitError: the remote cannot be read, or lacks an object; `dvc.lock` is as it was.
    """
    file = project / "dvc.lock"
    before = file.read_bytes() if file.is_file() else None
    try:
        if lock is not None:
            file.write_bytes(lock)
        with repository(project) as repo, _remote_faults("pulled from"):
            repo.fetch(run_cache=True)
            repo.checkout(force=True, allow_missing=True)
            outputs = [out for out in repo.index.outs if out.hash_info]
            # `register` writes the receipt after the push, and without it looks into the registry
            missing = [str(out) for out in outputs if not out.exists and str(out) != str(RECEIPT)]
            if missing:
                raise RefitError(f"it lacks {', '.join(missing[:3])}")
    except BaseException:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(before)
        raise


@contextmanager
def _remote_faults(what: str) -> Iterator[None]:
    """Turn what DVC and its file systems raise inside the block into a one-line RefitError."""
    try:
        yield
    except Exception as error:
        raise RefitError(f"DVC's remote cannot be {what}: {message_of(error)}") from error
