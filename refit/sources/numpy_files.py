"""Reads NumPy's .npy and .npz row by row, without pickle: arrays of one length, by the names of their columns."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from refit.config import SourceParams
from refit.errors import UserError, first_line
from refit.sources import array_cells, limits
from refit.sources.binary_streams import BinaryStream, opened
from refit.sources.source_files import SourceFile, numbered
from refit.sources.text_streams import DAMAGED, ZIP, damage

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAGIC = b"\x93NUMPY"
SUFFIXES = (".npy", ".npz")
_LONGEST = 10_000  # bytes of a header, as numpy.load has it


@dataclass(frozen=True)
class _Array:
    """An array whose rows come next in a stream."""

    name: str  # of the file, and of the array within it
    stream: BinaryStream
    kind: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        return self.kind.itemsize * math.prod(self.shape[1:])

    def next(self, rows: int) -> Any:
        import numpy as np

        content = self.stream.exactly(rows * self.row_bytes, f"the {self.rows:,} rows that its header states")
        return np.frombuffer(content, self.kind).reshape(rows, *self.shape[1:])


def column_names(file: SourceFile, source: SourceParams) -> list[str]:
    """The names of the arrays of a .npz; the one array of a .npy takes the name of the one declared column."""
    with ExitStack() as stack:
        return list(_members(stack, file, source, "ingest.sources"))


def read(
    file: SourceFile, source: SourceParams, where: str, check_header: Callable[[Sequence[str]], None]
) -> Iterator[pa.RecordBatch]:
    """The rows of a file's arrays, numbered from 1.

    Raises:
        UserError: the file is damaged, an array is missing, needs pickle or has another shape or type than declared,
            or the arrays have different lengths.
    """
    import pyarrow as pa

    with ExitStack() as stack:
        members = _members(stack, file, source, where)
        check_header(list(members))
        arrays = {name: _array(members[name], name, source, where) for name in source.columns}
        rows = {array.rows for array in arrays.values()}
        if len(rows) > 1:
            listed = ", ".join(f"{name} {array.rows:,}" for name, array in arrays.items())
            raise UserError(f"{file.name}: the arrays have different numbers of rows ({listed}); correct the file")
        (total,) = rows
        if not total:
            raise UserError(f"{file.name} has no rows; at least one row was expected")
        step = array_cells.rows_at_once(sum(array.row_bytes for array in arrays.values()))
        for start in range(0, total, step):
            number = min(step, total - start)
            cells = [array_cells.column(array.next(number), source.arrays.get(name)) for name, array in arrays.items()]
            yield numbered(pa.record_batch(cells, names=list(arrays)), start + 1)
        for array in arrays.values():
            array.stream.check_end(f"the {total:,} rows")


def _members(stack: ExitStack, file: SourceFile, source: SourceParams, where: str) -> Mapping[str, BinaryStream]:
    """Open a stream for each array of a file, by the name of its column."""
    limit = limits.of(source, where)
    with file.path.open("rb") as raw:
        is_archive = raw.read(4) == ZIP
    if is_archive:
        return stack.enter_context(_archive(file, limit))
    if len(source.columns) != 1:
        raise UserError(
            f"{file.name} is one array, and columns declares {len(source.columns)} ({', '.join(source.columns)}); "
            f"save them together by numpy.savez, or correct {where}.columns"
        )
    return {next(iter(source.columns)): stack.enter_context(opened(file.path, file.name, limit))}


@contextmanager
def _archive(file: SourceFile, limit: limits.Limits) -> Iterator[Mapping[str, BinaryStream]]:
    """Open every array of a .npz; each is unpacked as it is read."""
    with ExitStack() as stack:
        members = {}
        try:
            archive = stack.enter_context(zipfile.ZipFile(file.path))
            for info in archive.infolist():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f"{file.name}: {info.filename} is packed in a way that NumPy does not use")
                stream: IO[bytes] = stack.enter_context(archive.open(info))
                name = info.filename.removesuffix(".npy")
                members[name] = BinaryStream(stream, f"{file.name}: {name}", limit, info.compress_size)
        except UserError:
            raise
        except DAMAGED as error:
            raise damage(file.name, error) from None
        yield members


def _array(stream: BinaryStream, column: str, source: SourceParams, where: str) -> _Array:
    """Read the header of an array and check it against its column."""
    import numpy as np

    kind, shape, by_columns = _header(stream)
    if kind.hasobject or kind.kind == "V":
        raise UserError(
            f"{stream.name} holds {kind.name} values, which need pickle or are no plain numbers or texts; save it with "
            "another dtype"
        )
    if not shape:
        raise UserError(f"{stream.name} is a single value; an array with a row for each row was expected")
    if by_columns and len(shape) > 1:
        raise UserError(f"{stream.name} is stored column by column; save numpy.ascontiguousarray of it")
    if column in source.arrays:
        array_cells.check_row(stream.name, kind, shape[1:], column, source, where)
    elif len(shape) > 1:
        sizes = " x ".join(map(str, shape[1:]))
        raise UserError(
            f"{stream.name}: a row is {sizes}, the column {column!r} is {source.columns[column]}; correct "
            f"{where}.columns"
        )
    elif kind.kind not in "biufUM":
        raise UserError(f"{stream.name} holds {kind.name} values; numbers, texts and times are read")
    return _Array(stream.name, stream, np.dtype(kind), shape)


def _header(stream: BinaryStream) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The dtype, the shape, and whether the array is in Fortran order."""
    import numpy as np

    magic = bytes(stream.exactly(8, "its first eight bytes"))
    if magic[:6] != MAGIC or magic[6] not in (1, 2, 3):
        raise UserError(f"{stream.name} is no .npy array; fetch the right file, or correct its `format`")
    width = 2 if magic[6] == 1 else 4
    size = bytes(stream.exactly(width, "its header"))
    length = int.from_bytes(size, "little")
    if length > _LONGEST:
        raise UserError(f"{stream.name}: its header has {length:,} bytes, a plain array has less; fetch the right file")
    header = io.BytesIO(size + bytes(stream.exactly(length, "its header")))
    read_header = np.lib.format.read_array_header_1_0 if magic[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        shape, by_columns, kind = read_header(header)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(f"{stream.name}: its header is damaged ({first_line(error)}); fetch the file again") from None
    return kind, shape, by_columns
