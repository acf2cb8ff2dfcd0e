"""The test rows whose changed copies are predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from refit.learners import Floats

SHOWN_ROWS = 3  # of those that do not behave
EXACT = 1e-9  # predictions and shares that are nearer count as equal: 1 - 7 / 100 is less than .93


@dataclass(frozen=True)
class SampledRows:
    """Test rows, their predictions, and the model that predicts changed copies of them."""

    table: pa.Table
    predicted: Floats
    keys: pa.ChunkedArray
    predict: Callable[[pa.Table], Floats]
    seed: int

    def changed(self, column: str, values: pa.Array | pa.ChunkedArray) -> Floats:
        """The predictions of the rows with other values of a column."""
        index = self.table.column_names.index(column)
        return self.predict(self.table.set_column(index, self.table.schema.field(column).with_nullable(True), values))

    def worst(self, badness: Floats, failed: NDArray[np.bool_]) -> tuple[str, ...]:
        """Names of the rows that failed, the worst first, with how bad they are."""
        failures = np.flatnonzero(failed)
        ordered = failures[np.argsort(-badness[failures], kind="stable")][:SHOWN_ROWS]
        return tuple(f"{self.keys[int(index)].as_py()} ({badness[index]:.4g})" for index in ordered)
