"""Finds the files of a path or pattern in an object store, and copies one at a time to this machine to read it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import RefitError, UserError, first_line
from refit.files.artifacts import STATE, atomic, digest

if TYPE_CHECKING:
    import pyarrow.fs

__all__ = ["DOWNLOADS", "RemoteFile", "is_remote", "matches"]

SCHEMES = ("s3://", "gs://")
DOWNLOADS = STATE / "downloads"
_MAGIC = re.compile(r"[*?[]")
_CHUNK = 1 << 22  # bytes
_TABLES = {"_delta_log": "Delta", ".hoodie": "Hudi"}


def is_remote(path: str) -> bool:
    """Whether a path is one of an object store.

    >>> is_remote("s3://bucket/raw/*.csv"), is_remote("raw/*.csv")
    (True, False)
    """
    return path.startswith(SCHEMES)


@dataclass(frozen=True)
class RemoteFile:
    """An object: where it is, and the size and time that tell it from another one under its name."""

    store: pyarrow.fs.FileSystem
    key: str  # the bucket and the object's name in it
    size: int
    touched_ns: int

    def path_in(self, folder: Path) -> Path:
        """Where its copy is: another object under the same name has another path."""
        name = digest([self.key, self.size, self.touched_ns])[:16]
        return folder.joinpath(name, *(part for part in self.key.split("/") if part not in ("", ".", "..")))

    def fetch(self, path: Path) -> None:
        """Copy it, unless the copy is there.

        Raises:
            UserError: it cannot be read, or is another one now.
        """
        if path.is_file():
            return
        with errors(self.key), self.store.open_input_stream(self.key) as stream, atomic(path) as scratch:
            with scratch.open("wb") as copy:
                shutil.copyfileobj(stream, copy, _CHUNK)
            if not self.is_there() or scratch.stat().st_size != self.size:
                raise UserError(f"{self.key} changed while it was read; run again once it is written completely")

    def is_there(self) -> bool:
        """Whether it is still the object that it was."""
        with errors(self.key):
            (now,) = self.store.get_file_info([self.key])
        return (now.size, now.mtime_ns) == (self.size, self.touched_ns)


def matches(pattern: str, where: str) -> list[tuple[str, RemoteFile]]:
    """The objects that match a path or pattern, by their address, in order; `**` stands for any folders.

    Raises:
        UserError: the store cannot be read, or the objects belong to a table format.
    """
    import pyarrow.fs

    scheme, _, rest = pattern.partition("://")
    with errors(pattern):
        store, _ = pyarrow.fs.FileSystem.from_uri(f"{scheme}://{rest.split('/')[0]}")
        if not _MAGIC.search(rest):
            found = store.get_file_info([rest])
        else:
            fixed = rest[: _MAGIC.search(rest).start()].rpartition("/")[0]  # type: ignore[union-attr]
            found = store.get_file_info(pyarrow.fs.FileSelector(fixed, recursive=True, allow_not_found=True))
    wanted, files = re.compile(_regex(rest)), []
    for info in sorted(found, key=lambda each: str(each.path)):
        if info.type == pyarrow.fs.FileType.File and wanted.fullmatch(info.path):
            _check_no_table(info.path, {str(each.path) for each in found}, where)
            files.append((f"{scheme}://{info.path}", RemoteFile(store, info.path, info.size, info.mtime_ns)))
    return files


def _regex(pattern: str) -> str:
    """A shell pattern as a regular expression: `*` and `?` end at a slash, names that begin with a dot match none.

    >>> bool(re.fullmatch(_regex("b/**/day=*/x-?.csv"), "b/year=2024/day=1/x-1.csv"))
    True
    >>> bool(re.fullmatch(_regex("b/*.csv"), "b/c/x.csv")), bool(re.fullmatch(_regex("b/*.csv"), "b/.x.csv"))
    (False, False)
    """
    pieces = re.split(r"(\*\*/|\*|\?|\[!?[^]/]+\])", pattern)
    special = {"**/": r"(?:(?!\.)[^/]+/)*", "*": r"(?!(?<=/)\.)[^/]*", "?": "[^/]"}
    return "".join(
        special.get(each) or (each.replace("[!", "[^") if each[:1] == "[" and each[-1:] == "]" else re.escape(each))
        for each in pieces
    )


def _check_no_table(path: str, every: set[str], where: str) -> None:
    """Refuse objects of a Delta, Iceberg or Hudi table, whose log decides which of their rows still count."""
    folders = path.split("/")[:-1]
    for depth in range(len(folders), 0, -1):
        home = "/".join(folders[:depth])
        kind = next((kind for name, kind in _TABLES.items() if f"{home}/{name}" in every), None)
        if any(each.startswith(f"{home}/metadata/") and each.endswith(".metadata.json") for each in every):
            kind = "Iceberg"
        if kind:
            raise UserError(
                f"{home} is a {kind} table: its files hold rows that were deleted or replaced, and only its log says "
                f"which; export the rows that count to CSV or Parquet, and name those in {where}"
            )


@contextmanager
def errors(name: str) -> Iterator[None]:
    """Turn errors of a store into one line that says what to do."""
    try:
        yield
    except RefitError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        said = first_line(error)
        if "ACCESS_DENIED" in said or "403" in said or "credentials" in said.lower():
            advice = "see that the keys in the environment are right, and that their user may read it"
        elif "NO_SUCH_BUCKET" in said or "404" in said or "does not exist" in said:
            advice = "correct the name of the bucket, or AWS_REGION"
        else:
            advice = "see that AWS_ENDPOINT_URL, if it is set, is right, and that this machine reaches the store"
        raise UserError(f"{name} cannot be read: {said[:300]}; {advice}") from None


@contextmanager
def temporary(folder: Path) -> Iterator[None]:
    """Remove all copies at the end of a block."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
