"""Checks that SQL expressions of definitions use only their own row and give the same value on every run."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import JsonValue

from feature_store.errors import DefinitionError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# DuckDB declares the last two, and age() of one time, as consistent, although they read the clock.
_CLOCK_FUNCTIONS = ("current_localtime", "current_localtimestamp")
_CLOCKS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
AT_ONCE = 100  # expressions in a statement that only determines their types
TIMES = ("TIMESTAMP", "DATE")  # prefixes of the names of such types
Node = dict[str, JsonValue]  # of DuckDB's syntax tree
_QUOTED, _WORD = re.compile(r'"((?:[^"\x00]|"")+)"'), re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class _Syntax:
    """DuckDB's syntax tree of some SQL."""

    error: str  # empty if it is SQL
    statements: tuple[Node, ...]

    @property
    def expressions(self) -> list[JsonValue] | None:
        """What a single SELECT without a table selects; None if it is anything else."""
        match self.statements:
            case [{"node": {"select_list": list(expressions), "from_table": {"type": "EMPTY"}}}]:
                return expressions
        return None


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
    syntax = _parsed(connection, f"select ({expression}) as value")
    if syntax.error:
        raise DefinitionError(f"{what}: `{expression}` is no SQL expression: {syntax.error}")
    expressions = syntax.expressions
    if expressions is None or len(expressions) != 1:
        raise DefinitionError(f"{what}: `{expression}` is more than one SQL expression")
    for part in _nodes(expressions):
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
    syntax = _parsed(connection, query)
    if syntax.error:
        raise DefinitionError(f"{what}: {' '.join(syntax.error.split())}; one SELECT was expected")
    if (count := len(syntax.statements)) != 1:
        raise DefinitionError(f"{what} has {count} statements; one SELECT was expected")
    for part in _nodes(syntax.statements[0]["node"]):
        moving = _moving(part, columns)
        sample = part.get("sample")
        if moving is None and isinstance(sample, dict) and not sample.get("repeatable"):
            moving = "a sample without a seed, which differs from run to run; write `repeatable (1)` behind it"
        if moving:
            raise DefinitionError(f"{what} has {moving}; it should give the same rows whenever it runs")


def _parsed(connection: DuckDBPyConnection, query: str) -> _Syntax:
    [(text,)] = connection.execute("select json_serialize_sql(?)", [query]).fetchall()
    tree = json.loads(text)
    return _Syntax(str(tree["error_message"]) if tree["error"] else "", tuple(tree.get("statements", ())))


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
    return _columns_of(list(_parsed(connection, f"select ({expression})").statements))


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
    syntax = _parsed(connection, f"select ({expression})")
    waiting = list(syntax.expressions or ())
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, dict) and "class" in node and _columns_of(node) - set(ours):
            part = _as_sql(connection, syntax.statements[0], node)
            if str(connection.sql(f"select {part} from {relation}").types[0]).startswith(TIMES):
                yield part
                continue
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []


def _as_sql(connection: DuckDBPyConnection, statement: Node, expression: Node) -> str:
    """The SQL of one of the expressions of a SELECT."""
    query = statement["node"]
    assert isinstance(query, dict)
    alone = {**statement, "node": {**query, "select_list": [{**expression, "alias": ""}]}}
    tree = json.dumps({"error": False, "statements": [alone]})
    [(text,)] = connection.execute("select json_deserialize_sql(?)", [tree]).fetchall()
    return str(text).removeprefix("SELECT ")


def _columns_of(tree: JsonValue) -> set[str]:
    return {name.lower() for part in _nodes(tree) if (name := _column_in(part)) is not None}


def _column_in(part: Node) -> str | None:
    """The column that a node refers to, without the name of its table; None if it refers to none."""
    match part:
        case {"class": "COLUMN_REF", "column_names": [*_, name]}:
            return str(name)
    return None


def _nodes(tree: JsonValue) -> Iterator[Node]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for inner in tree:
            yield from _nodes(inner)


def _other_rows(part: Node) -> str | None:
    """The element of an expression that uses other rows, if any."""
    match part:
        case {"class": "SUBQUERY"}:
            return "a subquery, which sees other rows"
        case {"class": "STAR"}:
            return "a *"
        case {"class": "WINDOW", "function_name": name}:
            return f"the window function {name}, which sees other rows"
        case {"class": "FUNCTION", "function_name": str(name)} if name.lower() in _functions().aggregates:
            return f"the aggregate {name.lower()}, which sees other rows"
    return None


def _moving(part: Node, columns: Collection[str]) -> str | None:
    """The element of an expression that gives another value on another run, if any."""
    match part:
        case {"class": "FUNCTION", "function_name": str(name), "arguments": [_]} | {
            "class": "FUNCTION",
            "function_name": str(name),
            "children": [_],
        } if name.lower() == "age":
            return "age() of one time, which differs from run to run"
        case {"class": "FUNCTION", "function_name": str(name)} if name.lower() in _functions().moving:
            return f"{name.lower()}(), which differs from run to run"
    column = _column_in(part)
    if column is not None and column.lower() in _CLOCKS - {each.lower() for each in columns}:
        return f"{column}, which differs from run to run"
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
