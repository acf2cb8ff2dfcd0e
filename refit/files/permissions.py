"""Keeps to its owner what lies in `.refit` and in the log of predictions: the registry, secrets, people's scores."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from refit.files.artifacts import PREDICTIONS, STATE

OTHERS = 0o077  # what group and others may do


def close(project: Path) -> None:
    """Take the project's private folders from group and others: from then on they reach no file in it, whatever a
    library makes it with.
    """
    for top in (STATE, PREDICTIONS):
        _close(project / top)


def tighten(project: Path) -> None:
    """Close the project's private folders and every file and folder in them: for the end of what makes files there."""
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
