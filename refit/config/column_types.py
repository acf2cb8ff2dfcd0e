"""The declared types of columns: scalars by name, images and vectors with their shape."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from refit.config.section import nearest

__all__ = ["SQL_TYPES", "ArrayColumn", "ColumnType", "ScalarType", "array_column", "sql_type"]

ScalarType = Literal["integer", "number", "text", "timestamp", "date", "boolean"]
SQL_TYPES: dict[str, str] = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "text": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "boolean": "BOOLEAN",
}
_ARRAY = re.compile(r"\s*(image|vector)\s*\(\s*([0-9]{1,6}(?:\s*,\s*[0-9]{1,6})*)\s*\)\s*")
_BOUNDS = {"image": 100_000_000, "vector": 1_000_000}  # values in a cell, so that a slip of the keyboard is an error


class ArrayColumn(BaseModel):
    """The kind and shape of a column whose cells are arrays.

    An `image` has the shape (height, width, channels) and is stored as its uint8 values, row by row, in one binary
    cell: lists of numbers take four to nine times as long to read. A `vector` has the shape (size,) and holds float32.
    A `sequence` has the shape (most steps, values of a step) and holds float32, oldest step first.

    >>> ArrayColumn(kind="image", shape=(28, 28, 1)).size
    784
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["image", "vector", "sequence"]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of values in a cell, the most of a sequence."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.shape))})"


def array_column(declared: str) -> ArrayColumn | None:
    """The array type that a text declares; None for a scalar type.

    Raises:
        ValueError: a shape with too few, too many or impossible sizes.

    >>> array_column("image(28, 28)"), array_column("number")
    (ArrayColumn(kind='image', shape=(28, 28, 1)), None)
    """
    match = _ARRAY.fullmatch(declared)
    if match is None:
        return None
    kind, shape = match[1], tuple(int(size) for size in match[2].split(","))
    if len(shape) not in {"image": (2, 3), "vector": (1,)}[kind]:
        form = "image(height, width) or image(height, width, channels)" if kind == "image" else "vector(size)"
        raise ValueError(f"{declared!r} has {len(shape)} sizes; write {form}")
    if kind == "image" and len(shape) == 2:
        shape = (*shape, 1)
    if kind == "image" and shape[2] not in (1, 3):
        raise ValueError(f"{declared!r} has {shape[2]} channels; an image has 1 (grey) or 3 (red, green, blue)")
    if not 0 < math.prod(shape) <= _BOUNDS[kind]:
        raise ValueError(f"{declared!r} has {math.prod(shape):,} values in a cell, from 1 to {_BOUNDS[kind]:,} can be")
    return ArrayColumn(kind="image" if kind == "image" else "vector", shape=shape)


def _is_known(declared: str) -> str:
    if declared in SQL_TYPES or array_column(declared):
        return declared
    near = nearest(declared, [*SQL_TYPES, "image(28, 28)", "vector(100)"])
    have = f"{', '.join(SQL_TYPES)}, image(height, width[, channels]) and vector(size)"
    raise ValueError(f"{declared!r} is no type of a column{near or f'; there are {have}'}")


ColumnType = Annotated[str, AfterValidator(_is_known)]


def sql_type(declared: ColumnType) -> str:
    """The type that a declared column has in DuckDB.

    >>> sql_type("number"), sql_type("image(28, 28)"), sql_type("vector(384)")
    ('DOUBLE', 'BLOB', 'FLOAT[384]')
    """
    array = array_column(declared)
    if array is None:
        return SQL_TYPES[declared]
    return "BLOB" if array.kind == "image" else f"FLOAT[{array.size}]"
