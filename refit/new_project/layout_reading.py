"""Detects the layout of a CSV file, its delimiter and skipped lines, and refuses other encodings and formats."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from refit.errors import UserError
from refit.sources import text_streams
from refit.sources.csv_files import CsvFile

_MOST_COMMENTS = 100  # lines above a header
_MOST_TITLES = 20  # other lines above it


def detect_layout(path: Path, encoding: str) -> CsvFile:
    """Return the file with the delimiter and the skipped lines that its first lines show."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name one CSV file in it")
    if path.name.startswith("."):
        raise UserError(f"{path} has a name that begins with a point, which patterns of files pass over; rename it")
    try:
        "a".encode(encoding, "replace")  # `hex` and `idna` are codecs, but not of the text of a file
    except (LookupError, UnicodeError):
        raise UserError(f"--encoding {encoding}: unknown; utf-8, cp1252, latin-1 and utf-16 are some") from None
    file = CsvFile(path, path.name, encoding=encoding)
    with file.open() as stream:
        lines = [_decode(stream.readline(), file)]
        while lines[-1].startswith("#") and len(lines) <= _MOST_COMMENTS:
            lines.append(_decode(stream.readline(), file))
        comments = len(lines) - 1
        lines += [_decode(stream.readline(), file) for _ in range(_MOST_TITLES)]
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} is empty; a header line and rows are needed")
    skip = comments if len(_fields(lines[comments])[0]) > 1 or len(_fields(lines[0])[0]) <= 1 else 0
    skip += _titles(lines[skip:])
    return replace(file, delimiter=_fields(lines[skip])[1], skip_lines=skip)


def _titles(lines: Sequence[str]) -> int:
    """Return the number of lines above a header that are no part of the table, such as a report's title.

    A header has at least two names and none that is blank, and the line below has as many fields. By its delimiter a
    title has one.

    >>> _titles(["Orders of June;;", "", "id;day;price", "1;2024-06-01;9.50"]), _titles(["text", "one, two", "three"])
    (2, 0)
    """
    for number, (line, below) in enumerate(itertools.pairwise(lines)):
        fields, mark = _fields(line)
        if len(fields) > 1 and all(map(str.strip, fields)) and len(_split(below, mark)) == len(fields):
            return number if sum(bool(field.strip()) for field in _split(lines[0], mark)) <= 1 else 0
    return 0


def _fields(line: str) -> tuple[list[str], str]:
    """Return the fields of a line by the delimiter that gives most of them, and that delimiter."""
    return max(((_split(line, mark), mark) for mark in ",;\t|"), key=lambda each: len(each[0]))


def _split(line: str, mark: str) -> list[str]:
    # Where lines end at CR alone, `line` is the whole file.
    return next(csv.reader([next(io.StringIO(line, newline=""), "")], delimiter=mark), [])


def _decode(line: bytes, file: CsvFile) -> str:
    """Decode a line.

    Raises:
        UserError: it does not have the file's encoding; the message names a likely one.
    """
    if line.startswith(b"PAR1"):
        raise UserError(f"{file.name} is Parquet, and --csv takes CSV; name it by --parquet")
    if re.match(rb'\s*([{\[]\s*$|\{"|\[[{"])', line):
        raise UserError(f"{file.name} is JSON, and --csv takes CSV; write its rows as CSV")
    if wide := text_streams.wide_encoding(line):
        raise UserError(f"{file.name} is {wide.upper()} text; add --encoding {wide}")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _other_encoding(file.name, line, error.start) from None


def _other_encoding(name: str, line: bytes, start: int) -> UserError:
    """Return the error for bytes that are not UTF-8; it shows them in the most likely other encoding."""
    near = line[max(0, start - 12) : start + 12].splitlines() or [b""]
    shown = max(near, key=len).decode("cp1252", errors="replace").strip()
    return UserError(
        f"{name} is not UTF-8 text (byte 0x{line[start]:02x}, as cp1252 it says {shown!r}); "
        "if that is right add --encoding cp1252, else name the encoding that it was saved in"
    )


def require_utf8(file: CsvFile) -> None:
    """Refuse a file that is not UTF-8 unless another encoding is declared, which ingestion checks."""
    if codecs.lookup(file.encoding).name != "utf-8":
        return
    with file.open() as stream:
        for block in text_streams.whole_lines(stream):
            try:
                block.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _other_encoding(file.name, block, error.start) from None
