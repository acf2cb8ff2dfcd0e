"""Codes and words among texts: digits that name something, such as zips, as numbers would be others."""

from __future__ import annotations

from typing import Any

from feature_store.exact import WHOLE

# SQL over texts `v`. One such text makes codes of a column of digits: a leading zero (00501, 0101.21), an exponent as
# nobody writes an amount (12E4), a + before seven digits or more, or more digits than a double holds exactly.
CODE = (
    "(regexp_full_match(trim(v), '[+-]?0[0-9]+([.][0-9]*)?|[0-9]+[eE][0-9]+|[+][0-9]{7,}') "
    "or (regexp_full_match(trim(v), '[+-]?[0-9]{16,}([.][0-9]*)?') "
    f"and coalesce(abs(try_cast(v as hugeint)) > {WHOLE}, true)))"
)
DIGITS = "regexp_full_match(trim(v), '[+-]?[0-9]+([.][0-9]*)?([eE][0-9]+)?')"


def merges(connection: Any, column: str, kind: str) -> bool:
    """Whether numbers would give two names of rows as one: +5 and 5, 1.10 and 1.1."""
    if kind != "integer":
        return kind == "number"
    [(texts, numbers)] = connection.execute(
        f"select count(distinct {column}), count(distinct try_cast({column} as bigint)) from t"
    ).fetchall()
    return bool(texts != numbers)
