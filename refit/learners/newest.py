"""The newest rows of a training table: those that a model's training score is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["newest", "newest_of", "taken"]

Indices = NDArray[np.int64]


def newest(times: NDArray[Any], count: int) -> Indices:
    """Ascending indices of the last `count` rows, which are in order of time.

    If these are only some of the rows of one moment, they are drawn from all rows of that moment, the same each time:
    rows of a moment are in the order of their keys, and the last of them may all be of one class.

    >>> newest(np.array([1, 2, 3, 4]), 2).tolist(), newest(np.array([1, 2, 2, 2, 2, 2]), 2).tolist()
    ([2, 3], [4, 5])
    """
    start = max(0, len(times) - count)
    if 0 < start < len(times) and times[start - 1] == times[-1]:
        first = int(np.searchsorted(times, times[-1]))
        return first + np.sort(np.random.default_rng(0).choice(len(times) - first, count, replace=False))
    return np.arange(start, len(times))


def newest_of(table: pa.Table, count: int) -> Indices:
    """The same of a table with a column `event_time`; the last rows if it has none."""
    is_dated = "event_time" in table.column_names
    return newest(table["event_time"].to_numpy() if is_dated else np.arange(table.num_rows), count)


def taken(table: pa.Table, indices: Indices) -> pa.Table:
    """The rows at ascending indices: a view if they are next to each other."""
    if len(indices) and len(indices) == indices[-1] - indices[0] + 1:
        return table.slice(int(indices[0]), len(indices))
    return table.take(indices)
