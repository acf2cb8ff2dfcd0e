"""Steps, lags, windows and seasons of local time follow the calendar: compared with a wall calendar's days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest

from feature_store.offline import compute, configure
from refit.config import Params, parse
from refit.config.forecasting import ZONE
from tasks.featurize import forecasts
from tasks.featurize.warehouse import sources

NEW_YORK, BERLIN, LORD_HOWE = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"
KOLKATA, SAMOA, SANTIAGO = "Asia/Kolkata", "Pacific/Apia", "America/Santiago"


def made(zone: str, step: str, season: int, horizons: list[int]) -> Params:
    raw: dict[str, Any] = {
        "project": {"name": "demo", "timezone": zone},
        "ingest": {
            "sources": {
                "steps": {
                    "kind": "files",
                    "path": "steps.csv",
                    "columns": {"at": "timestamp", "value": "number", "known": "timestamp"},
                    "key": ["at"],
                    "event_time": "at",
                    "available_at": "known",
                },
                "ahead": {
                    "kind": "forecasts",
                    "forecast": {"of": "steps", "step": step, "season": season, "horizons": horizons},
                },
            }
        },
        "featurize": {"label": {"source": "steps", "column": "value", "delay_hours": 0}},
        "train": {"task": "forecast", "learners": [{"name": "naive", "kind": "baseline"}]},
        "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.0}},
    }
    return parse(raw)


def rows_of(params: Params, starts: list[datetime]) -> list[dict[str, Any]]:
    """The forecasts of a series whose n-th step has the value n and is known when the next begins, with features."""
    forecast, declared = params.forecast, sources(params)
    assert forecast is not None
    series = {"event_time": starts[:-1], "at": starts[:-1], "value": range(len(starts) - 1), "known": starts[1:]}
    feature_set = forecasts.completed(forecasts.default(params, forecast), params, forecast, declared)
    with duckdb.connect() as connection:
        configure(connection)
        connection.register("steps", pa.table({name: pa.array(values) for name, values in series.items()}))
        connection.execute("create table steps_known as select *, known as available_at from steps")
        columns = declared["ahead"].columns
        cut = ", ".join(f'({sql}) as "{name}"' for name, sql in columns.items())
        connection.execute(f"create table raw as {params.ingest.sources['ahead'].query}")
        connection.execute(
            f"create table ahead as select {cut}, forecast_time as event_time, forecast_time as available_at from raw "
            "order by forecast_time, horizon"
        )
        found = compute(connection, feature_set, "ahead", {"steps": "steps_known"}, datetime(2100, 1, 1, tzinfo=UTC))
        features = found.to_arrow_table().to_pylist()
        times = connection.execute("select target_time, season_time from ahead order by forecast_time, horizon")
        return [
            {**row, "target": target, "season": season}
            for row, (target, season) in zip(features, times.fetchall(), strict=True)
        ]


class Calendar:
    """A wall calendar: which days (or months) there are in a zone, and at which moment each begins."""

    def __init__(self, zone: str, first: date, last: date, step: str) -> None:
        self.zone, self.step = ZoneInfo(zone), step
        days = [first + timedelta(days=n) for n in range((last - first).days)]
        number = int(step.rstrip("dwmo"))
        if step.endswith("mo"):
            days = [day for day in days if day.day == 1][::number]
        else:
            days = days[:: number * (7 if step.endswith("w") else 1)]
        begun = [(day, self.begin(day)) for day in days]
        self.starts = {day: moment for day, moment in begun if moment is not None}

    def begin(self, day: date) -> datetime | None:
        """The first moment of a day in UTC; none: clocks skipped it."""
        moment = datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)
        return moment.replace(tzinfo=None) if moment.astimezone(self.zone).date() == day else None

    def day(self, moment: datetime) -> date:
        return moment.replace(tzinfo=UTC).astimezone(self.zone).date()

    def plus(self, day: date, steps: int) -> date:
        number = steps * int(self.step.rstrip("dwmo"))
        if self.step.endswith("mo"):
            months = day.year * 12 + day.month - 1 + number
            return date(months // 12, months % 12 + 1, day.day)
        return day + timedelta(days=number * (7 if self.step.endswith("w") else 1))


def expected(calendar: Calendar, season: int, horizons: list[int]) -> Iterator[dict[str, Any]]:
    starts = list(calendar.starts.values())
    value = {moment: float(n) for n, moment in enumerate(starts[:-1])}
    known = dict(pairwise(starts))
    span = max(season, 3)

    def at(moment: datetime | None, by: datetime) -> float | None:
        return value[moment] if moment in value and known[moment] <= by else None

    for now in starts[1:]:
        today = calendar.day(now)
        for horizon in horizons:
            target_day = calendar.plus(today, horizon - 1)
            if (target := calendar.begin(target_day)) is None:
                continue
            back = -(-horizon // season) * season
            before = calendar.begin(calendar.plus(target_day, -back))
            row: dict[str, Any] = {"target": target, "season": before, "seasonal_naive": at(before, now)}
            for count in (1, 2, 3):
                row[f"last_{count}"] = at(calendar.begin(calendar.plus(today, -count)), now)
            if not calendar.step.endswith("mo"):
                since = calendar.begin(calendar.plus(today, -span)) or min(
                    moment for day, moment in calendar.starts.items() if day > calendar.plus(today, -span)
                )
                inside = [value[moment] for moment in starts[:-1] if since < known[moment] <= now]
                row["mean"] = round(sum(inside) / len(inside), 6) if inside else None
            yield row


@pytest.mark.parametrize(
    ("zone", "first", "last", "step", "season", "horizons"),
    [
        (NEW_YORK, date(2024, 2, 1), date(2024, 12, 1), "1d", 7, [1, 2, 7, 9]),
        (BERLIN, date(2024, 2, 20), date(2024, 11, 20), "1d", 7, [1, 8]),
        (LORD_HOWE, date(2024, 3, 1), date(2024, 11, 1), "1d", 7, [1, 7]),
        (KOLKATA, date(2024, 1, 1), date(2024, 3, 10), "1d", 7, [1, 7]),
        (SANTIAGO, date(2024, 3, 1), date(2024, 10, 10), "1d", 7, [1, 5]),  # clocks skip midnight itself
        (SAMOA, date(2011, 9, 1), date(2012, 4, 20), "1d", 7, [1, 2, 3, 7]),  # no 30 December
        (NEW_YORK, date(2023, 1, 2), date(2024, 12, 1), "1w", 4, [1, 4]),
        (LORD_HOWE, date(2023, 1, 2), date(2024, 6, 1), "2w", 2, [1, 2]),
        (NEW_YORK, date(2022, 1, 1), date(2024, 12, 2), "1mo", 12, [1, 3, 12]),
        (KOLKATA, date(2022, 1, 1), date(2024, 6, 2), "1mo", 12, [1, 12]),
        (SAMOA, date(2011, 1, 1), date(2013, 6, 2), "3mo", 4, [1, 2]),
    ],
)
def test_local_days_weeks_and_months_are_those_of_a_wall_calendar(
    zone: str, first: date, last: date, step: str, season: int, horizons: list[int]
) -> None:
    calendar = Calendar(zone, first, last, step)
    rows = rows_of(made(zone, step, season, horizons), list(calendar.starts.values()))
    wanted = list(expected(calendar, season, horizons))
    assert len(rows) >= len(wanted)
    number = int(step.rstrip("dwmo"))
    unit = step.lstrip("0123456789")
    for row, want in zip(rows, wanted, strict=False):
        found = {"target": row["target"], "season": row["season"], "seasonal_naive": row["seasonal_naive"]}
        found |= {f"last_{count}": row[f"last_{count * number}{unit}"] for count in (1, 2, 3)}
        if "mean" in want:
            mean = row[f"mean_{max(season, 3) * number}{unit}"]
            found["mean"] = None if mean is None else round(mean, 6)
        assert found == want, (row["prediction_time"], row["horizon"])


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN, LORD_HOWE, KOLKATA])
def test_an_hours_season_is_the_same_hour_of_the_wall_clock_and_hours_stay_hours(zone: str) -> None:
    year = {NEW_YORK: (3, 1), BERLIN: (10, 15), LORD_HOWE: (3, 25), KOLKATA: (3, 25)}
    begin = datetime(2024, *year[zone])  # noqa: DTZ001 - UTC, as stored
    starts = [begin + timedelta(hours=n) for n in range(24 * 26)]
    rows = rows_of(made(zone, "1h", 168, [1, 24, 168]), starts)
    place = {moment: float(n) for n, moment in enumerate(starts[:-1])}

    def shown(moment: datetime) -> datetime:
        return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)

    other = 0
    for row in rows:
        now, target = row["event_time"], row["target"]
        assert target == now + timedelta(hours=row["horizon"] - 1)
        assert row["last_1h"] == place.get(now - timedelta(hours=1))
        season = row["season"]
        assert season <= now - timedelta(hours=1), "it has passed"
        ago = shown(target) - shown(season)
        weeks = -(-row["horizon"] // 168)
        if shown(target) - timedelta(days=7 * weeks) == shown(target - timedelta(days=7 * weeks)):
            assert season == target - timedelta(days=7 * weeks)
        elif ago == timedelta(days=7 * weeks):
            other += 1
        else:  # an hour that was skipped or that had not passed
            assert (
                timedelta(0) < abs(ago - timedelta(days=7 * weeks)) <= timedelta(hours=1) or ago.days == 7 + 7 * weeks
            )
        if season in place:
            assert row["seasonal_naive"] == place[season]
    assert (other > 100) == (zone != KOLKATA)


def test_days_of_utc_stay_days_of_utc_in_a_project_of_another_zone() -> None:
    """The project's zone says in which periods its rows lie; the days of the table are what its rows say."""
    starts = [datetime(2024, 1, 1) + timedelta(days=n) for n in range(330)]  # noqa: DTZ001
    rows = rows_of(made(NEW_YORK, "1d", 7, [1, 9]), starts)
    for row in rows:
        assert row["target"] == row["event_time"] + timedelta(days=row["horizon"] - 1)
        assert row["season"] == row["target"] - timedelta(days=7 if row["horizon"] == 1 else 14)
    assert sum(row["last_1d"] is None for row in rows) == 0


