"""Runs stages through DVC, or skips them if nothing changed; the only module that imports dvc."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from refit.errors import (
    RefitError,
    Terminated,
    UserError,
    is_interrupted,
    machine_fault,
    message_of,
    refused_by_the_system,
)
from refit.files.artifacts import STATE
from refit.files.deletion import is_inside
from refit.files.yaml_files import parse_yaml, read_yaml
from refit.runtime.dvc_cache import remove_half_copies, verified
from refit.runtime.dvc_files import check_lock_file, check_text, in_git, is_yaml_mapping, root_of, rwlock_is_sound
from refit.runtime.dvc_inputs import refuse_pipes
from refit.runtime.stage_faults import fault, fault_of_dvc, own_error

_WITHOUT_GIT = "    no_scm = true"
_SEAM = "cmd_run"  # the one private name of DVC that Refit depends on, in dvc.stage.run
_turns = threading.RLock()  # DVC works in the working directory, so the threads of a process take turns in it
Outcome = Literal["executed", "restored", "unchanged"]


def run_stage(
    project: Path,
    stage: str,
    function: Callable[[], None],
    *,
    force: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Outcome:
    """Run a stage through DVC's own machinery, calling `function` in this process where DVC would start a shell.

    DVC still checks for changes, removes old outputs, and handles the run-cache and the lock file. If a version of DVC
    lacks the replaced call, it runs the stage's command in a subprocess, with the same result; restored stages are then
    reported as executed too, since they cannot be distinguished.

    Objects restored from the run-cache are checked against their digests, which DVC itself does not do: a damaged
    object is dropped, and the stage runs.

    Args:
        say: called with a line about each damaged object.

    Raises:
        RefitError: the stage failed, an input changed while it ran, or DVC refused to run it.
    """
    calls: list[bool] = []
    raised: list[Exception] = []  # by the stage, not by DVC

    def in_process(dvc_stage: Any, dry: bool = False, run_env: Any = None) -> None:
        calls.append(True)
        before = _inputs(dvc_stage)
        try:
            function()
        except Exception as error:
            raised.append(error)
            raise
        after = _inputs(dvc_stage)
        if changed := sorted(name for name in before if before[name] != after.get(name)):
            raise RefitError(f"{changed[0]} changed while stage {stage} ran; its result is not kept: run again")

    with (
        repository(project) as repo,
        _seam(in_process) as in_this_process,
        nullcontext() if in_this_process else _own_commands_first(),
        verified(repo, say),
    ):
        started, ran = time.time(), None
        try:
            refuse_pipes(repo, stage)
            ran = repo.reproduce(stage, single_item=True, force=force)
        except Exception as error:
            if is_interrupted(error):
                raise (Terminated() if Terminated.was_asked else KeyboardInterrupt()) from error
            if (own := own_error(error)) is not None:
                raise own from own.__cause__  # its cause decides whether the stage is retried
            raise (fault(error, stage) if raised else fault_of_dvc(error, stage)) from error
        finally:
            if ran is None:
                _put_back(repo, stage)
            if remove_half_copies(repo, since=started):  # DVC continues after a failed copy
                say(f"{stage}: its result could not be copied into DVC's cache (disk full?); it runs again next time")
    if not ran:
        return "unchanged"
    return "executed" if calls or not in_this_process else "restored"


def stale(project: Path) -> dict[str, list[str]]:
    """The stages that would run now, each with its reasons."""
    check_lock_file(project)
    with repository(project) as repo:
        try:
            refuse_pipes(repo, "dvc.yaml")
            status = repo.status(targets=["dvc.yaml"])
        except RefitError:
            raise
        except Exception as error:
            refusal = refused_by_the_system(error) if isinstance(error, OSError) else None
            raise RefitError(f"DVC cannot say what is stale: {refusal or message_of(error)}") from error
    return {
        address.rpartition(":")[2]: [reason for entry in entries for reason in _format_reasons(entry)]
        for address, entries in status.items()
    }


def recorded(project: Path) -> set[str]:
    """The stages whose last run `dvc.lock` records."""
    lock = project / "dvc.lock"
    return set(read_yaml(lock).get("stages") or ()) if lock.is_file() else set()


def initialise(project: Path) -> None:
    """Make the project a DVC repository, unless it is inside one: without analytics, with copies by reflink."""
    if not root_of(project):
        from dvc.repo import Repo

        _quiet()
        git = in_git(project)
        with _environment(DVC_SITE_CACHE_DIR=str(_private_folder(project))):  # `init` takes no configuration
            Repo.init(str(project), no_scm=not git, subdir=git).close()
        lines = [
            "[core]",
            "    analytics = false",
            *([] if git else [_WITHOUT_GIT]),
            "[cache]",
            '    type = "reflink,copy"',
        ]
        (project / ".dvc/config").write_text("\n".join(lines) + "\n")
        (project / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    ignored = project / ".dvcignore"
    check_text(ignored)
    if not ignored.is_file() or ".refit" not in ignored.read_text(encoding="utf-8").split():
        with ignored.open("a") as file:
            file.write(
                "# Models are kept with the dvc.yaml that made them; DVC is not to take it for a pipeline.\n.refit\n"
            )


def repair(project: Path) -> list[str]:
    """Repair DVC's own files after a killed run, and return a message for each. The caller holds the project's lock.

    A damaged `dvc.lock` is set aside (the run-cache restores the stages); a damaged or stale `rwlock` is removed.
    """
    done: list[str] = []
    config = project / ".dvc/config"
    check_text(config)
    if config.is_file() and _WITHOUT_GIT in config.read_text(encoding="utf-8") and in_git(project):
        text = config.read_text(encoding="utf-8").replace(_WITHOUT_GIT + "\n", "")
        config.write_text(text, encoding="utf-8")
        done.append("the project is in git by now: DVC may use it")
    lock_file = project / "dvc.lock"
    if lock_file.is_file() and not is_yaml_mapping(lock_file):
        backup = project / STATE / f"dvc.lock.torn-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        backup.parent.mkdir(parents=True, exist_ok=True)
        lock_file.replace(backup)
        done.append(
            f"dvc.lock was torn: set aside as {backup.relative_to(project)}; stages come back from the run-cache"
        )
    root = root_of(project)
    rwlock = root / ".dvc/tmp/rwlock" if root else None
    if rwlock and rwlock.is_file() and not rwlock_is_sound(rwlock):
        rwlock.unlink()
        where = rwlock.relative_to(root or project)
        done.append(f"DVC's list of files in use ({where}) was of a run that was cut off: removed")
    return done


class Cache:
    """DVC's cache of a project, while other DVC commands are locked out."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self._objects = Path(repo.cache.local.path)

    @property
    def shared(self) -> bool:
        """Whether it is outside the repository, so that other checkouts may use it."""
        return not self._objects.resolve().is_relative_to(Path(self._repo.root_dir).resolve())

    def unused(self, locks: Mapping[str, bytes]) -> list[Path]:
        """Its files that are not referenced by the workspace, a commit, an experiment, or one of `locks`.

        Args:
            locks: contents of `dvc.lock` files, whose data must stay, by the name of their owner for errors.

        Raises:
            RefitError: a commit or a lock file cannot be read, so the files that it needs are unknown.
        """
        from dvc.exceptions import DvcException
        from dvc.scm import NoSCM

        history = not isinstance(self._repo.scm, NoSCM)
        try:
            used_objects = self._repo.used_objs(all_commits=history, all_experiments=history, force=True)
        except DvcException as error:
            raise RefitError(f"what DVC's cache is needed for cannot be determined: {message_of(error)}") from error
        used = {str(each.value) for objects in used_objects.values() for each in objects if each.value}
        for owner, lock in locks.items():
            try:
                used |= self._named(parse_yaml(lock.decode(), "dvc.lock") or {})
            except (UserError, ValueError, LookupError, TypeError, AttributeError) as error:
                why = f"damaged ({message_of(error)}), so what it needs is unknown"
                raise RefitError(f"the dvc.lock of {owner} is {why}: restore it, and run again") from None
        objects = [path for path in self._objects.glob("??/*") if path.parent.name + path.name not in used]
        runs = [path for path in Path(self._repo.stage_cache.cache_dir).glob("??/*/*") if not self._runs(path) <= used]
        return [path for path in (*objects, *runs) if is_inside(Path(self._repo.root_dir), path)]

    def _named(self, lock: Any) -> set[str]:
        """The objects that a lock file references, including those in its folders."""
        entries = [
            each
            for stage in (lock.get("stages") or {}).values()
            for kind in ("deps", "outs")
            for each in stage.get(kind) or ()
        ]
        named = {str(each["md5"]) for each in entries if each.get("md5")}
        for name in [name for name in named if name.endswith(".dir")]:
            if (folder := self._objects / name[:2] / name[2:]).is_file():
                named |= {str(each["md5"]) for each in json.loads(folder.read_text(encoding="utf-8"))}
        return named

    def _runs(self, path: Path) -> set[str]:
        """The outputs that an entry of the run-cache restores."""
        try:
            return {str(out["md5"]) for out in read_yaml(path)["outs"]}
        except (UserError, KeyError, TypeError):
            return {"torn"}


