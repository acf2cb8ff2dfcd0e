"""Turns rows of a table into numbers, the same way for every learner, from what model.json says alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UserError
from tasks.params import nearest

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.learners import Spec
    from tasks.learners.texts import DenseTexts

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
        return matrix

    def _column(self, table: pa.Table, name: str) -> NDArray[np.float64]:
        import pyarrow as pa
        import pyarrow.compute as pc

        if name in self.categories:
            known = pa.array(self.categories[name], pa.string())
            column = pc.index_in(texts(table, name), value_set=known).cast(pa.float64())
        else:
            column = numbers(table, name)
        values = column.to_numpy(zero_copy_only=False)
        return np.where(np.isfinite(values), values, np.nan)

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
                matrix[:, index] = encoding._column(table, name)
        return matrix


_original: ContextVar[Original | None] = ContextVar("original", default=None)


def _column(table: pa.Table, name: str) -> Any:
    if table.schema.get_field_index(name) < 0:  # to list the names for each column would cost their square
        raise UserError(
            f"feature {name!r} is missing from the rows{nearest(name, table.column_names)}; the model needs it"
        )
    return table.column(name).combine_chunks()


def texts(table: pa.Table, name: str) -> Any:
    """A categorical feature as strings.

    Raises:
        UserError: it is missing from the rows, or of another type.
    """
    import pyarrow as pa

    column = _column(table, name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kinds = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null
    if not any(is_text(column.type) for is_text in kinds):
        raise UserError(f"feature {name!r} holds {column.type}, categories are texts; cast it to string")
    return column.cast(pa.string())


def numbers(table: pa.Table, name: str) -> Any:
    """A feature as doubles.

    Raises:
        UserError: it is missing from the rows, of another type, or holds integers beyond 2^53.
    """
    import pyarrow as pa

    column = _column(table, name)
    kinds = pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null
    if not any(is_number(column.type) for is_number in kinds):
        raise UserError(f"feature {name!r} holds {column.type}, a number was expected; cast it to double")
    try:
        return column.cast(pa.float64(), safe=pa.types.is_integer(column.type))
    except pa.ArrowInvalid as error:
        raise UserError(
            f"feature {name!r} holds integers that no double does, so that several would be one ({error}); give them "
            "as strings to a model that takes them for categories, or make them smaller"
        ) from None