def test_a_project_of_utc_has_the_query_the_columns_and_the_definitions_that_it_had() -> None:
    params = made("UTC", "1h", 168, [1, 24])
    source = params.ingest.sources["ahead"]
    assert ZONE not in source.columns
    assert source.query == (
        "\nselect *, forecast_time + (horizon - 1) * interval '1 hour' as target_time\n"
        "from (select distinct event_time + interval '1 hour' as forecast_time from \"steps\"),\n"
        "  (select unnest([1, 24]) as horizon)"
    )
    declared = sources(params)
    assert declared["ahead"].columns["season_time"] == "target_time - (horizon + 167) // 168 * 168 * interval '1 hour'"
    assert params.forecast is not None
    spine = forecasts.default(params, params.forecast).spine
    assert "calendar" not in spine.model_dump()


def test_a_day_within_a_weekly_season_is_followed_too_as_known_at_the_forecast() -> None:
    starts = [datetime(2024, 1, 1) + timedelta(hours=n) for n in range(24 * 9)]  # noqa: DTZ001
    place = {moment: float(n) for n, moment in enumerate(starts)}
    for row in rows_of(made("UTC", "1h", 168, [1, 24, 25, 50]), starts):
        days = -(-row["horizon"] // 24)
        same_hour = row["target"] - timedelta(days=days)
        assert row["cycle_24h"] == place.get(same_hour)
        assert same_hour <= row["event_time"] - timedelta(hours=1), "it has passed"


def test_half_hours_are_told_apart_by_their_minute_and_hours_have_none() -> None:
    for step, season, there in (("30m", 336, True), ("1h", 168, False), ("60m", 168, False)):
        params = made("UTC", step, season, [1])
        assert params.forecast is not None
        names = [each.name for each in forecasts.default(params, params.forecast).spine.features]
        assert ("target_minute" in names) == there
