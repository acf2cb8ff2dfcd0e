"""Turns rows of a table into numbers, the same way for every learner, from what model.json says alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.learners.columns import numbers, texts

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners.contract import Spec
    from refit.learners.texts import DenseTexts

MAX_CATEGORIES = 255  # what a HistGradientBoosting split can tell apart


@dataclass(frozen=True)
class Encoding:
    """Features in order, and for each categorical one its known categories; a category's code is its place there."""

    features: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    texts: DenseTexts | None = None  # columns after those of the features

    @classmethod
    def learn(
        cls, table: pa.Table, features: tuple[str, ...], categorical: frozenset[str], limit: int = MAX_CATEGORIES
    ) -> Encoding:
        """Know the `limit` most frequent categories of each column, ties by name, in the order of their names."""
        known = {}
        for name in features:
            if name in categorical:
                counts = texts(table, name).value_counts().to_pylist()
                pairs = sorted((-entry["counts"], entry["values"]) for entry in counts if entry["values"] is not None)
                known[name] = tuple(sorted(value for _, value in pairs[:limit]))
        return cls(features, known)

    @classmethod
    def stored(cls, spec: Spec, description: Mapping[str, Any], texts: DenseTexts | None = None) -> Encoding:
        """What a `model.json` says of it."""
        known = {name: tuple(values) for name, values in description["categories"].items()}
        return cls(spec.coded, known, texts)

    def described(self) -> dict[str, list[str]]:
        """The known categories, as `model.json` has them and digests take them."""
        return {name: list(values) for name, values in self.categories.items()}

    def matrix(self, table: pa.Table) -> NDArray[np.float64]:
        """(rows, features) float64, then the columns of the texts.

        NaN is a missing or infinite number, a missing category, or one not known.

        Raises:
            UserError: a feature is missing or of another type.
        """
        original = _original.get()
        matrix = self._coded(table) if original is None else original.matrix(self, table)
        return matrix if self.texts is None else np.hstack([matrix, self.texts.matrix(table)])

    def _coded(self, table: pa.Table) -> NDArray[np.float64]:
        matrix = np.empty((table.num_rows, len(self.features)), dtype=np.float64, order="F")
        for index, name in enumerate(self.features):
            matrix[:, index] = self._column(table, name)
        matrix[~np.isfinite(matrix)] = np.nan
        return matrix

    def _column(self, table: pa.Table, name: str) -> NDArray[np.float64]:
        """A feature's codes or numbers, infinite ones among them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if name in self.categories:
            known = pa.array(self.categories[name], pa.string())
            column = pc.index_in(texts(table, name), value_set=known).cast(pa.float64())
        else:
            column = numbers(table, name)
        values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
        return values

    @property
    def is_categorical(self) -> NDArray[np.bool_]:
        """(columns of the matrix,) mask of the categorical ones."""
        mask = [name in self.categories for name in self.features]
        return np.array([*mask, *[False] * (self.texts.width if self.texts else 0)], dtype=bool)


class Original:
    """A table that is predicted again and again with a few columns changed: the others are turned into numbers once.

    Otherwise the importance of n features would take n times n columns.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._matrices: list[tuple[Encoding, NDArray[np.float64]]] = []
        self._variant: tuple[pa.Table, frozenset[str]] = table, frozenset()

    @contextmanager
    def changed(self, variant: pa.Table, columns: Iterable[str]) -> Iterator[None]:
        """Within, an encoding takes from `variant`, the table with other values in `columns`, these columns alone."""
        self._variant = variant, frozenset(columns)
        token = _original.set(self)
        try:
            yield
        finally:
            _original.reset(token)

    def matrix(self, encoding: Encoding, table: pa.Table) -> NDArray[np.float64]:
        """What the encoding makes of a table: the variant, or any other that a learner made of it."""
        variant, changed = self._variant
        if table is not variant:
            return encoding._coded(table)
        known = next((matrix for each, matrix in self._matrices if each is encoding), None)
        if known is None:
            known = encoding._coded(self._table)
            self._matrices.append((encoding, known))
        matrix = known.copy(order="F")  # a learner may write into what it is given
        for index, name in enumerate(encoding.features):
            if name in changed:
                values = encoding._column(table, name)
                matrix[:, index] = np.where(np.isfinite(values), values, np.nan)
        return matrix


_original: ContextVar[Original | None] = ContextVar("original", default=None)
