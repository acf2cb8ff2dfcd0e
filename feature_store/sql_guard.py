"""Checks that SQL expressions of definitions use only their own row and give the same value on every run."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from feature_store.errors import DefinitionError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# DuckDB declares the last two, and age() of one time, as consistent, although they read the clock.
_CLOCK_FUNCTIONS = ("current_localtime", "current_localtimestamp")
_CLOCKS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
AT_ONCE = 100  # expressions in a statement that only determines their types
TIMES = ("TIMESTAMP", "DATE")  # prefixes of the names of such types
_QUOTED, _WORD = re.compile(r'"((?:[^"\x00]|"")+)"'), re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def require_row_level(
    connection: DuckDBPyConnection, what: str, expression: str, columns: Collection[str] = ()
) -> None:
    """Refuse an expression that uses other rows, which may be later ones, the clock or random numbers.

    Args:
        columns: those that it may use; one may be called `current_date`.

    Raises:
        DefinitionError: it is not an SQL expression; or it has a window function, an aggregate, a subquery, a star or a
            function that gives another value on another run.
    """
    if (name := column_of(expression)) is not None and name.lower() not in _CLOCKS:
        return  # parsing takes a millisecond, and a wide table has thousands
    tree = _parsed(connection, f"select ({expression}) as value")
    if tree["error"]:
        raise DefinitionError(f"{what}: `{expression}` is no SQL expression: {tree['error_message']}")
    node = tree["statements"][0]["node"]
    if len(tree["statements"]) > 1 or len(node.get("select_list", [])) != 1 or node["from_table"]["type"] != "EMPTY":
        raise DefinitionError(f"{what}: `{expression}` is more than one SQL expression")
    for part in _nodes(node["select_list"]):
        if reason := _other_rows(part) or _moving(part, columns):
            raise DefinitionError(f"{what}: `{expression}` has {reason}; it should be of its own row's columns alone")


def require_repeatable(connection: DuckDBPyConnection, what: str, query: str, columns: Collection[str] = ()) -> None:
    """Refuse a query that is more than one SELECT, or that gives other rows on another run.

    Args:
        columns: those that it may use; one may be called `current_date`.

    Raises:
        DefinitionError: it is not a SELECT, has a second statement, uses the clock, random numbers or the state of the
            database, or draws a sample without a seed.
    """
    tree = _parsed(connection, query)
    if tree["error"]:
        raise DefinitionError(f"{what}: {' '.join(str(tree['error_message']).split())}; one SELECT was expected")
    if (count := len(tree["statements"])) != 1:
        raise DefinitionError(f"{what} has {count} statements; one SELECT was expected")
    for part in _nodes(tree["statements"][0]["node"]):
        moving = _moving(part, columns)
        if moving is None and isinstance(part.get("sample"), dict) and not part["sample"].get("repeatable"):
            moving = "a sample without a seed, which differs from run to run; write `repeatable (1)` behind it"
        if moving:
            raise DefinitionError(f"{what} has {moving}; it should give the same rows whenever it runs")


def _parsed(connection: DuckDBPyConnection, query: str) -> dict[str, Any]:
    """DuckDB's syntax tree of a query: `statements`, or an `error` with its `error_message`."""
    [(text,)] = connection.execute("select json_serialize_sql(?)", [query]).fetchall()
    tree: dict[str, Any] = json.loads(text)
    return tree


def column_of(expression: str) -> str | None:
    """The name of the column, if the expression is only a column name; else None.

    >>> column_of("price"), column_of('"a ""b"" c"'), column_of("price / 2"), column_of("null")
    ('price', 'a "b" c', None, None)
    """
    if match := _QUOTED.fullmatch(expression):
        return match[1].replace('""', '"')
    return expression if _WORD.fullmatch(expression) and expression.lower() not in _keywords() else None


def columns_in(connection: DuckDBPyConnection, expression: str) -> set[str]:
    """The columns that an expression uses, in lower case; empty if it is not SQL."""
    if (name := column_of(expression)) is not None:
        return {name.lower()}
    tree = _parsed(connection, f"select ({expression})")
    return _columns_of(tree.get("statements", []))


