"""Makes the git repository of a new project, so that each model can name the commit that it was made from."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refit.runtime import provenance
from refit.runtime.terminal import say

__all__ = ["made"]


@contextmanager
def made(folder: Path, *, wanted: bool) -> Iterator[None]:
    """Make a repository of `folder` before the block, unless it lies in one; remove it if the block fails.

    Without git there is none: a project works without, and its models name no commit.
    """
    if not wanted or shutil.which("git") is None or provenance.repository(folder.absolute()) is not None:
        yield
        return
    is_new = not folder.exists()
    top = folder if not is_new else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _git(folder, "init", "--quiet")
        yield
    except BaseException:
        shutil.rmtree(top / ".git" if top else folder, ignore_errors=True)
        raise
    say("  git     a new repository; `refit up` runs committed code only: git add -A && git commit -m 'New project'")


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments], cwd=folder, env=provenance.git_environment(), capture_output=True, check=True, timeout=60
    )