@contextmanager
def cache(project: Path) -> Iterator[Cache | None]:
    """DVC's cache, under DVC's lock; None if the project is not a DVC repository."""
    if not root_of(project):
        yield None
        return
    check_lock_file(project)
    with repository(project) as repo, repo.lock:
        yield Cache(repo)


@lru_cache(maxsize=4)
def objects_of(project: Path) -> Path | None:
    """The folder of the project's objects in DVC's cache; None if the project is not a DVC repository."""
    if not root_of(project):
        return None
    with repository(project) as repo:
        return Path(repo.cache.local.path).resolve()


def _private_folder(project: Path) -> Path:
    """The folder of DVC's record of file digests, closed to other users.

    DVC's own place, /var/tmp/dvc, may be written by every user of the machine, and DVC believes what it finds there.
    """
    (project / STATE).mkdir(mode=0o700, exist_ok=True)
    folder = project / STATE / "dvc"
    if os.path.expandvars(folder) != str(folder):  # DVC would replace `$NAME` in the name of a folder
        folder = Path.home() / ".cache/refit/dvc"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def repository(project: Path) -> Iterator[Any]:
    """DVC's view of a project, in whose folder this process works within the block."""
    if not root_of(project):
        raise UserError(f"{project} is not a DVC repository; `refit init {project}` makes it one")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    _quiet()
    for folder in {project, root_of(project) or project}:
        check_text(folder / ".dvcignore")
    try:
        core: dict[str, object] = {"site_cache_dir": str(_private_folder(project))}
        if not in_git(project):
            core["no_scm"] = True  # the configuration of a project that was copied out of its repository requires git
        repo = Repo(str(project), config={"core": core}, _wait_for_lock=True)
    except (DvcException, OSError, ValueError) as error:
        refusal = refused_by_the_system(error) if isinstance(error, OSError) else None
        raise RefitError(f"DVC cannot open {project}: {refusal or message_of(error)}") from error
    except sqlite3.OperationalError as error:
        if machine_fault(error):
            raise
        why = f"its record of file digests cannot be written ({message_of(error)})"
        raise RefitError(f"DVC cannot open {project}: {why}; give this user the right to read and write it") from error
    try:
        with _turns, chdir(project):  # DVC finds dvc.yaml in, and reports paths from, the working directory
            yield repo
    finally:
        repo.close()


