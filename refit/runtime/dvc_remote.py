"""What a project shares with other machines: pushes to and pulls from DVC's default remote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from refit.errors import RefitError, message_of
from refit.extras import install_extra
from refit.files.artifacts import RECEIPT
from refit.files.yaml_files import YamlTree, read_yaml
from refit.runtime.dvc_files import root_of
from refit.runtime.dvc_runner import repository
from registry.object_stores import s3_fault
from registry.secrets import redacted


def has_remote(project: Path) -> bool:
    """Whether DVC has a default remote to push to and pull from."""
    with repository(project) as repo:
        return bool(repo.config["core"].get("remote"))


def asked(project: Path) -> str | None:
    """The address of DVC's default remote, which has answered; None if there is none.

    Raises:
        RefitError: the remote does not answer, or the project is no DVC repository.
    """
    if not root_of(project):
        return None
    with repository(project) as repo:
        if not repo.config["core"].get("remote"):
            return None
        with _remote_faults(repo, "read"):
            remote = repo.cloud.get_remote_odb()
            remote.fs.exists(remote.path)  # a folder that the first push makes may be missing
            if fault := _bucket_fault(repo):
                raise fault
        return _address(repo)


def push(project: Path) -> str:
    """Push the outputs of every stage that has all of them here, and the run-cache, to the default remote.

    Returns:
        The `dvc.lock` of these stages, for `pull`.

    Raises:
        RefitError: the remote does not take it.
    """
    stages = _stages_here(project)
    with repository(project) as repo, _remote_faults(repo, "pushed to"):
        repo.push(targets=[*stages], run_cache=True)
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False, allow_unicode=True)


def _stages_here(project: Path) -> dict[str, YamlTree]:
    """The stages of `dvc.lock` whose outputs are all here: others are named that this folder has never had."""
    stages = read_yaml(project / "dvc.lock").get("stages") if (project / "dvc.lock").is_file() else None
    return {
        name: stage
        for name, stage in (stages or {}).items()
        if all((project / out["path"]).exists() for out in stage.get("outs") or ())
    }


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
        with repository(project) as repo, _remote_faults(repo, "pulled from"):
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
def _remote_faults(repo: Any, what: str) -> Iterator[None]:
    """Turn what DVC and its file systems raise inside the block into a one-line RefitError."""
    try:
        yield
    except Exception as error:
        raise RefitError(f"DVC's remote {_address(repo)} cannot be {what}: {_reason(repo, error)}") from error


def _address(repo: Any) -> str:
    name = repo.config["core"]["remote"]
    return redacted(str((repo.config["remote"].get(name) or {}).get("url", name)))


def _reason(repo: Any, error: Exception) -> str:
    if type(error).__name__ == "RemoteMissingDepsError" and "s3" in str(error):
        return f"a library is missing: {install_extra('s3')}"
    return redacted(s3_fault(error) or s3_fault(_bucket_fault(repo)) or message_of(error))


def _bucket_fault(repo: Any) -> Exception | None:
    """Return the error of the remote's bucket; DVC only counts what did not go there, or takes it for empty."""
    try:
        remote = repo.cloud.get_remote_odb()
        if remote.fs.protocol == "s3":
            remote.fs.fs.call_s3("list_objects_v2", Bucket=remote.path.partition("/")[0], MaxKeys=1)
    except Exception as error:
        return error
    return None
