"""Converts archives, other encodings and runs of spaces to the plain UTF-8 lines that the CSV readers expect."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from refit.errors import UserError, first_line
from refit.sources.limits import Limits
from refit.sources.source_files import ReadDigest

BLOCK = 1 << 23
_PIECE = 1 << 20
# zipfile unpacks everything that it reads of these at once: 4 kB may become 80 MB
_GREEDY = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_GREEDY_PIECE = 1 << 12
ZIP, GZIP = b"PK\x03\x04", b"\x1f\x8b"
_OTHER_KINDS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x04\x22\x4d\x18": "LZ4",
    b"Rar!": "RAR",
    GZIP: "gzip",
    ZIP: "zip",
    b"PK\x05\x06": "empty zip",
    b"ARROW1": "Arrow",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
    b"%PDF": "PDF",
    b"\xd0\xcf\x11\xe0": "old Excel",
    b"SQLite format 3": "SQLite",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\x93NUMPY": "NumPy",
}
_FORMATS = {"PNG": "images", "JPEG": "images", "NumPy": "numpy"}
# Errors that the libraries raised for damaged input in trials; bzip2 raises OSError and ValueError.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError, ValueError, RuntimeError,
    IndexError, struct.error,
)  # fmt: skip
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Which of the first four bytes are NUL where a text begins with ASCII.
_UNMARKED: dict[tuple[bool, ...], str] = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]")
_TOKEN = re.compile(rb'"(?:[^"]|"")*"(?=\s|$)|\S+')


def is_packed(path: Path) -> bool:
    """Whether `unpacked` decompresses a file."""
    with path.open("rb") as raw:
        magic = raw.read(4)
    return magic == ZIP or magic[:2] == GZIP


@contextmanager
def unpacked(
    path: Path, name: str, member: str | None, limits: Limits, read_digest: ReadDigest | None = None
) -> Iterator[IO[bytes]]:
    """Open a file decompressed; `member` names the file to read in a zip of several.

    Args:
        read_digest: receives the digest of a file that is not compressed, once it is read to its end.

    Raises:
        UserError: the archive is broken or of an unsupported kind, or it is ambiguous which file of a zip to read; or,
            while reading, the limits are exceeded.
    """
    try:
        with path.open("rb") as raw:
            packed = path.stat().st_size
            magic = raw.read(4)
            raw.seek(0)
            if magic == ZIP:
                opened, piece = _open_member(raw, name, member)
                with opened:
                    yield stream_of(_within(opened, name, limits, packed, piece))
            elif member is not None:
                raise UserError(f"{name} is no zip, of which {member!r} could be read; drop `member`")
            elif magic[:2] == GZIP:
                with gzip.open(raw) as unzipped:
                    yield stream_of(_within(cast(IO[bytes], unzipped), name, limits, packed, _PIECE))
            else:
                yield stream_of(_digested(_within(raw, name, limits, None, _PIECE), read_digest or ReadDigest()))
    except FileNotFoundError:
        raise UserError(f"{name} does not exist") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror or error}); give this user access to it") from None


def _open_member(raw: IO[bytes], name: str, member: str | None) -> tuple[IO[bytes], int]:
    """The requested member, and how many bytes of it to read at once."""
    try:
        archive = zipfile.ZipFile(raw)
        info = _member(archive, name, member)
        return archive.open(info), _GREEDY_PIECE if info.compress_type in _GREEDY else _PIECE
    except DAMAGED as error:
        raise damage(name, error) from None


def damage(name: str, error: Exception) -> UserError:
    """The error for a file that a library could not unpack."""
    return UserError(f"{name} cannot be unpacked ({first_line(error)}); fetch the file again")


def _within(stream: IO[bytes], name: str, limits: Limits, packed: int | None, piece: int) -> Iterator[bytes]:
    """Yield the same bytes, checking line lengths and total size; `packed` is the compressed size, if any."""
    lines, length, total = 1, 0, 0
    while block := _read(stream, piece, name):
        if not total:
            _check_kind(block, name)
        total += len(block)
        if packed is not None:
            limits.check_unpacked(name, packed, total)
        ends = [end for mark in (b"\n", b"\r") if (end := block.find(mark)) >= 0]
        limits.check_line(name, length + min(ends, default=len(block)), f"line {lines}")
        last = max(block.rfind(b"\n"), block.rfind(b"\r"))
        length = len(block) - last - 1 if last >= 0 else length + len(block)
        lines += block.count(b"\n")
        yield block


def _digested(blocks: Iterator[bytes], read_digest: ReadDigest) -> Iterator[bytes]:
    content = hashlib.sha256()
    for block in blocks:
        content.update(block)
        yield block
    read_digest.sha256 = content.hexdigest()


def _read(stream: IO[bytes], size: int, name: str) -> bytes:
    try:
        return stream.read(size)
    except DAMAGED as error:
        raise damage(name, error) from None


def _check_kind(block: bytes, name: str) -> None:
    kinds = [kind for magic, kind in _OTHER_KINDS.items() if block.startswith(magic)]
    if block[257:262] == b"ustar":
        kinds.append("tar")
    for kind in kinds:
        if _BINARY.search(block[:4096]):
            declare = f"declare `format: {_FORMATS[kind]}`" if kind in _FORMATS else ""
            remedy = declare or "unpack or convert it to CSV or Parquet first"
            raise UserError(f"{name} is {kind} data where text was expected; {remedy}")


def _member(archive: zipfile.ZipFile, name: str, wanted: str | None) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    listed = ", ".join(member.filename for member in members[:4]) or "none"
    if wanted is not None:
        matches = [m for m in members if m.filename == wanted] or [
            m for m in members if m.filename.rpartition("/")[2] == wanted
        ]
        if len(matches) != 1:
            raise UserError(f"{name} holds {len(matches)} files {wanted!r} (`member`); there are {listed}")
        members = matches
    if wanted is None and {"xl/workbook.xml", "content.xml"} & {member.filename for member in members}:
        raise UserError(f"{name} is a workbook; save the sheet that is meant as CSV")
    if len(members) != 1:
        raise UserError(
            f"{name} holds {len(members)} files ({listed}); name the one that is meant (`member`), or unpack it"
        )
    if members[0].flag_bits & 1:
        raise UserError(f"{name} is encrypted; unpack it first")
    return members[0]


def wide_encoding(start: bytes) -> str | None:
    """The encoding of a text with two or four bytes a character, by its first bytes; None if it is another.

    >>> wide_encoding("id,x".encode("utf-16")), wide_encoding("id,x".encode("utf-16-le")), wide_encoding(b"id,x")
    ('utf-16', 'utf-16-le', None)
    """
    marked = next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), None)
    return marked or _UNMARKED.get(tuple(byte == 0 for byte in start[:4]))


def whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes in large blocks that end at the end of a line."""
    rest = b""
    while block := stream.read(BLOCK):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if not newline and len(rest) > BLOCK:
            whole, newline, rest = rest.rpartition(b"\r")
        if newline:
            yield whole + newline
    if rest:
        yield rest


