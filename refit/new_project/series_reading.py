"""Infers the structure of a table of series: the length of a step, the season, and the length of the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feature_store.sql_text import quote
from refit.errors import UserError
from refit.evaluation.giveaways import COUNTS, giveaways
from refit.new_project.column_reading import Column
from refit.new_project.period_reading import period_of
from refit.new_project.repetition import repetitions
from refit.new_project.windows import DAY, MEAN_MONTH, learned_steps
from refit.new_project.zone_reading import local, read_zone
from refit.schemas.feature_table import Giveaway

MINUTE, HOUR, WEEK = 60, 3600, 7 * DAY
UNITS = ((WEEK, "w"), (DAY, "d"), (HOUR, "h"), (MINUTE, "m"))
MONTH, YEAR = (28 * DAY, 31 * DAY), (365 * DAY, 366 * DAY)
LEAST = 3  # seasons that a history needs to learn one


@dataclass(frozen=True)
class Series:
    """The series in a table, all with the same step."""

    columns: tuple[str, ...]  # which identify a series
    count: int
    step: str  # in the notation of params
    step_seconds: int
    length: int  # steps from the first to the last row of all series
    season: int  # steps
    lags: tuple[int, ...]  # other cycles, in steps
    horizons: tuple[int, ...]
    naive_error: float  # mean absolute error of the value a season before
    negative: bool  # whether any value is negative
    inexact: bool  # whether months or years are dated by another day than their first
    zone: str = "UTC"  # time zone of days and longer steps


def read_series(
    connection: Any,
    name: str,
    columns: tuple[str, ...],
    moment: str,
    value: str,
    horizons: tuple[int, ...],
    zone: str = "UTC",
) -> Series:
    """Read the table `t` as series.

    Args:
        name: of the file, in messages.
        columns: which identify a series.
        moment: SQL of a row's time.
        value: SQL of what is forecast.
        zone: the time zone whose calendar the steps may follow.

    Raises:
        UserError: two rows of a series have the same time, steps are no whole minutes or too few, or the days are
            those of another zone than the named one.
    """
    series_columns = "".join(f", {quote(column)}" for column in columns)
    connection.execute(
        f"create or replace table s as select {moment} as began, {value} as value, "
        f"hash(0{series_columns}) as series from t where {moment} is not null"
    )
    rows, moments, count = connection.execute(
        "select count(*), count(distinct (series, began)), count(distinct series) from s"
    ).fetchone()
    if rows > moments:
        raise UserError(_explain_repeated_times(connection, name, columns, rows - moments, rows))
    steps = "select epoch(began - lag(began) over (partition by series order by began)) as step from s"
    (interval,) = connection.execute(f"select mode(step) from ({steps})").fetchone()
    if not interval:
        raise UserError(f"{name}: each series has a single row; a forecast needs a history")
    step, seconds = _step(int(interval), name)
    (span,) = connection.execute("select epoch(max(began) - min(began)) from s").fetchone()
    length = int(span // seconds) + 1
    if length < LEAST * (longest := max(horizons)) or length < 20:
        least = max(20, LEAST * longest)
        raise UserError(f"{name}: its rows span {length} steps of {step}; {longest} steps ahead need {least} at least")
    zone = read_zone(connection, name, step, zone)
    season = _season(seconds, length)
    seasonal_change = f"value - lag(value, {season}) over (partition by series order by began)"
    (naive_error,) = connection.execute(f"select avg(abs(d)) from (select {seasonal_change} as d from s)").fetchone()
    aligned, lowest = connection.execute(
        f"select bool_and({local('began', zone)} = date_trunc('month', {local('began', zone)})), min(value) from s"
    ).fetchone()
    day = (DAY // seconds,) if seconds < DAY and DAY % seconds == 0 and season > DAY // seconds else ()
    learned = learned_steps(length, seconds, period_of(int(span // DAY)) or "day")
    lags = {*day, *repetitions(connection, seconds, learned)} - {season}
    inexact = seconds >= MONTH[0] and step[-1] in "oy" and not aligned
    return Series(
        columns=columns,
        count=count,
        step=step,
        step_seconds=seconds,
        length=length,
        season=season,
        lags=tuple(sorted(lags)),
        horizons=horizons,
        naive_error=float(naive_error or 0.0),
        negative=(lowest or 0) < 0,
        inexact=inexact,
        zone=zone,
    )


def simultaneous_leaks(connection: Any, columns: Sequence[Column], label: Column) -> tuple[Giveaway, ...]:
    """Return numbers that leak a forecast's label: known only together with it, they cannot be inputs."""
    numbers = {f"_{index}": each for index, each in enumerate(columns) if each.is_number and each is not label}
    values = ", ".join(f"{each.number} as {alias}" for alias, each in numbers.items())
    if not values:
        return ()
    rows = connection.sql(f"select {label.number} as label, {values} from t").to_arrow_table()
    leaks = giveaways(rows, numeric=list(numbers), categorical=[])
    return tuple(
        Giveaway(features=tuple(numbers[alias].name for alias in leak.features), reason=leak.reason)
        for leak in leaks
        if leak.reason != COUNTS
    )


def _explain_repeated_times(connection: Any, name: str, columns: tuple[str, ...], repeated: int, rows: int) -> str:
    """Explain repeated times in a series: several series, or if they are few, duplicates or clocks set back."""
    key_options = f"--key {' --key '.join(columns)}" if columns else "no --key"
    message = f"{name}: {repeated:,} of {rows:,} rows have the time of another row of their series ({key_options})"
    if repeated > rows / 100:
        return f"{message}; name the columns that tell series apart, such as --key store --key product"
    query = "select min(began) from (select began from s group by series, began having count(*) > 1)"
    (first,) = connection.execute(query).fetchone()
    return (
        f"{message}, first {first}; remove one of each two, or where clocks were set back then, write times in UTC "
        "or with their offset, such as 2024-10-27T02:00+01:00"
    )


def _step(seconds: int, name: str) -> tuple[str, int]:
    """Return a step in the notation of params, and its length in seconds.

    >>> _step(900, "t.csv"), _step(86_400, "t.csv"), _step(31 * 86_400, "t.csv"), _step(14 * 86_400, "t.csv")
    (('15m', 900), ('1d', 86400), ('1mo', 2629746), ('2w', 1209600))
    """
    if YEAR[0] <= seconds <= YEAR[1]:
        return "1y", 12 * MEAN_MONTH
    for count in (1, 2, 3, 4, 6):
        is_months = count * MONTH[0] <= seconds <= count * MONTH[1] and round(seconds / MEAN_MONTH) == count
        if is_months and seconds % WEEK:
            return f"{count}mo", count * MEAN_MONTH
    for length, unit in UNITS:
        if seconds % length == 0:
            return f"{seconds // length}{unit}", seconds
    raise UserError(f"{name}: most rows of a series are {seconds} seconds apart; steps are of whole minutes")


def _season(seconds: int, length: int) -> int:
    """Return the steps of a week, a day or a year: the first that fits and that the history covers a few times.

    >>> _season(HOUR, 10_000), _season(HOUR, 300), _season(MEAN_MONTH, 144), _season(WEEK, 143)
    (168, 24, 12, 52)
    """
    spans = (WEEK, DAY) if seconds < DAY else (WEEK,) if seconds < WEEK else (365 * DAY,)
    for span in spans:
        steps = round(span / seconds)
        if steps > 1 and length >= LEAST * steps - steps // 2:
            return steps
    return 1