def types_of(connection: DuckDBPyConnection, expressions: Sequence[str], relation: str) -> list[str | Exception]:
    """The type of each expression over a relation, or the error if it has none.

    Each statement binds all columns of the relation: one per expression would be quadratic for a wide table.
    """
    import duckdb

    def kinds(some: Sequence[str]) -> list[str]:
        listed = ", ".join(f"({expression})" for expression in some)
        return [str(kind) for kind in connection.sql(f"select {listed} from {relation}").types]

    types: list[str | Exception] = []
    for start in range(0, len(expressions), AT_ONCE):
        some = expressions[start : start + AT_ONCE]
        try:
            if len(types_at_once := kinds(some)) == len(some):
                types += types_at_once
                continue
        except duckdb.Error:
            pass
        for expression in some:
            try:
                types.append(kinds([expression])[0])
            except duckdb.Error as error:
                types.append(error)
    return types


def times_in(connection: DuckDBPyConnection, expression: str, relation: str, ours: Collection[str]) -> Iterator[str]:
    """The parts of an expression that are times, as SQL over the relation, unless they use only the columns `ours`.

    Args:
        ours: columns, in lower case.
    """
    tree = _parsed(connection, f"select ({expression})")
    if tree["error"]:
        return
    waiting = list(tree["statements"][0]["node"]["select_list"])
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, dict) and "class" in node and _columns_of(node) - set(ours):
            tree["statements"][0]["node"]["select_list"] = [{**node, "alias": ""}]
            text = connection.execute("select json_deserialize_sql(?)", [json.dumps(tree)]).fetchall()[0][0]
            part = str(text).removeprefix("SELECT ")
            if str(connection.sql(f"select {part} from {relation}").types[0]).startswith(TIMES):
                yield part
                continue
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []


def _columns_of(tree: Any) -> set[str]:
    return {str(part["column_names"][-1]).lower() for part in _nodes(tree) if part.get("class") == "COLUMN_REF"}


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for inner in tree:
            yield from _nodes(inner)


def _other_rows(part: dict[str, Any]) -> str | None:
    """The element of an expression that uses other rows, if any."""
    kind = part.get("class")
    if kind == "SUBQUERY":
        return "a subquery, which sees other rows"
    if kind == "STAR":
        return "a *"
    if kind == "WINDOW":
        return f"the window function {part['function_name']}, which sees other rows"
    if kind == "FUNCTION" and (name := str(part["function_name"]).lower()) in _functions().aggregates:
        return f"the aggregate {name}, which sees other rows"
    return None


def _moving(part: dict[str, Any], columns: Collection[str]) -> str | None:
    """The element of an expression that gives another value on another run, if any."""
    if part.get("class") == "FUNCTION":
        name = str(part["function_name"]).lower()
        if name == "age" and len(part.get("arguments", part.get("children", ()))) == 1:
            return "age() of one time, which differs from run to run"
        return f"{name}(), which differs from run to run" if name in _functions().moving else None
    if part.get("class") == "COLUMN_REF":
        name = str(part["column_names"][-1])
        if name.lower() in _CLOCKS - {column.lower() for column in columns}:
            return f"{name}, which differs from run to run"
    return None


@lru_cache(maxsize=1)
def _keywords() -> frozenset[str]:
    import duckdb

    with duckdb.connect() as connection:
        return frozenset(
            name for (name,) in connection.execute("select keyword_name from duckdb_keywords()").fetchall()
        )


@dataclass(frozen=True)
class _Functions:
    """DuckDB's functions that definitions may not use."""

    aggregates: frozenset[str]
    moving: frozenset[str]  # functions that may give another value on another run


@lru_cache(maxsize=1)
def _functions() -> _Functions:
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(
            "select distinct function_name, function_type from duckdb_functions() "
            "where function_type = 'aggregate' or stability <> 'CONSISTENT'"
        ).fetchall()
        macros = connection.execute(
            "select function_name, macro_definition from duckdb_functions() where function_type = 'macro'"
        ).fetchall()
    aggregates = frozenset(name for name, kind in rows if kind == "aggregate")
    moving = {*_CLOCK_FUNCTIONS, *(name for name, kind in rows if kind != "aggregate")}
    clocked = {name for name, body in macros if (moving | _CLOCKS) & set(re.findall(r"\w+", body.lower()))}
    return _Functions(aggregates, frozenset(moving | clocked))
