"""A small table with the difficulties of real ones: gaps, rare and unseen categories, empty and constant columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

FEATURES = ("strength", "colour", "noise", "constant", "empty", "place")
TEXT = "remark"  # a feature only if the spec lists it
CATEGORICAL = frozenset({"colour", "place"})
TRAIN_ROWS, SEEN_ROWS = 400, 150
CLASSES = ("high", "low", "middle")  # in the order of their codes


@dataclass(frozen=True)
class Rows:
    """A table with its label, and the names of its classes if there are more than two."""

    table: pa.Table
    label: NDArray[Any]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def slice(self, start: int) -> Rows:
        """The rows from `start` on."""
        return Rows(self.table.slice(start), self.label[start:], self.classes)

    def copy(self) -> Rows:
        """A deep copy."""
        import pyarrow as pa

        table = pa.Table.from_pylist(self.table.to_pylist(), schema=self.table.schema)
        return Rows(table, self.label.copy(), self.classes)


def sample(task: str, count: int, seed: int) -> Rows:
    """Draw rows whose label depends on `strength` and `colour`, in the form of the task."""
    import pyarrow as pa

    random = np.random.default_rng(seed)
    strength, noise = random.normal(size=count), random.normal(size=count)
    colour = random.integers(0, 4, count)
    outcome = strength + 0.8 * (colour == 2) + random.normal(size=count)
    gaps = random.random(count) < 0.1
    columns = {
        "id": [f"row {n}" for n in range(count)],
        "strength": pa.array(strength, mask=gaps),
        "colour": pa.array(["red", "green", "blue", "grün"]).take(pa.array(colour)),
        "noise": noise,
        "constant": np.ones(count),
        "empty": pa.nulls(count, pa.float64()),
        "place": pa.array([f"p{n}" for n in random.integers(0, 40, count)], mask=gaps),
    }
    words = np.where(outcome > 0.4, "fine", "poor")
    remarks = [f"a {word} w{n} w{n % 7}" for word, n in zip(words, random.integers(0, 60, count).tolist(), strict=True)]
    table = pa.table(columns | {"remark": pa.array(remarks, mask=gaps)})
    if task == "regression":
        return Rows(table, outcome)
    if task == "multiclass":
        return Rows(table, np.where(outcome > 0.9, 0, np.where(outcome < -0.3, 1, 2)).astype(np.int64), CLASSES)
    return Rows(table, (outcome > 0.4).astype(np.int64))
