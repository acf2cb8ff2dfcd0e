"""Encodes many rows for linear models as a sparse matrix, part by part, where a dense one would not fit in memory.

The limit is a constant and no property of the machine, because the result is not bit for bit that of a dense matrix:
numbers are scaled by the mean and the deviation of evenly spaced rows, and the solver adds in another order.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refit.learners import spill
from refit.learners.encoding import Encoding

__all__ = ["encoded", "too_large"]

DENSE_BYTES = 1_000_000_000  # the largest dense matrix
SCALED_BY = 200_000  # rows that scale, gaps and categories are learned from
NOTE = f"{{:,}} rows are too many for a dense matrix: a sparse one, scaled by {SCALED_BY:,} evenly spaced rows"


def too_large(encoding: Encoding, rows: int) -> bool:
    """Whether a dense matrix of numbers, their indicators of gaps and one-hot categories would be too large."""
    numbers = int((~encoding.is_categorical).sum())
    names = sum(len(values) for values in encoding.categories.values())
    return rows * (2 * numbers + names) * 8 > DENSE_BYTES


def encoded(encoder: Any, matrix: NDArray[np.float64]) -> tuple[Any, Any]:
    """Fit an unfitted ColumnTransformer, and return the rows as a CSR matrix with it."""
    from scipy.sparse import csr_matrix

    warnings.warn(NOTE.format(len(matrix)), stacklevel=1)
    encoder.set_params(sparse_threshold=1.0)
    encoder.fit(matrix[:: max(1, len(matrix) // SCALED_BY)])
    at_most = len(matrix) * 2 * matrix.shape[1]  # a number with an indicator, or one of the categories
    kind = np.int32 if at_most < 2**31 else np.int64
    data, indices, starts = spill.Growing(np.float64), spill.Growing(kind), spill.Growing(kind)
    starts.add(np.zeros(1))
    count, width = 0, 0
    for part in spill.parts(len(matrix)):
        rows = csr_matrix(encoder.transform(matrix[part]))
        data.add(rows.data)
        indices.add(rows.indices)
        starts.add(rows.indptr[1:] + count)
        count, width = count + rows.nnz, rows.shape[1]
    values = (data.array(), indices.array(), starts.array())
    return csr_matrix(values, shape=(len(matrix), width), copy=False), encoder
