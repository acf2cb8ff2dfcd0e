"""Encodes rows of a table as numbers, in the same way for every learner, from what model.json stores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refit.config.column_types import ArrayColumn
from refit.learners import spill
from refit.storage.arrays import flat
from refit.storage.columns import numbers, texts

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners.texts import DenseTexts

MAX_CATEGORIES = 255  # the most that a HistGradientBoosting split supports


@dataclass(frozen=True)
class Encoding:
    """Features in order, with the known categories of each categorical one; a category's code is its index."""

    features: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    texts: DenseTexts | None = None  # columns after those of the features
    arrays: Mapping[str, ArrayColumn] = field(default_factory=dict)  # images and vectors, whose values come next

    @classmethod
    def learn(
        cls,
        table: pa.Table,
        features: tuple[str, ...],
        categorical: frozenset[str],
        limit: int = MAX_CATEGORIES,
        arrays: Mapping[str, ArrayColumn] | None = None,
    ) -> Encoding:
        """Take the `limit` most frequent categories of each column (ties by name), sorted by name."""
        categories = {}
        for name in features:
            if name in categorical:
                counts = texts(table, name).value_counts().to_pylist()
                pairs = sorted((-entry["counts"], entry["values"]) for entry in counts if entry["values"] is not None)
                categories[name] = tuple(sorted(value for _, value in pairs[:limit]))
        return cls(features, categories, arrays=arrays or {})

    def to_dict(self) -> dict[str, list[str]]:
        """The known categories, in the form used by digests."""
        return {name: list(values) for name, values in self.categories.items()}

    def matrix(self, table: pa.Table) -> NDArray[np.float64]:
        """(rows, features) float64, then the columns of the texts.

        NaN stands for a missing or infinite number, and for a missing or unknown category.

        Raises:
            UserError: a feature is missing or of another type.
        """
        original = _original.get()
        matrix = self._coded(table) if original is None else original.matrix(self, table)
        return matrix if self.texts is None else np.hstack([matrix, self.texts.matrix(table)])

    def _coded(self, table: pa.Table) -> NDArray[np.float64]:
        matrix = spill.empty((table.num_rows, len(self.features)))
        for index, name in enumerate(self.features):
            values = self._column(table, name)
            matrix[:, index] = np.where(np.isfinite(values), values, np.nan)
        return np.hstack([matrix, flat(table, self.arrays)]) if self.arrays else matrix

    def _column(self, table: pa.Table, name: str) -> NDArray[np.float64]:
        """A feature's codes or numbers; infinite numbers are kept."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if name in self.categories:
            categories = pa.array(self.categories[name], pa.string())
            column = pc.index_in(texts(table, name), value_set=categories).cast(pa.float64())
        else:
            column = numbers(table, name)
        values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
        return values

    @property
    def origins(self) -> list[str]:
        """The feature of each column of the matrix, without those of the texts."""
        return [*self.features, *(name for name, array in self.arrays.items() for _ in range(array.size))]

    @property
    def is_categorical(self) -> NDArray[np.bool_]:
        """(columns of the matrix,) mask of the categorical ones."""
        mask = [name in self.categories for name in self.features]
        mask += [False] * sum(array.size for array in self.arrays.values())
        return np.array([*mask, *[False] * (self.texts.width if self.texts else 0)], dtype=bool)


class Original:
    """A table that is predicted repeatedly with a few columns changed: the other columns are encoded only once.

    Without it, the importance of n features would encode n times n columns.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._matrices: list[tuple[Encoding, NDArray[np.float64]]] = []
        self._variant: tuple[pa.Table, frozenset[str]] = table, frozenset()

    @contextmanager
    def changed(self, variant: pa.Table, columns: Iterable[str]) -> Iterator[None]:
        """Within the block, encode only `columns` of `variant`, the table with other values in these columns."""
        self._variant = variant, frozenset(columns)
        token = _original.set(self)
        try:
            yield
        finally:
            _original.reset(token)

    def matrix(self, encoding: Encoding, table: pa.Table) -> NDArray[np.float64]:
        """The encoded table: the variant, or any other table that a learner made of it."""
        variant, changed = self._variant
        if table is not variant:
            return encoding._coded(table)
        cached = next((matrix for each, matrix in self._matrices if each is encoding), None)
        if cached is None:
            cached = encoding._coded(self._table)
            self._matrices.append((encoding, cached))
        matrix = cached.copy(order="F")  # a learner may write into what it is given
        for index, name in enumerate(encoding.features):
            if name in changed:
                values = encoding._column(table, name)
                matrix[:, index] = np.where(np.isfinite(values), values, np.nan)
        if changed.intersection(encoding.arrays):
            matrix[:, len(encoding.features) :] = flat(table, encoding.arrays)
        return matrix


_original: ContextVar[Original | None] = ContextVar("original", default=None)
