"""Quotes names and texts for SQL."""

from __future__ import annotations


def quote(name: str) -> str:
    """Quote a name as an SQL identifier.

    >>> print(quote('say "x" twice'))
    "say ""x"" twice"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as an SQL literal.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"
