"""How the rows of a stranger's table lie in time: by which period they come, how many, and how much that varies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tasks.errors import UserError

LEAST_ROWS = 80  # of a table without a time


def judged_share(rows: int) -> float:
    """The part of a table without a time that models are judged on: a fifth, or more of few, as a gate needs 20 rows.

    >>> judged_share(5000), judged_share(80)
    (0.2, 0.33)
    """
    return max(0.2, round(26 / rows, 2))


def read_period(connection: Any, time: str, moment: str | None, name: str, rows: int) -> tuple[str, int, int]:
    """The length of batches, and how many rows and days one has; of a table without a time, the rows to test on."""
    if moment is None and rows < LEAST_ROWS:
        raise UserError(f"{name} has {rows} rows; to learn from some and judge on others, {LEAST_ROWS} are needed")
    if moment is None:
        return "day", int(rows * judged_share(rows)), 1
    first, last = connection.execute(f"select min({moment}), max({moment}) from t").fetchone()
    if last > datetime.now():  # noqa: DTZ005 - the file's times carry no zone
        raise UserError(
            f"--time {time}: the newest value, {last}, lies in the future; rows are dated by what has happened"
        )
    for period, days in (("month", 120), ("week", 28), ("day", 4)):
        if (last - first).days >= days:
            counts = (
                f"count(*) as n, count(distinct {moment}::date) as d from t group by date_trunc('{period}', {moment})"
            )
            query = f"select median(n)::bigint, median(d)::bigint from (select {counts})"
            per_period, distinct_days = connection.execute(query).fetchone()
            return period, per_period, distinct_days
    raise UserError(f"{name} spans {(last - first).days} days; train, validation and test windows need 4 days at least")


def read_band(connection: Any, moment: str | None, period: str) -> tuple[float, float]:
    """How much the rows of whole periods vary; the first and the last, which may be cut short, are left out."""
    if moment is None:
        return 1.0, 1.0
    counts = f"select date_trunc('{period}', {moment}) as began, count(*) as n from t group by 1"
    at_an_end = "lag(n) over (order by began) is null or lead(n) over (order by began) is null"
    inner = f"select * from ({counts}) qualify not ({at_an_end})"
    share = f"select n / avg(n) over (order by began rows between 3 preceding and 1 preceding) as share from ({inner})"
    least, most = connection.execute(f"select min(share), max(share) from ({share})").fetchone()
    return float(least or 1.0), float(most or 1.0)
