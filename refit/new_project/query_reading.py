"""Reads the rows of a database's query for `refit init`, which makes the query the source of the new project."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refit.config import parse
from refit.errors import UserError
from refit.files.yaml_files import YamlTree
from refit.sources.sql_tables import written_as_texts

__all__ = ["Query", "query_of", "rows_of"]

_OF_FILES = ("path", "delimiter", "encoding", "skip_lines")


@dataclass(frozen=True)
class Query:
    """A query, and the environment variable that holds its database's URL."""

    variable: str
    text: str

    @property
    def location(self) -> str:
        """What the new project calls it."""
        return f"the query of {self.variable}"

    def source_of(self, params: YamlTree) -> YamlTree:
        """The params of a table in a file with this query as their source.

        Raises:
            UserError: its rows have no key.
        """
        source = dict(params["ingest"]["sources"]["table"])
        if "line_column" in source:
            raise UserError("no column of the query names a row, and its rows have no lines: name it by --key")
        rest = {name: value for name, value in source.items() if name not in (*_OF_FILES, "kind")}
        made = {"kind": "database", "url": f"${{{self.variable}}}", "query": self.text, **rest}
        changed = {**params, "ingest": {**params["ingest"], "sources": {"table": made}}}
        parse(changed)
        return changed


def query_of(variable: str | None, query: str | None) -> Query | None:
    """The query of the options `--sql` and `--query`; None without them.

    Raises:
        UserError: one is missing, or `--sql` is no name of a variable.
    """
    if variable is None and query is None:
        return None
    if variable is None or query is None or not query.strip():
        raise UserError("--sql and --query belong together: the variable with the database's URL, and a SELECT")
    name = re.sub(r"^\$?\{?(\w+)\}?$", r"\1", variable)
    if not name.isidentifier():
        raise UserError(
            "--sql names an environment variable, so that no password is written down: "
            "export SHOP_URL=postgresql://USER:PASSWORD@HOST/DATABASE, then --sql SHOP_URL"
        )
    return Query(name, query.strip().rstrip(";"))


@contextmanager
def rows_of(query: Query) -> Iterator[Path]:
    """A temporary Parquet file of the query's rows, as texts.

    Raises:
        UserError: the database or the query fails, or gives no rows.
    """
    with tempfile.TemporaryDirectory(prefix="refit-query-") as folder:
        path = Path(folder) / "query.parquet"
        written_as_texts(query.variable, query.text, path)
        yield path
