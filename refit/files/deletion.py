"""Deletes files and folders of a project: a link itself, never what it leads to."""

from __future__ import annotations

import shutil
from pathlib import Path


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with everything in it; do nothing if there is none.

    Raises:
        OSError: it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a path lies in a folder once the links above it are followed. The path may itself be a link."""
    return path.parent.resolve().is_relative_to(folder.resolve())
