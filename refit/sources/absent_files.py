"""What an error says of a source's file that is not here: where it was looked for, and what brings it."""

from __future__ import annotations

import glob
from pathlib import Path

from refit.config import SourceParams, nearest
from refit.runtime.dvc_files import kept_elsewhere
from refit.sources.declared_paths import expanded


def absence(project: Path, source: SourceParams, where: str) -> str:
    """Message that a source's file is missing, and where it could come from."""
    pattern = expanded(source.path)
    what = "matches no file" if glob.has_magic(pattern) else "does not exist"
    near = "" if glob.has_magic(pattern) else nearest_file(project / pattern)
    if kept := kept_elsewhere(project.resolve() / pattern):
        return f"{pattern} {what}; {kept} ({where}.path)"
    published = f"; it is published at {source.published}" if source.published else ""
    return f"{pattern} {what}, looked in {project.resolve()}{near} ({where}.path){published}"


def nearest_file(path: Path) -> str:
    """`; did you mean X?` for the file of the most similar name next to it; empty if there is none."""
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, siblings)
