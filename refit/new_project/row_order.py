"""Whether rows without a time seem to be in order of one: neighbours then have similar labels."""

from __future__ import annotations

from typing import Any

SIMILAR = 0.2  # of 1 at which labels of neighbours are so alike that a row between them is easily guessed
_RUNS = 50  # of equal labels: fewer are blocks of the file, such as one of each class
_BY_CHANCE = 5.0  # standard errors of what unordered rows show


def neighbour_similarity(connection: Any, label: str) -> float:
    """Return the rank correlation of a label with that of the row before it in the table `t`; 0 if chance explains it.

    Rows that are sorted or grouped by the label itself count as unordered, since that says nothing of a time.

    Args:
        label: SQL of the label: a number or a text.

    >>> import duckdb
    >>> with duckdb.connect() as connection:
    ...     for label in ("n // 7 % 2", "n // 350", "hash(n) % 2"):
    ...         _ = connection.execute(f"create or replace table t as select {label} as y from range(700) as r(n)")
    ...         print(round(neighbour_similarity(connection, "y"), 2))
    0.72
    0.0
    0.0
    """
    ranks = f"select row_number() over () as place, rank() over (order by {label}) as rank, {label} as value from t"
    pairs = "select rank, value, lag(rank) over by_place as before from ranked window by_place as (order by place)"
    correlation, rows, rises, falls, values = connection.execute(
        f"with ranked as ({ranks}), pairs as ({pairs}) "
        "select corr(rank, before), count(*), count(*) filter (rank > before), count(*) filter (rank < before), "
        "count(distinct value) from pairs"
    ).fetchone()
    is_grouped = min(rises, falls) == 0 or rises + falls < min(max(values, _RUNS), rows / 2)
    if correlation is None or is_grouped or correlation * rows**0.5 < _BY_CHANCE:
        return 0.0
    return float(correlation)
