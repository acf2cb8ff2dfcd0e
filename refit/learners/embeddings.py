"""Turns arrays into a few numbers each, by which a classifier can separate images, vectors or sequences that changed.

The numbers are fixed random features: no weight of them is learned. Those of a trained network would separate the rows
that it was fitted on from any others, without any drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.config.column_types import ArrayColumn
from refit.storage.arrays import Float32, images, sequences, vectors

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EMBEDDING", "embedded"]

EMBEDDING = ".embedding."  # part of the name of each column, between the feature and a number
SIZE = 16  # numbers of an array, at most; of a sequence twice as many
FILTER, LARGEST = 5, 32  # pixels of a filter, and of an image on a side: of a larger one every so many-th pixel counts
VALUES = 4_000_000  # in memory at once

Numbers = NDArray[np.float32]


def embedded(table: pa.Table, arrays: Mapping[str, ArrayColumn]) -> dict[str, Numbers]:
    """The embedding of each row's arrays, as columns.

    An image becomes 8 random projections of its pixels and the means of 8 random convolutions, rectified (Rahimi and
    Recht 2007; Jarrett et al. 2009); a vector 16 random projections, or itself if it is not longer; a sequence the mean
    and the deviation of its values over the steps, of 16 of them at most. NaN where it is missing.

    >>> import pyarrow as pa
    >>> cells = pa.table({"place": [[1.0, 2.0], None]})
    >>> embedded(cells, {"place": ArrayColumn(kind="vector", shape=(2,))})["place.embedding.1"].tolist()
    [2.0, nan]
    """
    columns: dict[str, Numbers] = {}
    for name, array in arrays.items():
        parts = list(_parts(table, name, array))
        matrix = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
        columns |= {f"{name}{EMBEDDING}{index}": column for index, column in enumerate(matrix.T)}
    return columns


def _parts(table: pa.Table, name: str, array: ArrayColumn) -> Iterator[Numbers]:
    """The numbers of some rows at a time."""
    step = max(1, VALUES // (array.size * (SIZE if array.kind == "image" else 1)))
    for start in range(0, max(1, table.num_rows), step):
        rows = table.slice(start, step)
        if array.kind == "image":
            yield _of_images(images(rows, name, array))
        elif array.kind == "vector":
            yield _of_vectors(vectors(rows, name, array))
        else:
            yield _of_sequences(*sequences(rows, name, array))


def _of_images(pixels: NDArray[np.uint8]) -> Numbers:
    _, height, width, channels = pixels.shape
    every = -(-max(height, width) // LARGEST)
    shown = pixels[:, ::every, ::every].astype(np.float32) / 255
    side = min(FILTER, *shown.shape[1:3])
    windows = np.lib.stride_tricks.sliding_window_view(shown, (side, side), axis=(1, 2))
    filters = _random(channels * side * side, SIZE // 2)
    filters -= filters.mean(axis=0)  # of one colour nothing is left: brightness is what the projections see
    filtered = windows.reshape(*windows.shape[:3], len(filters)) @ filters
    textures = np.maximum(filtered, 0).mean(axis=(1, 2))
    flat = shown.reshape(len(shown), int(np.prod(shown.shape[1:])))
    return np.hstack([flat @ _random(flat.shape[1], SIZE // 2), textures])


def _of_vectors(values: Float32) -> Numbers:
    if values.shape[1] <= SIZE:
        return values
    result: Numbers = values @ _random(values.shape[1], SIZE)
    return result


def _of_sequences(steps: Float32, lengths: NDArray[np.int64]) -> Numbers:
    count = steps.shape[2]
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:SIZE])
    steps = steps[:, :, chosen].astype(np.float64)
    steps[np.arange(steps.shape[1]) >= lengths[:, None]] = np.nan
    there = ~np.isnan(steps)
    number = np.where(there.any(axis=1), there.sum(axis=1), np.nan)
    mean = np.where(there, steps, 0.0).sum(axis=1) / number
    deviation = np.sqrt((np.where(there, steps - mean[:, None], 0.0) ** 2).sum(axis=1) / number)
    return np.hstack([mean, deviation]).astype(np.float32)


def _random(inputs: int, outputs: int) -> Numbers:
    """A matrix of independent normal numbers, the same for the same shape."""
    numbers = np.random.default_rng(0).normal(size=(inputs, outputs)).astype(np.float32)
    return numbers / np.float32(np.sqrt(inputs))
