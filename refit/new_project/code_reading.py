"""Detection of codes: digits that identify something, such as zip codes, which numbers would change."""

from __future__ import annotations

from typing import Any

from feature_store.exact import WHOLE

# SQL over texts `v`. One such text makes a column of digits one of codes: a leading zero (00501, 0101.21), an exponent
# that is unusual for an amount (12E4), a + before seven digits or more, or more digits than a double holds exactly.
CODE = (
    "(regexp_full_match(trim(v), '[+-]?0[0-9]+([.][0-9]*)?|[0-9]+[eE][0-9]+|[+][0-9]{7,}') "
    "or (regexp_full_match(trim(v), '[+-]?[0-9]{16,}([.][0-9]*)?') "
    f"and coalesce(abs(try_cast(v as hugeint)) > {WHOLE}, true)))"
)
DIGITS = "regexp_full_match(trim(v), '[+-]?[0-9]+([.][0-9]*)?([eE][0-9]+)?')"


def merges(connection: Any, column: str, kind: str) -> bool:
    """Return whether different keys would become equal as numbers, such as +5 and 5, or 1.10 and 1.1."""
    if kind != "integer":
        return kind == "number"
    [(texts, numbers)] = connection.execute(
        f"select count(distinct {column}), count(distinct try_cast({column} as bigint)) from t"
    ).fetchall()
    return bool(texts != numbers)
