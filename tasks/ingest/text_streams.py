"""Archives, other encodings and runs of spaces, as the plain lines of UTF-8 that the CSV readers take."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from tasks.errors import UserError

BLOCK = 1 << 23
_TOKEN = re.compile(rb'"(?:[^"]|"")*"(?=\s|$)|\S+')


@contextmanager
def unpacked(path: Path, name: str, member: str | None) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed; `member` names the one that is meant in a zip of several.

    Raises:
        UserError: a broken archive, or a zip of which it is not clear what to read.
    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(4)
            raw.seek(0)
            if magic == b"PK\x03\x04":
                with zipfile.ZipFile(raw) as archive, archive.open(_member(archive, name, member)) as opened:
                    yield opened
            elif member is not None:
                raise UserError(f"{name} is no zip, of which {member!r} could be read; drop `member`")
            elif magic[:2] == b"\x1f\x8b":
                with gzip.open(raw) as unzipped:
                    yield cast(IO[bytes], unzipped)
            else:
                yield raw
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise UserError(f"{name} cannot be unpacked ({error}); fetch the file again") from None


def _member(archive: zipfile.ZipFile, name: str, wanted: str | None) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    listed = ", ".join(member.filename for member in members[:4]) or "none"
    if wanted is not None:
        found = [m for m in members if m.filename == wanted] or [
            m for m in members if m.filename.rpartition("/")[2] == wanted
        ]
        if len(found) != 1:
            raise UserError(f"{name} holds {len(found)} files {wanted!r} (`member`); there are {listed}")
        members = found
    if len(members) != 1:
        raise UserError(f"{name} holds {len(members)} files ({listed}); name the one that is meant (`member`)")
    if members[0].flag_bits & 1:
        raise UserError(f"{name} is encrypted; unpack it first")
    return members[0]


def whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes in large blocks that end with a line."""
    rest = b""
    while block := stream.read(BLOCK):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield whole + newline
    if rest:
        yield rest


def as_utf8(stream: IO[bytes], encoding: str, name: str) -> IO[bytes]:
    """The same text in UTF-8.

    Raises:
        UserError: on reading, bytes that are none of the encoding's.
    """
    return _stream(_recoded(stream, encoding, name))


def _recoded(stream: IO[bytes], encoding: str, name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    while True:
        block = stream.read(BLOCK)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = lines + error.object[: error.start].decode(encoding, errors="replace").count("\n")
            raise UserError(
                f"{name} line {line} is not {encoding} (byte 0x{error.object[error.start]:02x}); correct `encoding`"
            ) from None
        lines += text.count("\n")
        if text:
            yield text.encode()
        if not block:
            return


def with_tabs(stream: IO[bytes], *, quoting: bool) -> IO[bytes]:
    """The same lines with one tab for each run of spaces and tabs, and none at either end.

    >>> with_tabs(io.BytesIO(b' 1  19970101 "a b" \\n'), quoting=True).read()
    b'1\\t19970101\\t"a b"\\n'
    """

    def tabbed(line: bytes) -> bytes:
        return b"\t".join(_TOKEN.findall(line) if quoting and b'"' in line else line.split())

    return _stream(b"\n".join(map(tabbed, block.split(b"\n"))) for block in whole_lines(stream))


def _stream(blocks: Iterator[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Blocks(blocks), 1 << 16)


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file."""

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
