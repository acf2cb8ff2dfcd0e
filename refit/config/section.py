"""What every section of the params shares: frozen, closed, bounded, and kind to a misspelt word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feature_store.compile import OWN
from refit.errors import first_line

__all__ = [
    "OWN",
    "SQL_TYPES",
    "ColumnType",
    "Name",
    "Section",
    "first_complaint",
    "free",
    "nearest",
    "row_column",
    "time_column",
]

ColumnType = Literal["integer", "number", "text", "timestamp", "date", "boolean"]
SQL_TYPES: dict[ColumnType, str] = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "text": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "boolean": "BOOLEAN",
}
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A part of the params file: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def free(name: str, columns: Iterable[str]) -> str:
    """A name of ours that no column has, in any case: where the user's has it, ours steps aside.

    >>> free("_row", ["id"]), free("_row", ["_Row", "_row_"])
    ('_row', '_row__')
    """
    taken = {column.lower() for column in columns}
    while name.lower() in taken:
        name += "_"
    return name


def row_column(columns: Iterable[str]) -> str:
    """The stored column that holds a row's number: `_row`, unless the source has such a column itself."""
    return free("_row", columns)


def time_column(columns: Iterable[str]) -> str:
    """The stored column that holds a row's event time: `_event_time`, unless the source has such a column itself."""
    return free("_event_time", columns)


def nearest(word: str, known: Any) -> str:
    """`; did you mean X?`, or nothing where no known word is near."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def first_complaint(error: Exception) -> str:
    """What went wrong, on one line; of a failed model its first complaint."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}, found {str(first['input'])[:60]!r}"
    return first_line(error)
