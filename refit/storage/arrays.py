"""Reads images, vectors and sequences of a table as NumPy arrays, after checking their shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.config.column_types import ArrayColumn
from refit.errors import UserError, counted
from refit.storage.columns import cells_of

if TYPE_CHECKING:
    import pyarrow as pa

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


def images(table: pa.Table, name: str, array: ArrayColumn) -> Uint8:
    """(rows, height, width, channels) uint8.

    Raises:
        UserError: the column is missing, an image is, or one has another size.

    >>> import pyarrow as pa
    >>> cells = pa.table({"pixels": [bytes([0, 50, 100, 150])]})
    >>> images(cells, "pixels", ArrayColumn(kind="image", shape=(2, 2, 1)))[0, :, :, 0].tolist()
    [[0, 50], [100, 150]]
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = cells_of(table, name)
    is_binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if not any(is_kind(cells.type) for is_kind in is_binary):
        raise UserError(f"feature {name!r} holds {cells.type}, {array} was expected: its bytes in one binary cell")
    if cells.null_count:
        row = pc.index(pc.is_null(cells), True).as_py()
        raise UserError(
            f"feature {name!r} is missing in {counted(cells.null_count, 'row')}, the first is row {row}; leave such "
            "rows out (`required` in ingest.sources puts them into quarantine)"
        )
    cells = cells.cast(pa.large_binary())
    lengths = pc.binary_length(cells).to_numpy(zero_copy_only=False)
    if (lengths != array.size).any():
        row = int(np.flatnonzero(lengths != array.size)[0])
        raise UserError(f"feature {name!r} has {lengths[row]} bytes in row {row}, {array} has {array.size}")
    _, offsets, values = cells.buffers()
    if values is None:
        return np.empty((len(cells), *array.shape), np.uint8)
    start = int(np.frombuffer(offsets, np.int64)[cells.offset])
    flat = np.frombuffer(values, np.uint8, count=len(cells) * array.size, offset=start)
    return flat.reshape(len(cells), *array.shape)


def vectors(table: pa.Table, name: str, array: ArrayColumn) -> Float32:
    """(rows, size) float32; NaN in all of a missing vector.

    Raises:
        UserError: the column is missing, or a vector has another size.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = cells_of(table, name)
    if not pa.types.is_nested(cells.type):
        raise UserError(f"feature {name!r} holds {cells.type}, {array} was expected: a list of numbers in each cell")
    lengths = pc.list_value_length(cells).fill_null(array.size).to_numpy(zero_copy_only=False)
    if (lengths != array.size).any():
        row = int(np.flatnonzero(lengths != array.size)[0])
        raise UserError(f"feature {name!r} has {lengths[row]} numbers in row {row}, {array} has {array.size}")
    result = np.full((len(cells), array.size), np.nan, np.float32)
    there = cells.is_valid().to_numpy(zero_copy_only=False)
    numbers = pc.list_flatten(cells.filter(cells.is_valid())).cast(pa.float32(), safe=False)
    result[there] = numbers.to_numpy(zero_copy_only=False).reshape(-1, array.size)
    return result


def sequences(table: pa.Table, name: str, array: ArrayColumn) -> tuple[Float32, NDArray[np.int64]]:
    """(rows, steps, values) float32 and (rows,) lengths; the oldest step first, 0 after the last one.

    A row without any step has length 0. A missing value within a step is NaN. Of longer sequences the newest steps
    count.

    Raises:
        UserError: the column is missing, or a step has another number of values.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells, (most, width) = cells_of(table, name), array.shape
    if not (pa.types.is_nested(cells.type) and pa.types.is_nested(cells.type.value_type)):
        raise UserError(f"feature {name!r} holds {cells.type}, {array} was expected: a list of steps in each cell")
    whole = pc.list_value_length(cells).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    steps = pc.list_flatten(cells)
    widths = pc.list_value_length(steps).fill_null(0).to_numpy(zero_copy_only=False)
    if (widths != width).any():
        raise UserError(f"feature {name!r} has a step of {widths[widths != width][0]} values, {array} has {width}")
    numbers = pc.list_flatten(steps).cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, width)
    rows = np.repeat(np.arange(len(cells)), whole)
    position = np.arange(len(rows)) - np.repeat(np.cumsum(whole) - whole, whole)
    shifted = position - np.repeat(np.maximum(whole - most, 0), whole)
    result = np.zeros((len(cells), most, width), np.float32)
    recent = shifted >= 0
    result[rows[recent], shifted[recent]] = numbers[recent]
    return result, np.minimum(whole, most)


