"""Partial dependence: the mean prediction as a function of one feature while all others keep their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.learners import Learner
from refit.schemas.evaluation import PartialDependence

if TYPE_CHECKING:
    import pyarrow as pa

MOST_POINTS = 12  # of a number's grid
MOST_CATEGORIES = 10
MOST_CELLS = 10_000_000  # of the rows in one predict call: 80 MB each time that a learner copies them
ENDS = (0.02, 0.98)  # quantiles between which a number's grid lies

RowIndices = NDArray[np.int64]


def partial_dependence(learner: Learner, rows: pa.Table, features: Sequence[str]) -> tuple[PartialDependence, ...]:
    """Compute the mean prediction with a feature set to one value in all rows, for several values of the feature.

    Friedman 2001, "Greedy function approximation", section 8.1. All rows at all values of all features are predicted
    in one call, or in several if they would not fit in memory. Texts, arrays and features with fewer than two values
    are left out of the result.
    """
    grids = {name: grid for name in features if len(grid := _grid(learner, rows, name)) > 1}
    most = MOST_CELLS // max(1, rows.num_rows * len(learner.spec.columns))
    blocks: list[dict[str, RowIndices]] = []
    for name, grid in grids.items():
        if not blocks or sum(map(len, blocks[-1].values())) + len(grid) > most:
            blocks.append({})
        blocks[-1][name] = grid
    return tuple(curve for block in blocks for curve in _of_block(learner, rows, block))


def _of_block(learner: Learner, rows: pa.Table, grids: Mapping[str, RowIndices]) -> list[PartialDependence]:
    points, count = sum(map(len, grids.values())), rows.num_rows
    everything = rows.take(np.tile(np.arange(count), points))
    start = 0
    for name, grid in grids.items():
        row_indices = np.tile(np.arange(count), points)
        row_indices[start : start + len(grid) * count] = np.repeat(grid, count)
        start += len(grid) * count
        index = rows.column_names.index(name)
        everything = everything.set_column(index, rows.schema.field(index), rows.column(index).take(row_indices))
    predicted = learner.spec.problem.output(learner.predict(everything))
    means = predicted.reshape(points, count, *predicted.shape[1:]).mean(axis=1)
    curves, start = [], 0
    for name, grid in grids.items():
        curves.append(_curve(learner, rows, name, grid, means[start : start + len(grid)]))
        start += len(grid)
    return curves


def _grid(learner: Learner, rows: pa.Table, name: str) -> RowIndices:
    """Indices of rows that hold the grid's values; taking them from rows keeps the column's own type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name in learner.spec.text or name in learner.spec.arrays:
        return np.empty(0, dtype=np.int64)
    column = rows.column(name).combine_chunks()
    if name in learner.spec.categorical:
        texts = column.cast(pa.string())
        counts = [(-each["counts"], each["values"]) for each in texts.value_counts().to_pylist()]
        first = [value for _, value in sorted(pair for pair in counts if pair[1] is not None)[:MOST_CATEGORIES]]
        return np.array([pc.index(texts, value).as_py() for value in first], dtype=np.int64)
    return _spread(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _spread(numbers: NDArray[np.float64]) -> RowIndices:
    """Indices of numbers spread over the quantiles of all; if most are equal, over the distinct ones."""
    finite = np.flatnonzero(np.isfinite(numbers))
    finite = finite[np.argsort(numbers[finite], kind="stable")]
    distinct = finite[np.unique(numbers[finite], return_index=True)[1]]
    if len(distinct) <= MOST_POINTS:
        return distinct
    dense = finite[np.round(np.linspace(*ENDS, MOST_POINTS) * (len(finite) - 1)).astype(np.int64)]
    dense = dense[np.unique(numbers[dense], return_index=True)[1]]
    if 2 * len(dense) > MOST_POINTS:
        return dense
    return distinct[np.round(np.linspace(0, ENDS[1], MOST_POINTS) * (len(distinct) - 1)).astype(np.int64)]


def _curve(
    learner: Learner, rows: pa.Table, name: str, grid: RowIndices, means: NDArray[np.float64]
) -> PartialDependence:
    import pyarrow as pa

    column = rows.column(name).combine_chunks()
    category = name in learner.spec.categorical
    values = column.cast(pa.string() if category else pa.float64(), safe=False).take(pa.array(grid)).to_pylist()
    counts = {each["values"]: each["counts"] for each in column.cast(pa.string()).value_counts().to_pylist()}
    mean = np.vectorize(lambda value: float(f"{value:.12g}"), otypes=[float])(means).tolist()
    return PartialDependence(
        name=name,
        kind="category" if category else "number",
        values=tuple(values),
        shares=tuple(round(counts[value] / rows.num_rows, 6) for value in values) if category else None,
        mean=tuple(mean) if means.ndim == 1 else tuple(map(tuple, mean)),
    )
