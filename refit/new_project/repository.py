"""Makes the git repository of a new project, so that each model can name the commit that it was made from."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refit.errors import UserError
from refit.plain_text import one_line
from refit.runtime import provenance
from refit.runtime.terminal import say

__all__ = ["NOTE", "made"]

NOTE = "a new repository; `refit up` runs committed code only: git add -A && git commit -m 'New project'"


@contextmanager
def made(folder: Path, *, wanted: bool) -> Iterator[bool]:
    """Make a repository of `folder` before the block, unless it lies in one; remove it if the block fails.

    Yields whether it was made. Without git there is none: a project works without, and its models name no commit.
    """
    if not wanted or shutil.which("git") is None or provenance.repository(folder.absolute()) is not None:
        yield False
        return
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"cannot make {folder}: it is a file; name a folder")
    is_new = not folder.exists()
    top = folder if not is_new else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}; name a folder that you may write to") from None
    try:
        yield _initialise(folder)
    except BaseException:
        shutil.rmtree(top / ".git" if top else folder, ignore_errors=True)
        raise


def _initialise(folder: Path) -> bool:
    """Run `git init`; if git fails, say why on standard error, and leave nothing of it."""
    has_default = _git(folder, "config", "--get", "init.defaultBranch").returncode == 0
    done = _git(folder, *(() if has_default else ("-c", "init.defaultBranch=main")), "init", "--quiet")
    if done.returncode:
        shutil.rmtree(folder / ".git", ignore_errors=True)
        why = done.stderr.decode(errors="backslashreplace").strip().rpartition("\n")[2].removeprefix("fatal: ")
        say(f"warning: no git repository: {one_line(why)}", stderr=True)
    return done.returncode == 0


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = provenance.git_environment()
    return subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, check=False)
