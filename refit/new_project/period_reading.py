"""Infers how the rows of a table lie in time: the period of batches, the rows in one, and how much that varies."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.config.shares import share_of
from refit.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

FARTHEST_ZONE = timedelta(hours=14)  # ahead of UTC: local times that carry no zone may be as late as that
LEAST_ROWS = 80  # of a table without a time


def holdout_share(rows: int) -> float:
    """Return the share of test rows in a table without a time: a fifth, or more of few rows, as a gate needs 20.

    >>> holdout_share(5000), holdout_share(80)
    (0.2, 0.33)
    """
    return max(0.2, round(26 / rows, 2))


def period_of(days: int, *, least: int = 4) -> str | None:
    """Return the longest period of which a table of some days has enough for several windows.

    >>> period_of(200), period_of(60), period_of(3)
    ('month', 'week', None)
    """
    return next((period for period, needed in (("month", 150), ("week", 56), ("day", least)) if days >= needed), None)


def read_period(
    connection: Any, time: str, moment: str | None, name: str, rows: int, *, split: bool = False
) -> tuple[str, int, int]:
    """Return the period of batches, and the rows and days of one; the number of test rows in a table without a time.

    Args:
        split: whether a column assigns rows to windows, so that no window is taken from the time.
    """
    if moment is None and rows < LEAST_ROWS and not split:
        raise UserError(f"{name} has {rows} rows; to learn from some and judge on others, {LEAST_ROWS} are needed")
    if moment is None:
        return "day", math.floor(share_of(holdout_share(rows), rows)), 1
    [(first, last)] = connection.execute(f"select min({moment}), max({moment}) from t").fetchall()
    if last > datetime.now(UTC).replace(tzinfo=None) + FARTHEST_ZONE:
        raise UserError(
            f"--time {time}: the newest value, {last}, lies in the future; rows are dated by what has happened"
        )
    if period := period_of((last - first).days, least=0 if split else 4):
        counts = f"count(*) as n, count(distinct {moment}::date) as d from t group by date_trunc('{period}', {moment})"
        query = f"select median(n)::bigint, median(d)::bigint from (select {counts})"
        [(per_period, distinct_days)] = connection.execute(query).fetchall()
        return period, per_period, distinct_days
    raise UserError(f"{name} spans {(last - first).days} days; train, validation and test windows need 4 days at least")


def read_band(connection: Any, moment: str | None, period: str) -> tuple[float, float]:
    """Return the least and most rows of a period relative to the three before it.

    The last period may be incomplete, and so may the first unless it has rows from its beginning on.
    """
    if moment is None:
        return 1.0, 1.0
    began = f"date_trunc('{period}', {moment})"
    late = f"min({moment}) > min({began}) + interval {complete_within(period)} hour"
    counts = f"select {began} as began, count(*) as n, {late} as late from t group by 1"
    partly = "(late and lag(n) over (order by began) is null) or lead(n) over (order by began) is null"
    inner = f"select * from ({counts}) qualify not ({partly})"
    share = f"select n / avg(n) over (order by began rows between 3 preceding and 1 preceding) as share from ({inner})"
    [(least, most)] = connection.execute(f"select min(share), max(share) from ({share})").fetchall()
    return float(least or 1.0), float(most or 1.0)


def read_label_delay(connection: Any, label: str, moment: str | None, period: str) -> int:
    """Return by how many hours the newest label lies behind the newest row; 0 if a whole period has some labels.

    Otherwise the newest whole period, which models are tested on, has rows and no label: labels come later.
    """
    if moment is None:
        return 0
    hours = complete_within(period)
    [(labelled, newest, start)] = connection.execute(
        f"select max({moment}) filter ({label} is not null) as labelled, max({moment}) as newest, "
        f"date_trunc('{period}', newest + interval {hours} hour) - interval 1 {period} from t"
    ).fetchall()
    if labelled is None or labelled >= start:
        return 0
    behind: timedelta = newest - labelled
    return math.ceil(behind / timedelta(hours=1))


def complete_within(period: str) -> int:
    """Return the hours before its end from which a period is complete: 24 would end a day with its first row."""
    return 6 if period == "day" else 24


def empty_at_times(connection: Any, table: pa.Table, moment: str | None, period: str) -> tuple[str, ...]:
    """Return the columns without any value in some period, or in the whole table if it has no time."""
    names = [name for name in table.column_names if table[name].null_count]
    if moment is None:
        return tuple(name for name in names if table[name].null_count == len(table))
    began = connection.sql(f"select date_trunc('{period}', {moment}) as began from t").to_arrow_table()["began"]
    encoded = began.combine_chunks().dictionary_encode()
    indices = encoded.indices.fill_null(-1).to_numpy()
    dated, count = indices >= 0, len(encoded.dictionary)

    def has_empty_period(name: str) -> bool:
        present = table[name].is_valid().to_numpy() & dated
        return bool((np.bincount(indices[present], minlength=count) == 0).any())

    return tuple(name for name in names if has_empty_period(name))
