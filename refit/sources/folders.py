"""Finds the files of a path or pattern: complete regular files that do not belong to a table format."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from refit.errors import UserError
from refit.sources.declared_paths import check_stars

_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".download", ".swp", "~")
_FOLDERS_OF_FILES = (".csv", ".parquet", ".pq", ".gz", ".zip", ".txt", ".tsv")
_TABLES = (*_FOLDERS_OF_FILES, ".bz2", ".xz", ".zst", ".xlsx")  # what somebody may take for a file that is read
_OBJECT = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}\Z")  # how DVC's cache names its objects, by md5
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_TABLE_LEVELS = 8  # levels of partitions between a table's folder and its files


def matches(project: Path, pattern: str, where: str) -> list[tuple[str, Path]]:
    """The files that match a pattern, by their name in the pattern, in order.

    Raises:
        UserError: a file is not regular or not complete, is a link to another folder, has a name that is not UTF-8, or
            belongs to a table whose log marks rows as deleted; or the folder cannot be read.
    """
    check_stars(pattern, where)
    base = base_of(project, pattern)
    _check_readable(base, where)
    files, real_folder = [], cache(Path.resolve)  # resolving each of 100,000 files would take seconds
    for name in sorted(_names(project, pattern, base, where)):
        path = project / name
        _check_name(name)
        if path.is_dir():
            if path.suffix.lower() in _FOLDERS_OF_FILES:
                raise UserError(
                    f"{name} is a folder; name its files by a pattern such as {name}/*{path.suffix} ({where})"
                )
            continue
        check_file(project, path, name, base, where, real_folder)
        files.append((name, path))
    for folder in sorted({path.parent for _, path in files}):
        check_no_table(project, folder, where)
    return files


def without_files(project: Path, pattern: str) -> list[str]:
    """The folders that the folder part of a pattern matches, and that have no file of it; none for a pattern with `**`.

    Their names may be labels, which no row has then.
    """
    home, name = Path(pattern).parent.as_posix(), Path(pattern).name
    if not glob.has_magic(home) or "**" in Path(pattern).parts:
        return []
    every = sorted(glob.glob(home, root_dir=project))  # noqa: PTH207 - Path.glob takes no absolute pattern
    empty = (each for each in every if not any(glob.iglob(f"{glob.escape(each)}/{name}", root_dir=project)))  # noqa: PTH207
    return [each for each in empty if (project / each).is_dir()]


def not_matched(project: Path, pattern: str, others: Sequence[str]) -> list[str]:
    """The files in the folder of a pattern that look like tables, or have its suffix, and match no pattern at all.

    Args:
        others: all patterns and paths whose files are read.
    """
    home, name = Path(pattern).parent, Path(pattern).name
    if glob.has_magic(home.as_posix()) or not glob.has_magic(name) or not (project / home).is_dir():
        return []
    ends = {*_TABLES, Path(name).suffix.lower()} - {""}
    read = {project / match for each in others for match in glob.glob(each, root_dir=project, recursive=True)}  # noqa: PTH207
    listed = [path for path in (project / home).iterdir() if path.suffix.lower() in ends and path not in read]
    return sorted((home / path.name).as_posix() for path in listed if path.name[0] != "." and path.is_file())


def check_one(project: Path, name: str, where: str) -> None:
    """Check a file given by its name, as `matches` does."""
    path = project / name
    check_file(project, path, name, path.parent, where)
    check_no_table(project, path.parent, where)


def check_file(
    project: Path, path: Path, name: str, base: Path, where: str, real_folder: Callable[[Path], Path] = Path.resolve
) -> None:
    """Check that a file is complete and regular, in its folder or linked by DVC to its cache."""
    try:
        kind = path.stat().st_mode
    except OSError as error:
        what = "is a link to nothing" if path.is_symlink() else f"cannot be read ({error.strerror})"
        raise UserError(f"{name} {what}; take it away, or correct {where}") from None
    if not stat.S_ISREG(kind):
        raise UserError(f"{name} is {_kind(kind)}, and no file that could be read; take it away, or correct {where}")
    home = real_folder(base)
    real = path.resolve() if path.is_symlink() else real_folder(path.parent) / path.name
    if not real.is_relative_to(home) and not _is_cached_by_dvc(project, real):
        raise UserError(
            f"{name} is a link that leaves {base.name or base} ({real}); "
            f"copy the file there, or name its own place in {where}"
        )
    if name.lower().endswith(_UNFINISHED):
        raise UserError(
            f"{name} looks like a file that is still written; rename it once it is whole, or narrow {where}"
        )


def inside(project: Path, home: Path) -> Callable[[Path], bool]:
    """A test of whether a path is a regular file in `home`, at whatever depth, or a link there that DVC made."""
    real_home, real_folder = home.resolve(), cache(Path.resolve)

    def is_inside(path: Path) -> bool:
        try:
            is_link = path.is_symlink() or path.name in ("", "..")
            real = path.resolve() if is_link else real_folder(path.parent) / path.name
            is_ours = real.is_relative_to(real_home) or _is_cached_by_dvc(project, real)
            return is_ours and stat.S_ISREG(path.stat().st_mode)
        except (OSError, RuntimeError, ValueError):
            return False

    return is_inside


def _is_cached_by_dvc(project: Path, real: Path) -> bool:
    """Whether a file is an object of the project's DVC cache, the target of links for `cache.type symlink`."""
    if not _OBJECT.search(real.as_posix()):
        return False
    from refit.runtime import dvc_runner

    objects = dvc_runner.objects_of(project)
    return objects is not None and real.parent.parent == objects


