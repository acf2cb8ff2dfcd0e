"""Digits that name something, such as zips, accounts and hashes: as numbers, some would be others."""

from __future__ import annotations

from typing import Any

EXACT = 2**53  # up to here a double holds every integer
MOSTLY = 0.99  # of the filled values


def is_code(connection: Any, column: str) -> bool:
    """Whether a column of the table `t` holds codes, where nearly all its values are digits.

    One value suffices: with a leading zero (00501, 0101.21), more digits than a double holds exactly, an exponent as
    nobody writes an amount (12E4), or a + before seven digits or more.
    """
    plain = f"regexp_full_match(trim({column}), '[+-]?[0-9]+([.][0-9]*)?([eE][0-9]+)?')"
    codes = (
        f"regexp_full_match(trim({column}), '[+-]?0[0-9]+([.][0-9]*)?')",
        f"regexp_full_match(trim({column}), '[0-9]+[eE][0-9]+')",
        f"regexp_full_match(trim({column}), '[+][0-9]{{7,}}')",
        f"regexp_full_match(trim({column}), '[+-]?[0-9]{{16,}}') "
        f"and coalesce(abs(try_cast({column} as hugeint)) > {EXACT}, true)",
    )
    some = " or ".join(f"({code})" for code in codes)
    [(filled, digits, found)] = connection.execute(
        f"select count({column}), count(*) filter (where {plain}), count(*) filter (where {some}) from t"
    ).fetchall()
    return bool(found) and digits >= MOSTLY * filled


def merges(connection: Any, column: str, kind: str) -> bool:
    """Whether numbers would give two names of rows as one: +5 and 5, 1.10 and 1.1."""
    if kind != "integer":
        return kind == "number"
    [(texts, numbers)] = connection.execute(
        f"select count(distinct {column}), count(distinct try_cast({column} as bigint)) from t"
    ).fetchall()
    return bool(texts != numbers)
