"""Refuses inputs of stages that DVC would read for ever."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from refit.errors import UserError


def refuse_pipes(repo: Any, target: str) -> None:
    """Check that the inputs of the stages of a DVC target are files: DVC would wait for a pipe's writer.

    Raises:
        UserError: one is a pipe, a socket or a device.
    """
    for stage in repo.stage.collect(target):
        for path in (path for dep in stage.deps if dep.protocol == "local" for path in _special(dep.fs_path)):
            if not repo.dvcignore.is_ignored_file(path):
                raise UserError(
                    f"{os.path.relpath(path, repo.root_dir)} is a pipe, a socket or a device, and no file that could "
                    f"be read; take it away (input of stage {stage.name})"
                )


def _special(top: str) -> Iterator[str]:
    """The paths at or below `top` that are neither files nor folders; links count as what they lead to."""
    paths = [Path(top), *(Path(folder, name) for folder, _, names in os.walk(top) for name in names)]
    for path in paths:
        with suppress(OSError):  # missing, or a link to nothing: DVC says so
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                yield str(path)
