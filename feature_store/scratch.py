"""Temporary tables of one computation, and what DuckDB says about the definitions that they are made from."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feature_store.errors import DefinitionError
from feature_store.sql_text import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass
class Scratch:
    """Temporary tables with names that are unique in the connection."""

    connection: DuckDBPyConnection
    prefix: str = field(default_factory=lambda: f"_{uuid.uuid4().hex[:12]}")
    made: list[str] = field(default_factory=list)
    in_order: set[str] = field(default_factory=set)  # those that have every row of the spine, in its order

    def table(self, name: str, query: str, what: str, more: Iterable[str] = (), *, keep: bool = False) -> str:
        """Create a table of the rows of a query, then of those of more queries, each made when the last one is done."""
        quoted = quote(f"{self.prefix}_{name}")
        with explained(what):
            self.connection.execute(f"create temp table {quoted} as {query}")
            for each in more:
                self.connection.execute(f"insert into {quoted} {each}")
        if not keep:
            self.made.append(quoted)
        return quoted

    def drop(self, name: str) -> None:
        """Drop a table that is not needed any longer."""
        self.made.remove(name)
        self.connection.execute(f"drop table {name}")

    def clear(self) -> None:
        for name in tuple(self.made):
            self.drop(name)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn DuckDB's errors about a definition into one line with the definition's name."""
    import duckdb

    try:
        yield
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
        raise DefinitionError(f"{what}: {_complaint(error)}") from None
    except (duckdb.OutOfRangeException, duckdb.ConversionException, duckdb.InvalidInputException) as error:
        hint = "mend the expression, or give an aggregate of large numbers fewer `decimals`"
        raise DefinitionError(f"{what}: {_complaint(error)}; {hint}") from None


def _complaint(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())
