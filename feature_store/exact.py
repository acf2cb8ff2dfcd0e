"""Refuses values that a conversion would change: integers beyond a double, and keys that match only after a cast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.compile import commas
from feature_store.errors import DefinitionError
from feature_store.sql_text import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

WHOLE = 2**53  # up to this value, a double holds every integer exactly
_LONG = ("BIGINT", "HUGEINT", "UBIGINT", "UHUGEINT")

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER", *_LONG, "FLOAT", "DOUBLE")


def require_exact(connection: DuckDBPyConnection, relation: str, columns: Mapping[str, str]) -> None:
    """Refuse integers that a double would change: 40 items of 19 digits could all become one.

    Args:
        relation: a table's name, or a query in parentheses.
        columns: title for errors -> SQL over the relation.

    Raises:
        DefinitionError: a double cannot hold a value exactly.
    """
    if not columns:
        return
    names = [f"c{index}" for index in range(len(columns))]
    cells = commas(f"({sql}) as {name}" for name, sql in zip(names, columns.values(), strict=True))
    query = f"(select {cells} from {relation})"
    kinds = {
        name: kind
        for name, kind in zip(names, map(str, connection.sql(f"select * from {query}").types), strict=True)
        if kind in _LONG or kind.startswith("DECIMAL")
    }
    if not kinds:
        return
    values = commas(f"min({name}) filter (where {_is_lost(name, kind)})" for name, kind in kinds.items())
    [row] = connection.execute(f"select {values} from {query}").fetchall()
    titles = dict(zip(names, columns, strict=True))
    for name, value in zip(kinds, row, strict=True):
        if value is not None:
            raise DefinitionError(
                f"{titles[name]} holds {value}, which no double is: as a number it would be {int(float(value))}, and "
                "others with it; take it as a text (declare its column text, or write `column::varchar`), or make it "
                "smaller (`column - 1700000000000000000`)"
            )


def _is_lost(name: str, kind: str) -> str:
    far = f"{name} > {WHOLE}" if kind.startswith("U") else f"({name} > {WHOLE} or {name} < -{WHOLE})"
    if kind.startswith("DECIMAL") and _whole_digits(kind) <= 15:
        return "false"
    return f"{far} and try_cast({name}::double as {kind}) is distinct from {name}"


def _whole_digits(kind: str) -> int:
    width, _, scale = kind.removeprefix("DECIMAL(").removesuffix(")").partition(",")
    return int(width) - int(scale or 0)


def require_same_values(
    connection: DuckDBPyConnection, what: str, left: str, right: str, columns: Sequence[str]
) -> None:
    """Refuse keys that match only after a cast to the other side's type: '007' is not 7, and 2^53 + 1 is not 2^53.

    Args:
        left, right: relations that are joined by `columns`.

    Raises:
        DefinitionError: a value of one side would match a different value of the other.
    """
    listed = commas(map(quote, columns))
    kinds = [list(map(str, connection.sql(f"select {listed} from {side}").types)) for side in (left, right)]
    for column, *pair in zip(columns, *kinds, strict=True):
        for (kind, other), relation in ((tuple(pair), left), (tuple(reversed(pair)), right)):
            if kind == other:
                continue
            [row] = connection.execute(
                f"select min({quote(column)}::varchar) from {relation} where {_is_another(quote(column), kind, other)}"
            ).fetchall()
            if row[0] is not None:
                raise DefinitionError(
                    f"{what}: {column} is a {kind} on one side and a {other} on the other, where {row[0]!r} would be "
                    "another value; declare both alike (params.yaml: ingest.sources), text where it is a code"
                )


def _is_another(column: str, kind: str, other: str) -> str:
    """SQL of whether a value changes when it is cast to the other type and back."""
    if kind == "VARCHAR" and (other in _NUMBERS or other.startswith("DECIMAL")):
        cast = f"try_cast({column} as {other})"
        return f"{column} not in (coalesce({cast}::varchar, ''), coalesce(try_cast({cast} as hugeint)::varchar, ''))"
    if kind in _LONG and other in ("DOUBLE", "FLOAT"):
        return _is_lost(column, kind)
    if kind in ("DOUBLE", "FLOAT") and other in _LONG:
        return f"abs({column}) >= {WHOLE}"
    return "false"