def check_no_table(project: Path, folder: Path, where: str) -> None:
    """Refuse files of a Delta, Iceberg or Hudi table, whose log decides which files and rows still count."""
    for parent in (folder, *folder.parents)[:_TABLE_LEVELS]:
        kind = _table_kind(parent)
        if kind:
            inside = parent.is_relative_to(project)
            path = parent.relative_to(project) if inside else parent
            raise UserError(refusal(parent.name, kind, path.as_posix(), where))


def refusal(name: str, kind: str, path: str, where: str) -> str:
    """Message that a table's files are not its rows, and what reads those."""
    advice = {
        "Delta": f"read it with `kind: delta` and `path: {path}`",
        "Iceberg": "read it with `kind: iceberg`, by its name in a catalog",
    }.get(kind, "export the rows that count to CSV or Parquet, and name those")
    return (
        f"{name} is a {kind} table: its files hold rows that were deleted or replaced, and only its log says which; "
        f"{advice} ({where})"
    )


def _table_kind(folder: Path) -> str | None:
    try:
        if (folder / "_delta_log").is_dir():
            return "Delta"
        if (folder / ".hoodie").is_dir():
            return "Hudi"
        metadata = folder / "metadata"
        if metadata.is_dir() and (
            (metadata / "version-hint.text").is_file() or next(metadata.glob("*.metadata.json"), None)
        ):
            return "Iceberg"
    except OSError:
        return None
    return None


def hive_value(path: Path, column: str, name: str) -> str | None:
    """The value of a column in the folders of a file, as `year=2024`; None if it is missing there.

    Raises:
        UserError: no folder names the column.

    >>> hive_value(Path("raw/year=2024/shop=caf%C3%A9/x.parquet"), "shop", "x.parquet")
    'café'
    >>> hive_value(Path("/year=1999/project/raw/year=2024/x.parquet"), "year", "x.parquet")
    '2024'
    """
    for part in reversed(path.parent.parts):  # folders above the project may have such names, too
        key, is_pair, value = part.partition("=")
        if is_pair and unquote(key) == column:
            return None if value == _HIVE_NULL else unquote(value)
    raise UserError(f"{name} lies in no folder {column}=...; correct the path, or leave {column} out of hive_columns")


def base_of(project: Path, pattern: str) -> Path:
    """The folder of a pattern before its first wildcard."""
    fixed: list[str] = []
    for part in Path(pattern).parent.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return project.joinpath(*fixed)


def _check_readable(base: Path, where: str) -> None:
    if base.is_dir() and not os.access(base, os.R_OK | os.X_OK):
        raise UserError(f"{base.name}/ cannot be read; give this user access to it ({where})")


def _names(project: Path, pattern: str, base: Path, where: str) -> Iterator[str]:
    if "**" not in Path(pattern).parts:
        yield from glob.glob(pattern, root_dir=project)  # noqa: PTH207 - Path.glob takes no absolute pattern
        return
    # A link to a parent folder would make glob's own walk endless.
    for folder, folders, _ in os.walk(base):
        for inner in folders:
            path = Path(folder, inner)
            if path.is_symlink() and not inner.startswith("."):
                shown = path.relative_to(base).as_posix()
                raise UserError(
                    f"{shown} is a link to a folder, which ** does not follow; take it away, or name its own "
                    f"place in {where}"
                )
    rest = Path(pattern).relative_to(base if Path(pattern).is_absolute() else base.relative_to(project))
    prefix = pattern[: len(pattern) - len(rest.as_posix())]
    for path in base.glob(rest.as_posix()):
        inside = path.relative_to(base)
        if not any(part.startswith(".") for part in inside.parts):
            yield prefix + inside.as_posix()


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    return next((words for is_one, words in kinds.items() if is_one(mode)), "a folder")


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="backslashreplace").decode()
        raise UserError(f"the name of the file {shown} is not UTF-8; rename it") from None
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise UserError(f"the name of the file {name!r} holds a control character; rename it")
