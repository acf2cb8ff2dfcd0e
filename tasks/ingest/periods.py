"""Computes the days, weeks and months that name batches; they start at local midnight, stored times are in UTC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Kind = Literal["day", "week", "month"]


@dataclass(frozen=True, order=True)
class Period:
    """A time span in UTC, without its end."""

    start: datetime
    end: datetime
    name: str


def period_of(moment: datetime, kind: Kind, zone: ZoneInfo) -> Period:
    """Return the period that contains a moment, by the calendar of `zone`.

    >>> period_of(datetime(2013, 2, 1, 4, 30, tzinfo=UTC), "month", ZoneInfo("America/New_York")).name
    '2013-01'
    >>> period_of(datetime(2013, 1, 1, tzinfo=UTC), "week", ZoneInfo("UTC")).name
    '2013-W01'
    """
    day = moment.astimezone(zone).date()
    if kind == "day":
        return _period(day, day + timedelta(days=1), day.isoformat(), zone)
    if kind == "week":
        year, week, weekday = day.isocalendar()
        monday = day - timedelta(days=weekday - 1)
        return _period(monday, monday + timedelta(days=7), f"{year:04d}-W{week:02d}", zone)
    first = day.replace(day=1)
    return _period(first, (first + timedelta(days=31)).replace(day=1), f"{first.year:04d}-{first.month:02d}", zone)


def _period(start: date, end: date, name: str, zone: ZoneInfo) -> Period:
    return Period(_midnight(start, zone), _midnight(end, zone), name)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def periods_on(days: Iterable[date], kind: Kind, zone: ZoneInfo) -> list[Period]:
    """Return every period that overlaps the given UTC days, in order."""
    moments = (datetime(day.year, day.month, day.day, hour, tzinfo=UTC) for day in days for hour in (0, 12))
    starts = {period_of(moment, kind, zone) for moment in moments}
    # A day of a zone far from UTC touches two local days and never a third.
    ends = {period_of(period.end, kind, zone) for period in starts}
    return sorted(starts | ends)
