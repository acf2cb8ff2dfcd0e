"""Naive guesses from a single feature: the shares of the classes in each of its bins, or its value itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refit.problems.contract import Guess, aligned

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from refit.problems.contract import Floats, Naive

BINS = 10  # of a number, with about as many rows each
MOST_VALUES = 50  # of a category, the most frequent ones; the others count as one
PRIOR_ROWS = 5.0  # how many rows the shares of all rows count for in a bin


class SharesByFeature(Guess):
    """The share of each class among the training rows of the same bin of one feature (Holte 1993, one-rule)."""

    feature: str
    classes: tuple[str, ...]
    edges: tuple[float, ...] | None = None  # of the bins, if the feature is a number
    values: tuple[str, ...] = ()  # a bin each, if it is a category
    shares: tuple[tuple[float, ...], ...]  # (bins, classes); the last bin is of rows without a value, or a rare one

    @classmethod
    def fitted(
        cls, column: pa.ChunkedArray, name: str, codes: NDArray[np.int64], classes: tuple[str, ...]
    ) -> SharesByFeature | None:
        """The guess by a feature of training rows; None if the feature is neither number nor category, or has one bin.

        Args:
            codes: (rows,) the class of each row, as a position in `classes`.
        """
        import numpy as np

        edges, values = _bins(column)
        if edges is None and not values:
            return None
        bins = _bin_of(column, edges, values)
        count = (len(edges) + 1 if edges is not None else len(values)) + 1
        known = codes >= 0
        counts = np.zeros((count, len(classes)))
        np.add.at(counts, (bins[known], codes[known]), 1.0)
        prior = counts.sum(axis=0) / max(counts.sum(), 1.0)
        shares = (counts + PRIOR_ROWS * prior) / (counts.sum(axis=1, keepdims=True) + PRIOR_ROWS)
        return cls(
            feature=name,
            classes=classes,
            edges=None if edges is None else tuple(edges.tolist()),
            values=values,
            shares=tuple(map(tuple, shares.tolist())),
        )

    def of(self, table: pa.Table, classes: tuple[str, ...]) -> Floats:
        """(rows, classes) the shares of each row's bin."""
        import numpy as np

        edges = None if self.edges is None else np.asarray(self.edges)
        shares = np.asarray(self.shares)[_bin_of(table.column(self.feature), edges, self.values)]
        return aligned(shares, self.classes, classes)


def is_by_feature(naive: Naive) -> bool:
    """Whether a stored guess is one by a single feature."""
    return "feature" in naive


def numbers(column: pa.ChunkedArray) -> Floats:
    """(rows,) a column of numbers, nan where there is none."""
    import numpy as np
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers: booleans count as 0 and 1."""
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def bin_edges(values: Floats, bins: int) -> Floats:
    """The ascending lower edges of all bins of some finite numbers but the lowest one.

    Bins have about as many rows each. A value of as many rows by itself, such as 0 among amounts, is a bin of its own.

    Args:
        values: (rows,) numbers, at least two of them different.

    >>> import numpy as np
    >>> bin_edges(np.array([0.0, 0, 0, 0, 0, 0, 5, 6, 7, 8]), 2).tolist()
    [5.0]
    """
    import numpy as np

    distinct, rows = np.unique(values, return_counts=True)
    above = np.flatnonzero(rows * bins >= len(values)) + 1
    quantiles = np.quantile(values, np.arange(1, bins) / bins)
    edges = np.unique(np.concatenate([quantiles, distinct[above - 1], distinct[above[above < len(distinct)]]]))
    return np.asarray(edges[edges > distinct[0]])


def _is_category(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _bins(column: pa.ChunkedArray) -> tuple[Floats | None, tuple[str, ...]]:
    """The edges of a number's bins, or the values of a category; neither if it has no two."""
    import numpy as np

    if is_number(column.type):
        values = numbers(column)
        values = values[np.isfinite(values)]
        if not len(values) or values.min() == values.max():
            return None, ()
        return bin_edges(values, BINS), ()
    if not _is_category(column.type):
        return None, ()
    counted: list[dict[str, Any]] = column.drop_null().value_counts().to_pylist()
    largest = sorted(counted, key=lambda each: (-each["counts"], each["values"]))[:MOST_VALUES]
    return None, tuple(each["values"] for each in largest) if len(counted) > 1 else ()


def _bin_of(column: pa.ChunkedArray, edges: Floats | None, values: tuple[str, ...]) -> NDArray[np.int64]:
    """(rows,) the bin of each value."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if edges is not None:
        cells = numbers(column)
        return np.where(np.isfinite(cells), np.searchsorted(edges, cells, side="right"), len(edges) + 1)
    names = pa.array(values, pa.string())
    codes = pc.index_in(column.cast(pa.string()).combine_chunks(), value_set=names).fill_null(len(values))
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)
