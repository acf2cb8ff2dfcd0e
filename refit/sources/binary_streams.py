"""Reads binary files, plain or in gzip, in whole pieces of known size, and within the limits of what is unpacked."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from refit.errors import UserError
from refit.sources.limits import Limits
from refit.sources.text_streams import DAMAGED, GZIP, damage

_PIECE = 1 << 20


class BinaryStream:
    """A file that is read in pieces of known size; `name` is its name in messages."""

    def __init__(self, stream: IO[bytes], name: str, limits: Limits, packed: int | None) -> None:
        self.name = name
        self._stream = stream
        self._limits = limits
        self._packed = packed  # its size while compressed, if it is
        self._total = 0

    def exactly(self, size: int, what: str) -> bytearray:
        """The next `size` bytes; `what` says in messages what they are.

        Raises:
            UserError: the file ends before, is damaged, or unpacks to more than its limits.
        """
        content = bytearray()
        while len(content) < size and (piece := self._read(min(_PIECE, size - len(content)))):
            content += piece
        if len(content) < size:
            raise UserError(f"{self.name} ends within {what}; it is not complete: fetch the file again")
        return content

    def check_end(self, what: str) -> None:
        """Check that nothing follows `what`.

        Raises:
            UserError: something does, or the file is damaged at its end.
        """
        if self._read(1):
            raise UserError(f"{self.name} goes on after {what}, the last that its header states; fetch the right file")

    def _read(self, size: int) -> bytes:
        try:
            piece = self._stream.read(size)
        except DAMAGED as error:
            raise damage(self.name, error) from None
        self._total += len(piece)
        if self._packed is not None:
            self._limits.check_unpacked(self.name, self._packed, self._total)
        return piece


@contextmanager
def opened(path: Path, name: str, limits: Limits) -> Iterator[BinaryStream]:
    """Open a file, unpacked if it is in gzip.

    Raises:
        UserError: it is missing or may not be read.
    """
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(2) == GZIP
            raw.seek(0)
            if is_packed:
                with gzip.open(raw) as unzipped:
                    yield BinaryStream(cast(IO[bytes], unzipped), name, limits, path.stat().st_size)
            else:
                yield BinaryStream(raw, name, limits, None)
    except FileNotFoundError:
        raise UserError(f"{name} does not exist") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror or error}); give this user access to it") from None
