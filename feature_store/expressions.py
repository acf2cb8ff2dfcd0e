"""SQL expressions of definitions, held to what keeps features honest: one row at a time, and the same on every run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from feature_store.errors import DefinitionError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_CLOCKS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})


def require_row_level(connection: DuckDBPyConnection, what: str, expression: str) -> None:
    """Refuse an expression that looks at other rows, which may be later ones, or at the clock or at chance.

    Raises:
        DefinitionError: it is no SQL expression; or it has a window function, an aggregate, a subquery, a star or a
            function that gives another value on another run.
    """
    row = connection.execute("select json_serialize_sql(?)", [f"select ({expression}) as value"]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True, "error_message": "nothing was parsed"}
    if tree["error"]:
        raise DefinitionError(f"{what}: `{expression}` is no SQL expression: {tree['error_message']}")
    node = tree["statements"][0]["node"]
    if len(tree["statements"]) > 1 or len(node.get("select_list", [])) != 1 or node["from_table"]["type"] != "EMPTY":
        raise DefinitionError(f"{what}: `{expression}` is more than one SQL expression")
    for part in _nodes(node["select_list"]):
        if found := _forbidden(part):
            raise DefinitionError(f"{what}: `{expression}` has {found}; it should be of its own row's columns alone")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for inner in tree:
            yield from _nodes(inner)


def _forbidden(part: dict[str, Any]) -> str | None:
    kind = part.get("class")
    if kind == "SUBQUERY":
        return "a subquery, which sees other rows"
    if kind == "STAR":
        return "a *"
    if kind == "WINDOW":
        return f"the window function {part['function_name']}, which sees other rows"
    if kind == "FUNCTION":
        return _functions().get(str(part["function_name"]).lower())
    if kind == "COLUMN_REF" and str(part["column_names"][-1]).lower() in _CLOCKS:
        return f"{part['column_names'][-1]}, which differs from run to run"
    return None


@lru_cache(maxsize=1)
def _functions() -> Mapping[str, str]:
    """DuckDB's functions that have no place in a definition, and why."""
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(
            "select distinct function_name, function_type from duckdb_functions() "
            "where function_type = 'aggregate' or stability <> 'CONSISTENT'"
        ).fetchall()
    return {
        name: f"the aggregate {name}, which sees other rows"
        if kind == "aggregate"
        else f"{name}(), which differs from run to run"
        for name, kind in rows
    }
