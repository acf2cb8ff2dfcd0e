"""Keeps to its owner what lies in `.refit` and in the log of predictions: the registry, secrets, people's scores."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tasks.artifacts import PREDICTIONS, STATE

OTHERS = 0o077  # what group and others may do


def tighten(project: Path) -> None:
    """Take from group and others whatever they may do in the project's private folders; their own files stay theirs.

    The folder itself comes first: from then on nobody else reaches a file in it, whatever a library makes it with.
    """
    for top in (STATE, PREDICTIONS):
        for folder, _, files in os.walk(project / top):
            _close(Path(folder))
            for name in files:
                _close(Path(folder, name))


def _close(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        mode = path.lstat().st_mode
        if mode & OTHERS and not path.is_symlink():
            path.chmod(mode & 0o7777 & ~OTHERS)
