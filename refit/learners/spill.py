"""Large arrays in files: the system takes pages of a mapped file out of memory when it needs them, and reads them back.

A table of a hundred million values is encoded, copied and binned by several libraries in turn. Within
`large_arrays_in`, what Refit itself makes of it costs room on disk instead of memory. No value depends on it.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Growing", "empty", "is_large", "large_arrays_in", "parts", "table_in_file"]

PART = 65_536  # rows that are worked on at once


@dataclass(frozen=True)
class _Spill:
    folder: Path
    above: int  # bytes


_spill: ContextVar[_Spill | None] = ContextVar("spill", default=None)


@contextmanager
def large_arrays_in(folder: Path, *, above: int) -> Iterator[None]:
    """Within the block, arrays of more than `above` bytes lie in files of `folder`, which vanish with the arrays."""
    token = _spill.set(_Spill(folder, above))
    try:
        yield
    finally:
        _spill.reset(token)


def is_large(size: int) -> bool:
    """Whether an array of so many bytes belongs into a file."""
    spill = _spill.get()
    return spill is not None and size > spill.above


def empty(shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
    """An array in Fortran order whose values are not set; in a file if it is large.

    Raises:
        OSError: the disk has no room for it.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if not is_large(size):
        return np.empty(shape, dtype=kind, order="F")
    with _file() as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, not a crash later
        mapped = np.memmap(file, kind, "r+", shape=shape, order="F")
        return np.ndarray(shape, kind, mapped, order="F")  # results of a memmap would be memmaps


class Growing:
    """An array to which values are added at the end; in a file within `large_arrays_in`."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        self._file = None if _spill.get() is None else _file()
        self._parts: list[NDArray[Any]] = []

    def add(self, values: NDArray[Any]) -> None:
        """Add values.

        Raises:
            OSError: the disk has no room for them.
        """
        values = np.ascontiguousarray(values, self._dtype)
        if self._file is None:
            self._parts.append(values)
        else:
            self._file.write(values.data)

    def array(self) -> NDArray[Any]:
        """All values; nothing can be added afterwards."""
        if self._file is None:
            return np.concatenate([np.empty(0, self._dtype), *self._parts])
        with self._file as file:
            file.flush()
            size = file.tell()
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
            return np.frombuffer(mapped, self._dtype)


def parts(rows: int) -> Iterator[slice]:
    """The rows to work on at once, so that temporary arrays stay small.

    >>> list(parts(100_000))
    [slice(0, 65536, None), slice(65536, 100000, None)]
    """
    return (slice(first, min(first + PART, rows)) for first in range(0, rows, PART))


def table_in_file(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """A table whose values lie in a file."""
    import pyarrow as pa

    with _file() as file:
        with pa.ipc.new_file(pa.PythonFile(file, "w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()


def _file() -> IO[bytes]:
    """A new file without a name."""
    spill = _spill.get()
    assert spill is not None
    spill.folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=spill.folder)
