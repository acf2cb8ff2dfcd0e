"""Refit's errors: mistakes of the user (exit status 2) and faults of the machine or of Refit (1)."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from typing import ClassVar

from refit.plain_text import one_line
from registry.secrets import cut, first_line

__all__ = [
    "RefitError",
    "Terminated",
    "UserError",
    "chain",
    "counted",
    "cut",
    "failure",
    "first_line",
    "is_interrupted",
    "machine_fault",
    "message_of",
    "refused_by_the_system",
    "unreadable",
]


class RefitError(Exception):
    r"""A failure; the message is one line: what failed, what was found, what is expected, what to do.

    A message often repeats texts of files or people, so it is converted to plain text wherever it is shown: in a
    terminal, in Prefect's log, in a traceback. Several problems are passed as several arguments.

    >>> print(UserError("2 problems:", "a", "b\x1b[2J"))
    2 problems:
      a
      b\x1b[2J
    """

    exit_status = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """The message, followed by each problem if there are several."""
        return tuple(one_line(each) for each in self.args)

    def __str__(self) -> str:
        return "\n  ".join(self.lines)

    @property
    def sentence(self) -> str:
        """The message and all problems on one line."""
        first, *problems = self.lines or ("",)
        return f"{first} {'; '.join(problems)}" if problems else first


class UserError(RefitError):
    """An input of the user cannot be used; nothing was changed."""

    exit_status = 2


def is_interrupted(error: BaseException) -> bool:
    """Whether DuckDB raised this error because a signal interrupted its query."""
    return any(isinstance(each, RuntimeError) and str(each) == "Query interrupted" for each in chain(error))


def message_of(error: object, most: int | None = None) -> str:
    """The whole message of an error on one line, or its beginning of at most so many characters.

    >>> message_of(ValueError("5 is no date\\n  at line 3"))
    '5 is no date at line 3'
    """
    text = " ".join(str(error).split())
    return text if most is None else cut(text, most)


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number of things in words.

    Args:
        one: what one of them is called, with what follows if the verb depends on the number.
        many: what others are called; None if it is `one` and an s.

    >>> counted(1, "row"), counted(1200, "row"), counted(0, "batch is", "batches are")
    ('1 row', '1,200 rows', '0 batches are')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def unreadable(path: object, error: OSError) -> str:
    """Message that a file cannot be read, and why."""
    return f"{path} cannot be read ({error.strerror}); it has to be a file that you may read"


_MACHINE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is used up",
    errno.EFBIG: "a file may not become as large as it has to be",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk failed",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "there is not enough memory",
}
_SQLITE = {"database or disk is full": errno.ENOSPC, "disk I/O error": errno.EIO}


_RIGHTS = "give this user the right to read and write it"
_REFUSED = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EISDIR: "it has to be a file",
    errno.ENOTDIR: "what lies above it has to be a folder",
    errno.ELOOP: "a link leads to itself; remove it",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def refused_by_the_system(error: OSError) -> str | None:
    """Message for what the system does not allow, or for a fault of the machine; None for any other error.

    >>> refused_by_the_system(PermissionError(errno.EACCES, "Permission denied", "raw"))
    'raw: Permission denied; give this user the right to read and write it'
    """
    if error.errno not in _REFUSED:
        return machine_fault(error)
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file of the project"
    return f"{where}: {error.strerror}; {_REFUSED[error.errno]}"


def machine_fault(error: BaseException) -> str | None:
    """Message for the temporary fault of the machine behind an error; None if the error has another cause.

    Libraries convert an `OSError` to errors of their own, some of which only keep its text.

    >>> machine_fault(OSError(errno.ENOSPC, "No space left on device", "/p/data/x.parquet"))
    'the disk is full (/p/data/x.parquet)'
    >>> machine_fault(ValueError("5 is not a date")) is None
    True
    """
    for each in chain(error):
        if isinstance(each, MemoryError):
            return _MACHINE[errno.ENOMEM]
        if isinstance(each, OSError) and each.errno in _MACHINE:
            return _MACHINE[each.errno] + (f" ({each.filename})" if each.filename else "")
    said = " ".join(str(each) for each in chain(error))
    numbers = (number for number in _MACHINE if os.strerror(number) in said)
    if (number := next(numbers, next((code for text, code in _SQLITE.items() if text in said), None))) is not None:
        return _MACHINE[number]
    return None


def failure(error: Exception, file: str | None) -> str:
    """An exception as one line, with the last line of the user's file in its traceback."""
    message = f"{type(error).__name__}: {message_of(error)}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{message} (line {lines[-1]} of {file})" if lines else message


def chain(error: BaseException, *, explicit: bool = False) -> Iterator[BaseException]:
    """An error and its causes, whether or not they were raised with `from`; with `explicit`, only those that were."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        inner = inner.__cause__ or (None if explicit else inner.__context__)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM). Not a failure; catch it only to end child processes."""

    was_asked: ClassVar[bool] = False

    @staticmethod
    def on_signal(*_: object) -> None:
        """Signal handler that raises `Terminated`, so that child processes are ended as on Ctrl-C."""
        Terminated.was_asked = True
        raise Terminated