def as_utf8(stream: IO[bytes], encoding: str, name: str) -> IO[bytes]:
    """Convert a text to UTF-8.

    Raises:
        UserError: while reading, bytes are invalid in the encoding.
    """
    return stream_of(_recoded(stream, encoding, name))


def _recoded(stream: IO[bytes], encoding: str, name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    while True:
        block = stream.read(BLOCK)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            if not isinstance(error, UnicodeDecodeError):
                raise UserError(f"{name} is not {encoding} ({error}); correct `encoding`") from None
            line = lines + error.object[: error.start].decode(encoding, errors="replace").count("\n")
            raise UserError(
                f"{name} line {line} is not {encoding} (byte 0x{error.object[error.start]:02x}); correct `encoding`"
            ) from None
        lines += text.count("\n")
        if text:
            try:
                yield text.encode()
            except UnicodeEncodeError:
                raise UserError(f"{name} holds half a character pair in {encoding}; correct `encoding`") from None
        if not block:
            return


def with_tabs(stream: IO[bytes], *, quoting: bool) -> IO[bytes]:
    """Replace each run of spaces and tabs by one tab, and remove those at both ends of a line.

    >>> with_tabs(io.BytesIO(b' 1  19970101 "a b" \\n'), quoting=True).read()
    b'1\\t19970101\\t"a b"\\n'
    """

    def tabbed(line: bytes) -> bytes:
        return b"\t".join(_TOKEN.findall(line) if quoting and b'"' in line else line.split())

    return stream_of(b"\n".join(map(tabbed, block.split(b"\n"))) for block in whole_lines(stream))


def stream_of(blocks: Iterator[bytes]) -> IO[bytes]:
    """A readable file made of blocks of bytes."""
    return io.BufferedReader(_Blocks(blocks), 1 << 16)


class _Blocks(io.RawIOBase):
    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
