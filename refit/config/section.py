"""Shared parts of all params sections: the frozen, closed model, column names, and hints for misspelt words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from feature_store.compile import OWN
from refit.errors import first_line

__all__ = [
    "OWN",
    "Days",
    "Hours",
    "Name",
    "Rows",
    "Section",
    "Share",
    "Unit",
    "expected",
    "first_complaint",
    "free",
    "nearest",
    "row_column",
    "shaped",
    "span",
    "time_column",
]

_IN_WORDS: dict[str, str] = {}  # what a text of each pattern looks like


def shaped(pattern: str, words: str) -> str:
    """A pattern for pydantic's `Field`, whose error says `expected` and the words, not the pattern."""
    _IN_WORDS[pattern] = words
    return pattern


def expected(pattern: str) -> str:
    """What a text that does not match a pattern should have been.

    >>> expected(shaped("^[0-9]h$", "hours, such as 5h"))
    'expected hours, such as 5h'
    """
    return f"expected {_IN_WORDS.get(pattern, f'a text of the pattern {pattern}')}"


Name = Annotated[str, Field(pattern=shaped(r"^[a-z][a-z0-9_]*$", "a name such as city_2: a-z, 0-9 and _"))]
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Unit:
    """What a number counts or measures: `Annotated[int, Unit("folds")]`; the schema and the reference show it."""

    name: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "unit": self.name}


Rows = Annotated[int, Unit("rows")]
Share = Annotated[float, Unit("share of 1")]
Hours = Annotated[float, Unit("hours")]
Days = Annotated[float, Unit("days")]


class Section(BaseModel):
    """A section of the params file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def free(name: str, columns: Iterable[str]) -> str:
    """Append underscores to a name of Refit's until no column has it, ignoring case.

    >>> free("_row", ["id"]), free("_row", ["_Row", "_row_"])
    ('_row', '_row__')
    """
    taken = {column.lower() for column in columns}
    while name.lower() in taken:
        name += "_"
    return name


def row_column(columns: Iterable[str]) -> str:
    """The stored column of a row's number: `_row`, with underscores if the source has that column itself."""
    return free("_row", columns)


def time_column(columns: Iterable[str]) -> str:
    """The stored column of a row's event time: `_event_time`, with underscores if the source has that column."""
    return free("_event_time", columns)


def span(text: str) -> timedelta:
    """A number of minutes, hours, days or weeks.

    >>> span("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def nearest(word: str, valid_names: Any) -> str:
    """`; did you mean X?`, or an empty text if no valid name is similar."""
    match = difflib.get_close_matches(word, list(valid_names), n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def first_complaint(error: Exception) -> str:
    """The message of an error on one line; for a failed validation, its first problem."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ": ".join(filter(None, (error.title, ".".join(map(str, first["loc"])))))
        return f"{where}: {first['msg']}, found {str(first['input'])[:60]!r}"
    return first_line(error)
