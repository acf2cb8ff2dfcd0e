"""Periods by the calendar of any zone: no moment of a day that a source names falls outside of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from refit.errors import UserError
from tasks.ingest.deliveries import span_of
from tasks.ingest.periods import Kind, period_of, periods_on

ZONES = (
    "UTC",
    "America/New_York",
    "Asia/Tokyo",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("kind", ["day", "week", "month"])
@pytest.mark.parametrize("day", [date(2024, 1, 31), date(2024, 3, 31), date(2023, 12, 31), date(2024, 2, 29)])
def test_every_moment_of_a_day_falls_into_one_of_its_periods(zone: str, kind: Kind, day: date) -> None:
    """East of Greenwich the last hours of a month's last UTC day belong to the next month already."""
    here = ZoneInfo(zone)
    periods = periods_on([day], kind, here)
    assert periods == sorted(periods)
    assert all(first.end == second.start for first, second in pairwise(periods))
    for minute in range(0, 24 * 60, 30):
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
        assert period_of(moment, kind, here) in periods
        assert len([period for period in periods if period.start <= moment < period.end]) == 1


@pytest.mark.parametrize(
    ("zone", "day", "names"),
    [
        ("Asia/Tokyo", date(2024, 1, 31), ["2024-01", "2024-02"]),
        ("Pacific/Kiritimati", date(2023, 12, 31), ["2023-12", "2024-01"]),
        ("America/New_York", date(2024, 2, 1), ["2024-01", "2024-02"]),
    ],
)
def test_a_day_of_a_zone_touches_the_months_that_it_reaches_into(zone: str, day: date, names: list[str]) -> None:
    assert [period.name for period in periods_on([day], "month", ZoneInfo(zone))][: len(names)] == names


def test_days_weeks_and_months_are_as_long_as_the_calendar_has_them() -> None:
    zone = ZoneInfo("Europe/Berlin")
    spring, noon = datetime(2024, 3, 31, 12, tzinfo=UTC), timedelta(hours=12)
    assert period_of(spring, "day", zone).end - period_of(spring, "day", zone).start == 2 * noon - timedelta(hours=1)
    week = period_of(spring, "week", zone)
    assert (week.name, week.end - week.start) == ("2024-W13", 14 * noon - timedelta(hours=1))
    assert period_of(datetime(2024, 12, 30, 12, tzinfo=UTC), "week", zone).name == "2025-W01"
    month = period_of(datetime(2024, 2, 10, tzinfo=UTC), "month", zone)
    assert (month.name, month.end - month.start) == ("2024-02", 58 * noon)


def test_hourly_deliveries_keep_their_order_where_clocks_change_and_a_skipped_hour_is_refused() -> None:
    def came(day: str, hour: int) -> datetime:
        return span_of(f"sales-{day}T{hour:02d}.csv", "%Y-%m-%dT%H", ZoneInfo("Europe/Berlin"), "sales")[0]

    autumn = [came("2024-10-27", hour) for hour in range(24)]
    spring = [came("2024-03-31", hour) for hour in range(24) if hour != 2]
    for moments in (autumn, spring):
        assert moments == sorted(set(moments))
    assert spring[2] - spring[1] == timedelta(hours=1), "03:00 follows 01:00 by an hour"
    with pytest.raises(UserError, match=r"2024-03-31 02:00, which clocks skip in Europe/Berlin"):
        came("2024-03-31", 2)
