"""Restricts `.refit` and the prediction log to their owner: they hold the registry, secrets and people's scores."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from refit.files.artifacts import PREDICTIONS, STATE

OTHERS = 0o077  # permission bits of group and others


def close(project: Path) -> None:
    """Remove the rights of group and others on the project's private folders.

    They can then reach no file inside, whatever permissions a library gives it.
    """
    for top in (STATE, PREDICTIONS):
        _close(project / top)


def tighten(project: Path) -> None:
    """Remove the rights of group and others on everything in the private folders; call this after writing files."""
    for top in (STATE, PREDICTIONS):
        for folder, _, files in os.walk(project / top):
            _close(Path(folder))
            for name in files:
                _close(Path(folder, name))


def _close(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
        if mode & OTHERS and not path.is_symlink():
            path.chmod(mode & 0o7777 & ~OTHERS)
    except (FileNotFoundError, PermissionError):
        return
    except OSError as error:
        if error.errno != errno.EROFS:  # on a read-only disk nothing was written that would need it
            raise
