"""Checks queries that generate rows: one SELECT that returns the same rows whenever it runs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection
from typing import TYPE_CHECKING

from feature_store.errors import DefinitionError
from feature_store.sql_guard import require_repeatable
from refit.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_DETERMINISTIC = 0x800  # SQLite's flag of a deterministic function
# SQLite's time functions read the clock for 'now', or if they have no argument to format.
_NOW = re.compile(
    r"'now'|\b(?:date|time|datetime|julianday|unixepoch)\s*\(\s*\)|\bstrftime\s*\(\s*'[^']*'\s*\)", re.IGNORECASE
)

_CALLS = "now|random|rand|uuid|gen_random_uuid|newid|getdate|sysdate|clock_timestamp|statement_timestamp|curdate"
_WORDS = "current_timestamp|current_date|current_time|localtimestamp|localtime|tablesample|utc_timestamp"
_MOVING = re.compile(rf"\b(?:(?:{_CALLS})\s*\(\s*\)|(?:{_WORDS})\b)", re.IGNORECASE)


def check_query(connection: DuckDBPyConnection, query: str, where: str, columns: Collection[str]) -> None:
    """Refuse a query that may return other rows on another run, or has more than one statement.

    Raises:
        UserError: the query is refused.
    """
    try:
        require_repeatable(connection, where, query, columns)
    except DefinitionError as error:
        raise UserError(f"{error} (params.yaml)") from None


def check_moving_words(query: str, where: str) -> None:
    """Refuse a query for a database server that names the current time or chance, as far as words can tell.

    Raises:
        UserError: the query is refused.

    >>> check_moving_words("select 'now()' as text, nowhere from sales -- random()", "query")
    >>> check_moving_words("select id, now() as at from sales", "query")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    refit.errors.UserError: query has now(), which differs from run to run; ...
    """
    code = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", " ", query, flags=re.DOTALL)
    if match := _MOVING.search(code):
        raise UserError(
            f"{where} has {match[0]}, which differs from run to run; it should give the same rows whenever it runs"
        )


def guard_sqlite(connection: sqlite3.Connection, query: str, where: str) -> None:
    """Forbid functions on a connection that return another value on another run.

    Raises:
        UserError: the query uses the current time.
    """
    if match := _NOW.search(query):
        raise UserError(
            f"{where} has {match[0]}, which differs from run to run; it should give the same rows whenever it runs"
        )
    rows = connection.execute("select lower(name), type, flags from pragma_function_list").fetchall()
    moving = {name for name, kind, flags in rows if kind == "s" and not flags & _DETERMINISTIC}

    def allowed(action: int, _: str | None, name: str | None, *__: str | None) -> int:
        forbidden = action == sqlite3.SQLITE_FUNCTION and str(name).lower() in moving
        return sqlite3.SQLITE_DENY if forbidden else sqlite3.SQLITE_OK

    connection.set_authorizer(allowed)
