"""Finds the files of a path or pattern in an object store; their copies on this machine are temporary."""

from __future__ import annotations

import fnmatch
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from refit.config import SourceParams
from refit.errors import UserError
from refit.files.artifacts import STATE
from refit.sources.declared_paths import as_declared, check_stars, expanded
from refit.sources.folders import refusal
from refit.sources.remote_files import RemoteFile, errors
from refit.sources.source_files import SourceFile

if TYPE_CHECKING:
    import pyarrow.fs

__all__ = ["DOWNLOADS", "files", "is_remote", "temporary"]

SCHEMES = ("s3://", "gs://")
DOWNLOADS = STATE / "downloads"
_MAGIC = re.compile(r"[*?[]")
_TABLES, _METADATA = {"_delta_log": "Delta", ".hoodie": "Hudi"}, "metadata"


def is_remote(path: str) -> bool:
    """Whether a path is one of an object store.

    >>> is_remote("s3://bucket/raw/*.csv"), is_remote("raw/*.csv")
    (True, False)
    """
    return path.startswith(SCHEMES)


def files(project: Path, source: SourceParams, where: str) -> list[SourceFile]:
    """The objects of a source; each is copied to the project's state folder when it is read.

    Raises:
        UserError: the store cannot be read, or no object matches.
    """
    if source.format in ("idx", "images") or any(each.kind == "image" for each in source.arrays.values()):
        raise UserError(f"images are not read from an object store; copy them to this machine ({where}.path)")
    folder = project / DOWNLOADS
    found = [
        SourceFile(file.path_in(folder), as_declared(name, source.path), remote=file)
        for name, file in _matches(expanded(source.path), source.path, f"{where}.path")
    ]
    if not found:
        raise UserError(f"{source.path} matches no object ({where}.path)")
    return found


def _matches(pattern: str, declared: str, where: str) -> list[tuple[str, RemoteFile]]:
    """The objects that match a path or pattern, by their address, in order; `**` stands for any folders.

    Args:
        declared: the pattern as params have it, for messages: an address may hold keys.

    Raises:
        UserError: the store cannot be read, the objects belong to a table format, or a `**` is no level of folders.
    """
    import pyarrow.fs

    check_stars(pattern, where)
    scheme, _, rest = pattern.partition("://")
    magic = _MAGIC.search(rest)
    base = (rest[: magic.start()] if magic else rest).rpartition("/")[0]
    with errors(declared):
        store, _ = pyarrow.fs.FileSystem.from_uri(f"{scheme}://{rest.split('/')[0]}")
        if magic:
            infos = store.get_file_info(pyarrow.fs.FileSelector(base, recursive=True, allow_not_found=True))
        else:
            infos = store.get_file_info([rest])
        every = {str(info.path) for info in infos} | _logs_above(store, base)
    wanted = re.compile(_regex(rest))
    found = [info for info in infos if info.type == pyarrow.fs.FileType.File and wanted.fullmatch(info.path)]
    for folder in sorted({info.path.rpartition("/")[0] for info in found}):
        _check_no_table(folder, every, where)
    return [
        (f"{scheme}://{info.path}", RemoteFile(store, info.path, info.size, info.mtime_ns))
        for info in sorted(found, key=lambda info: str(info.path))
    ]


def _logs_above(store: pyarrow.fs.FileSystem, base: str) -> set[str]:
    """What says that a folder above a pattern's is a table."""
    import pyarrow.fs

    parts = base.split("/")
    parents = ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    infos = store.get_file_info([f"{parent}/{name}" for parent in parents for name in (*_TABLES, _METADATA)])
    there = [str(info.path) for info in infos if info.type != pyarrow.fs.FileType.NotFound]
    inside = [
        str(info.path)
        for folder in there
        if folder.endswith(_METADATA)
        for info in store.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
    ]
    return {*there, *inside}


def _regex(pattern: str) -> str:
    """A shell pattern as a regular expression: `*` and `?` end at a slash, names that begin with a dot match none.

    >>> bool(re.fullmatch(_regex("b/**/day=*/x-?.csv"), "b/year=2024/day=1/x-1.csv"))
    True
    >>> bool(re.fullmatch(_regex("b/*.csv"), "b/c/x.csv")), bool(re.fullmatch(_regex("b/*.csv"), "b/.x.csv"))
    (False, False)
    >>> bool(re.fullmatch(_regex("b/[\\\\d]"), "b/5")), bool(re.fullmatch(_regex("b[!c]x"), "b/x"))
    (False, False)
    """
    pieces = re.split(r"(\*\*/|\*|\?|\[!?[^]/]+\])", pattern)
    special = {"**/": r"(?:(?!\.)[^/]+/)*", "*": r"(?!(?<=/)\.)[^/]*", "?": "[^/]"}
    return "".join(
        special.get(each) or (_class(each) if each[:1] == "[" and each[-1:] == "]" else re.escape(each))
        for each in pieces
    )


def _class(characters: str) -> str:
    """`[...]` of a shell pattern as a regular expression, in which a backslash is one, without a slash."""
    return "(?!/)" + fnmatch.translate(characters)[len("(?s:") : -len(r")\Z")]


def _check_no_table(folder: str, every: set[str], where: str) -> None:
    """Refuse a folder of a Delta, Iceberg or Hudi table, whose log decides which of its rows still count."""
    parts = folder.split("/")
    for depth in range(len(parts), 0, -1):
        home = "/".join(parts[:depth])
        kind = next((kind for name, kind in _TABLES.items() if f"{home}/{name}" in every), None)
        if any(each.startswith(f"{home}/{_METADATA}/") and each.endswith(".metadata.json") for each in every):
            kind = "Iceberg"
        if kind:
            raise UserError(refusal(home, kind, home, where))


@contextmanager
def temporary(folder: Path) -> Iterator[None]:
    """Remove all copies at the end of a block."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
