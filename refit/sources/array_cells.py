"""Turns blocks of numbers into Arrow columns: images as bytes, vectors as lists of float32, anything else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from refit.config import SourceParams
from refit.config.column_types import ArrayColumn
from refit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_BYTES = 1 << 25  # of a record batch
_ROWS = 5_000


def rows_at_once(row_bytes: int) -> int:
    """The number of rows in a record batch, bounded by their number and their size."""
    return max(1, min(_ROWS, _BYTES // max(1, row_bytes)))


def images(pixels: bytes | bytearray | memoryview, array: ArrayColumn) -> pa.Array:
    """Images that lie one after the other in `pixels`, each as one binary cell.

    >>> images(bytes(range(8)), ArrayColumn(kind="image", shape=(2, 2, 1))).to_pylist()
    [b'\\x00\\x01\\x02\\x03', b'\\x04\\x05\\x06\\x07']
    """
    import numpy as np
    import pyarrow as pa

    ends = pa.array(np.arange(0, len(pixels) + 1, array.size, dtype=np.int32))
    return pa.Array.from_buffers(pa.binary(), len(ends) - 1, [None, ends.buffers()[1], pa.py_buffer(pixels)])


def vectors(values: NDArray[Any], array: ArrayColumn) -> pa.Array:
    """Rows of numbers as vectors of float32."""
    import numpy as np
    import pyarrow as pa

    with np.errstate(over="ignore"):  # what is too large becomes infinite, and casting refuses it
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), array.size)


def column(values: NDArray[Any], array: ArrayColumn | None) -> pa.Array:
    """The rows of a NumPy array whose shape was checked as one column."""
    import pyarrow as pa

    if array is None:
        return pa.array(values.astype(values.dtype.newbyteorder("="), copy=False))
    if array.kind == "image":
        return images(values.tobytes(), array)
    return vectors(values, array)


def check_row(
    name: str, kind: np.dtype[Any], shape: tuple[int, ...], column: str, source: SourceParams, where: str
) -> None:
    """Check that a row of an array file is an image or vector as declared.

    Args:
        name: of the file, for messages.
        kind: the type of its values.
        shape: of one row.

    Raises:
        UserError: it has another shape, or values of another type.
    """
    import numpy as np

    array, declared = source.arrays[column], source.columns[column]
    wanted = [array.shape, array.shape[:2]] if array.shape[2:] == (1,) else [array.shape]
    sizes = " x ".join(map(str, shape)) or "a single value"
    if shape not in wanted:
        raise UserError(f"{name}: a row is {sizes}, the column {column!r} is {declared}; correct {where}.columns")
    if array.kind == "image" and kind != np.uint8:
        raise UserError(f"{name} holds {kind.name} values, an image holds uint8 (0 to 255); convert it before")
    if kind.kind not in "iuf":
        raise UserError(f"{name} holds {kind.name} values, a vector holds numbers; convert it before")


def named(pixels: Sequence[bytes | None], names: Sequence[str | None], faults: Sequence[str | None]) -> pa.Array:
    """Cells with what messages show in their place: the name of the file, and why it is none.

    >>> named([b"x", None], ["a.png", "b.png"], [None, "is empty"]).to_pylist()[1]
    {'pixels': None, 'name': 'b.png', 'fault': 'is empty'}
    """
    import pyarrow as pa

    kinds = {"pixels": pa.binary(), "name": pa.string(), "fault": pa.string()}
    columns = [pa.array(values, kind) for values, kind in zip((pixels, names, faults), kinds.values(), strict=True)]
    return pa.StructArray.from_arrays(columns, list(kinds))