@contextmanager
def _seam(replacement: Callable[..., None]) -> Iterator[bool]:
    """Replace DVC's shell call by `replacement`; yields False and replaces nothing if DVC has no such call."""
    import dvc.stage.run as seam

    original = getattr(seam, _SEAM, None)
    if original is None:
        yield False
        return
    setattr(seam, _SEAM, replacement)
    try:
        yield True
    finally:
        setattr(seam, _SEAM, original)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables within the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _own_commands_first() -> AbstractContextManager[None]:
    """Put this interpreter's folder first on PATH, so that shells started by DVC find its `refit`."""
    path = os.environ.get("PATH", os.defpath)
    return _environment(PATH=os.pathsep.join([str(Path(sys.executable).parent), path]))


def _inputs(dvc_stage: Any) -> dict[str, str]:
    return {str(dep): str(dep.get_hash()) for dep in dvc_stage.deps}


def _put_back(repo: Any, stage: str) -> None:
    """Bring back from the cache the outputs of a stage that DVC deleted before the stage failed."""
    with suppress(Exception):  # the error of the stage is what matters
        for out in repo.stage.load_one(name=stage).outs:
            if out.use_cache and out.hash_info and not out.exists:
                out.checkout(allow_missing=True)


def _format_reasons(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    for kind, files in entry.items():
        for name, state in files.items():
            details = ", ".join(map(str, state)) if isinstance(state, dict) else state
            yield f"{kind.replace('changed deps', 'input').replace('changed outs', 'output')} {name}: {details}"


def _quiet() -> None:
    """Silence DVC's loggers: Refit reports what a stage does and what DVC raises.

    Takes effect only after dvc is imported.
    """
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
