"""Reads SQLite files without writing to them, and explains why a file cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.secrets import first_line
from registry.urls import read_only_url

Row = Mapping[str, Any]  # of a SELECT: its values by column

_HEADER = b"SQLite format 3\0"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_HELD = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SPARE_BYTES = 64 * 1024  # with less space than this left, a failed write is blamed on a full disk


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file and what to do about it; `damaged` if its content is lost, not only access to it."""

    what: str
    advice: str
    damaged: bool = False

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


def select_read_only(file: Path, sql: str, values: Mapping[str, object]) -> list[Row]:
    """Rows of one SELECT on an SQLite file, without writing to it, not even to roll back a journal.

    Raises:
        sqlite3.OperationalError: a writer must roll back a journal first, or a table is missing.
    """
    with closing(sqlite3.connect(read_only_url(file), uri=True, timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = readable
        try:
            return [dict(row) for row in connection.execute(sql, values)]
        except UnicodeDecodeError:  # from SQLite's message about a schema that is no longer UTF-8
            damage = sqlite3.DatabaseError("malformed database schema")
            damage.sqlite_errorname = "SQLITE_CORRUPT"
            raise damage from None


def readable(text: bytes) -> str:
    """Decode a text from SQLite, even if damage made it invalid UTF-8."""
    return text.decode("utf-8", "backslashreplace")


def unusable(file: Path) -> Fault | None:
    """Why an existing file cannot be an SQLite database, without opening it as one; None if no problem is seen.

    Detects a folder, an unreadable file, other content, and a truncated file. Takes microseconds.
    """
    if file.is_dir():
        return Fault("it is a folder, not a file", "move the folder away, or name another file")
    try:
        with file.open("rb") as opened:
            header = opened.read(100)
            size = os.fstat(opened.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Fault(
            f"{file.name} cannot be read ({error.strerror})",
            "give this user read and write access to it; nothing in it is lost",
        )
    if not header:
        return None  # an empty file is what SQLite creates for a new name
    if not header.startswith(_HEADER):
        return Fault("file is not a database", "restore the file from a copy", damaged=True)
    if len(header) < 100 or (size < _recorded_size(header) and not _has_journal(file)):
        return Fault(
            f"it was cut short: {size:,} bytes of {_recorded_size(header):,}", "restore the file from a copy", True
        )
    return None


def fault(file: Path, error: BaseException) -> Fault:
    """The fault of the file behind an error of SQLite or of a library built on it."""
    if (problem := unusable(file)) is not None:
        return problem
    name = next((code for code in map(_code, _origins(error)) if code), "")
    first = first_line(next(_origins(error)))
    if name.startswith(_HELD):
        return Fault("another process holds it (locked)", "wait for that one to end, then run again")
    if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _is_full(file)):
        return Fault("the disk is full", f"free some space in {file.parent}, then run again; nothing in it is lost")
    if name.startswith("SQLITE_READONLY") or (name == "SQLITE_CANTOPEN" and not _writable(file)):
        return Fault("it is read-only for this user", f"give write access to it and to {file.parent}")
    if name == "SQLITE_CANTOPEN":
        return Fault("it cannot be opened", f"see that {file.parent} is there and that this user may write into it")
    if name.startswith("SQLITE_IOERR"):
        return Fault(f"reading or writing failed ({first})", "see that its disk is sound and not full, then run again")
    if name.startswith(_DAMAGED):
        return Fault(f"it is damaged ({first})", "restore the file from a copy", damaged=True)
    return Fault(first, "see that the file is whole and that no other process holds it")


def _origins(error: BaseException) -> Iterator[BaseException]:
    """SQLite's own errors in the chain of causes; the error itself if there are none."""
    chain: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in chain:
        chain.append(inner)
        original = getattr(inner, "orig", None)
        inner = original if isinstance(original, BaseException) else inner.__cause__ or inner.__context__
    own: list[BaseException] = [each for each in chain if isinstance(each, sqlite3.Error)]
    yield from own or [error]


def _code(error: BaseException) -> str:
    return str(getattr(error, "sqlite_errorname", None) or "")


def _is_full(file: Path) -> bool:
    try:
        return shutil.disk_usage(file.parent).free < _SPARE_BYTES
    except OSError:
        return False


def _writable(file: Path) -> bool:
    return os.access(file.parent, os.W_OK) and (not file.exists() or os.access(file, os.W_OK))


def _recorded_size(header: bytes) -> int:
    page = int.from_bytes(header[16:18], "big")
    same_change = header[24:28] == header[92:96]  # otherwise the page count is not up to date
    return (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big") if same_change else 0


def _has_journal(file: Path) -> bool:
    return any(Path(f"{file}{end}").exists() for end in ("-journal", "-wal"))
