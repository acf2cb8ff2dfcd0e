"""Reads IDX, the format of MNIST (LeCun, Cortes and Burges): images in one file, their labels in the file next to it.

A file is two zero bytes, a type, a number of dimensions, each dimension as four bytes, then the values; all big-endian.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config import SourceParams
from refit.errors import UserError
from refit.sources import array_cells, limits
from refit.sources.binary_streams import BinaryStream, opened
from refit.sources.source_files import SourceFile, numbered

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DIMENSIONS = 4  # rows, height, width, channels


def labels_of(path: Path) -> list[Path]:
    """Where the labels of a file of images may be: under its name with `labels` for `images` and `idx1` for `idx3`.

    >>> [path.name for path in labels_of(Path("train-images-idx3-ubyte.gz"))]
    ['train-labels-idx1-ubyte.gz', 'train-labels-idx1-ubyte']
    """
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    if name == path.name:
        return []
    other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
    return [path.with_name(name), path.with_name(other)]


def parts(path: Path) -> tuple[Path, ...]:
    """A file of images, and its labels if they are next to it."""
    return (path, *[labels for labels in labels_of(path) if labels.is_file()][:1])


def column_names(file: SourceFile, source: SourceParams) -> list[str]:
    """The columns that a file has: the array, and the label if there are labels next to it."""
    array, label = _columns(source)
    return [array, *([label] if label and len(file.parts) > 1 else [])]


def read(file: SourceFile, source: SourceParams, where: str) -> Iterator[pa.RecordBatch]:
    """The images or vectors of a file in their order, numbered from 1, each with its label if one is declared.

    Raises:
        UserError: a file is not IDX, is damaged or not complete, or has another shape or number of rows than declared.
    """
    import pyarrow as pa

    array, label = _columns(source)
    with ExitStack() as stack:
        values = _opened(stack, file.path, file.name, limits.of(source, where))
        values.check_shape(source, array, where)
        columns = {array: values}
        if label:
            labels = columns[label] = _labels(stack, file, label, source, where)
            if labels.rows != values.rows:
                raise UserError(
                    f"{labels.name} holds {labels.rows:,} labels, {file.name} {values.rows:,} rows; "
                    "fetch the two files that belong together"
                )
        step = array_cells.rows_at_once(values.row_bytes)
        for start in range(0, values.rows, step):
            rows = min(step, values.rows - start)
            cells = [array_cells.column(part.next(rows), source.arrays.get(name)) for name, part in columns.items()]
            yield numbered(pa.record_batch(cells, names=list(columns)), start + 1)
        for part in columns.values():
            part.check_end()


def _columns(source: SourceParams) -> tuple[str, str | None]:
    """The column of the file itself, and the one of its labels."""
    (array,) = source.arrays
    return array, next((name for name in source.columns if name != array), None)


@dataclass(frozen=True)
class _Values:
    """An open IDX file after its header."""

    stream: BinaryStream
    kind: np.dtype[Any]
    rows: int
    shape: tuple[int, ...]  # of one row

    @property
    def name(self) -> str:
        return self.stream.name

    @property
    def row_bytes(self) -> int:
        return self.kind.itemsize * math.prod(self.shape)

    def next(self, rows: int) -> NDArray[Any]:
        import numpy as np

        content = self.stream.exactly(rows * self.row_bytes, f"the {self.rows:,} rows that its header states")
        return np.frombuffer(content, self.kind).reshape(rows, *self.shape)

    def check_end(self) -> None:
        self.stream.check_end(f"the {self.rows:,} rows")

    def check_shape(self, source: SourceParams, column: str, where: str) -> None:
        """Check that a row is what the column is declared to be."""
        array_cells.check_row(self.name, self.kind, self.shape, column, source, where)


def _opened(stack: ExitStack, path: Path, name: str, limit: limits.Limits) -> _Values:
    """Open a file and read its header."""
    import numpy as np

    stream = stack.enter_context(opened(path, name, limit))
    magic = bytes(stream.exactly(4, "its first four bytes"))
    kind, dimensions = _TYPES.get(magic[2]), magic[3]
    if magic[:2] != b"\0\0" or kind is None or not 1 <= dimensions <= _DIMENSIONS:
        raise UserError(
            f"{name} is no IDX file: it starts with {magic.hex(' ')}, 00 00, a type (08 for bytes) and a number of "
            "dimensions (03 for images) were expected; fetch the right file"
        )
    sizes = np.frombuffer(stream.exactly(4 * dimensions, "its header"), ">u4").tolist()
    rows, shape = sizes[0], tuple(sizes[1:])
    if not rows or not all(shape):
        raise UserError(f"{name} has no rows; at least one row was expected")
    return _Values(stream, np.dtype(kind), rows, shape)


def _labels(stack: ExitStack, file: SourceFile, column: str, source: SourceParams, where: str) -> _Values:
    """Open the file of labels next to a file of images."""
    paths = labels_of(file.path)
    if not paths:
        raise UserError(
            f"{file.name}: column {column!r} is read from the file next to it that has `labels` in its name for "
            f"`images`, and this name has no `images`; rename both files, or take the column out of {where}.columns"
        )
    if len(file.parts) < 2:
        raise UserError(
            f"{file.name}: column {column!r} is read from the labels next to it, and there is no {paths[0].name}; "
            f"fetch it, or take the column out of {where}.columns"
        )
    name = f"{file.name.removesuffix(file.path.name)}{file.parts[1].name}"
    labels = _opened(stack, file.parts[1], name, limits.of(source, where))
    if labels.shape:
        raise UserError(
            f"{name} has {len(labels.shape) + 1} dimensions, a file of labels has one; fetch the right file, or take "
            f"column {column!r} out of {where}.columns"
        )
    return labels