def flat(table: pa.Table, arrays: Mapping[str, ArrayColumn]) -> NDArray[np.float64]:
    """(rows, values) float64: the values of all images and vectors, one after the other.

    Raises:
        UserError: one is a sequence, which has no fixed number of values, or does not fit.
    """
    parts: list[Any] = [np.empty((table.num_rows, 0))]
    for name, array in arrays.items():
        if array.kind == "sequence":
            raise UserError(f"feature {name!r} is a sequence; a learner for sequences was expected, such as gru")
        read = images if array.kind == "image" else vectors
        parts.append(read(table, name, array).reshape(table.num_rows, -1))
    return np.hstack(parts)


def summarised(table: pa.Table, arrays: Mapping[str, ArrayColumn]) -> pa.Table:
    """The table with a few numbers in place of each array, to watch its distribution by.

    An image becomes the mean and the deviation of its values, from 0 to 255; a vector its length in space (norm) and
    the mean of its values; a sequence its number of steps and the share of values that are missing in them.

    >>> import pyarrow as pa
    >>> cells = pa.table({"pixels": [bytes([0, 50, 100, 150])], "price": [2.0]})
    >>> summarised(cells, {"pixels": ArrayColumn(kind="image", shape=(2, 2, 1))}).to_pylist()
    [{'pixels.mean': 75.0, 'pixels.contrast': 55.90169943749474, 'price': 2.0}]
    """
    import pyarrow as pa

    if not arrays:
        return table
    columns: dict[str, object] = {}
    for name in table.column_names:
        if name in arrays:
            numbers = _summary(table, name, arrays[name])
            columns |= {f"{name}.{part}": pa.array(values, from_pandas=True) for part, values in numbers.items()}
        else:
            columns[name] = table[name]
    return pa.table(columns)


def summary_names(name: str, array: ArrayColumn) -> tuple[str, ...]:
    """The columns that `summarised` puts in place of an array."""
    return tuple(f"{name}.{part}" for part in _SUMMARIES[array.kind])


_SUMMARIES = {"image": ("mean", "contrast"), "vector": ("norm", "mean"), "sequence": ("length", "missing")}
_VALUES = 1_000_000  # of images at once: as doubles they take eight bytes each


def _summary(table: pa.Table, name: str, array: ArrayColumn) -> dict[str, NDArray[np.float64]]:
    if array.kind == "sequence":
        steps, lengths = sequences(table, name, array)
        missing = np.isnan(steps).sum(axis=(1, 2)) / np.maximum(1, lengths * array.shape[1])
        return {"length": lengths.astype(np.float64), "missing": missing}
    if array.kind == "vector":
        values = vectors(table, name, array).astype(np.float64)
        return {"norm": np.sqrt((values**2).sum(axis=1)), "mean": values.mean(axis=1)}
    pixels = images(table, name, array).reshape(table.num_rows, array.size)
    rows = max(1, _VALUES // array.size)
    parts = (pixels[start : start + rows].astype(np.float64) for start in range(0, max(1, len(pixels)), rows))
    means, contrasts = zip(*((part.mean(axis=1), part.std(axis=1)) for part in parts), strict=True)
    return {"mean": np.concatenate(means), "contrast": np.concatenate(contrasts)}
