"""The windows of training, validation and test, in dates that can be counted on a calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from refit.config import Params, parse
from refit.config.windows import Window, earliest_as_of, local_days, period_start, shift, windows

NEW_YORK = ZoneInfo("America/New_York")


def params(period: str = "month", delay: float = 48, zone: str = "UTC", **featurize: Any) -> Params:
    source = {"kind": "files", "path": "s.csv", "columns": {"id": "integer", "at": "timestamp"}, "key": ["id"]}
    return parse(
        {
            "project": {"name": "demo", "timezone": zone},
            "ingest": {"period": period, "sources": {"s": {**source, "event_time": "at"}}},
            "featurize": {"label": {"source": "s", "column": "id", "delay_hours": delay}, **featurize},
            "train": {"learners": [{"name": "base", "kind": "baseline"}]},
        }
    )


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def spans(as_of: datetime, how: Params) -> list[tuple[datetime | None, datetime]]:
    return [(window.start, window.end) for window in windows(as_of, how)]


def test_a_period_begins_at_local_midnight_of_its_day_its_monday_or_its_first() -> None:
    moment = utc(2024, 3, 13, 3, 59, 58)  # in New York still Tuesday the 12th
    begun = {period: period_start(moment, period, NEW_YORK) for period in ("day", "week", "month")}  # type: ignore[arg-type]
    assert {name: each.astimezone(UTC) for name, each in begun.items()} == {
        "day": utc(2024, 3, 12, 4),
        "week": utc(2024, 3, 11, 4),
        "month": utc(2024, 3, 1, 5),  # before clocks were set forward
    }
    assert period_start(utc(2024, 1, 1), "week", ZoneInfo("UTC")) == utc(2024, 1, 1)
    assert period_start(moment.replace(microsecond=1), "day", NEW_YORK) == utc(2024, 3, 12, 4)


def test_a_day_whose_midnight_comes_twice_begins_at_the_first() -> None:
    havana = ZoneInfo("America/Havana")  # on 3 November 2024 clocks went back from 1:00 to 0:00
    for moment in (utc(2024, 11, 3, 4, 30), utc(2024, 11, 3, 5, 30), utc(2024, 11, 3, 20)):
        assert period_start(moment, "day", havana).astimezone(UTC) == utc(2024, 11, 3, 4)


@pytest.mark.parametrize(
    ("period", "periods", "start"),
    [
        ("day", 1, utc(2024, 1, 2)),
        ("day", -1, utc(2023, 12, 31)),
        ("week", 2, utc(2024, 1, 15)),
        ("month", 0, utc(2024, 1, 1)),
        ("month", 11, utc(2024, 12, 1)),
        ("month", 12, utc(2025, 1, 1)),
        ("month", -1, utc(2023, 12, 1)),
        ("month", -13, utc(2022, 12, 1)),
    ],
)
def test_a_start_is_moved_by_whole_periods(period: Any, periods: int, start: datetime) -> None:
    assert shift(utc(2024, 1, 1), periods, period) == start


def test_local_days_are_those_of_the_zones_clocks() -> None:
    times = pa.chunked_array([pa.array([datetime(2024, 3, 10, 4, 59), datetime(2024, 3, 10, 5, 0)])])  # noqa: DTZ001
    assert local_days(times, NEW_YORK).tolist() == np.array(["2024-03-09", "2024-03-10"], "datetime64[D]").tolist()


def test_the_test_ends_with_the_last_period_whose_labels_are_due() -> None:
    how = params(windows={"test": 2, "validation": 1, "training": 3})
    assert spans(utc(2024, 9, 3), how) == [
        (utc(2024, 3, 1), utc(2024, 6, 1)),
        (utc(2024, 6, 1), utc(2024, 7, 1)),
        (utc(2024, 7, 1), utc(2024, 9, 1)),
    ]
    assert all(moment.tzinfo is UTC for span in spans(utc(2024, 9, 3), how) for moment in span if moment)
    assert windows(utc(2024, 9, 2, 23, 59), how)[2].end == utc(2024, 8, 1), "a delay of two days is not over"
    assert windows(utc(2024, 9, 3), params(windows={"test": 1, "validation": 1, "training": None}))[0].start is None


def test_each_window_opens_where_the_one_before_ends_and_holds_what_is_due_by_then() -> None:
    train, validation, test = windows(utc(2024, 9, 3), params(windows={"test": 1, "validation": 1, "training": 3}))
    assert (train.name, validation.name, test.name) == ("train", "validation", "test")
    assert (train.opens, validation.opens, test.opens) == (validation.start, test.start, None)
    delay = timedelta(hours=48)
    assert train.until(delay) == utc(2024, 6, 29)
    assert validation.until(delay) == utc(2024, 7, 30)
    assert test.until(delay) == test.end
    early = Window("train", None, utc(2024, 1, 1), opens=utc(2024, 3, 1))
    assert early.until(delay) == early.end


@pytest.mark.parametrize(
    ("delay", "validation", "train"),
    [
        (24 * 14, (utc(2024, 7, 1), utc(2024, 8, 1)), utc(2024, 7, 1)),
        (24 * 15, (utc(2024, 7, 1), utc(2024, 8, 1)), utc(2024, 6, 1)),  # of July less than half, of June just half
        (24 * 16, (utc(2024, 6, 1), utc(2024, 7, 1)), utc(2024, 5, 1)),
        (0, (utc(2024, 7, 1), utc(2024, 8, 1)), utc(2024, 7, 1)),
    ],
)
def test_where_a_delay_takes_half_of_a_period_or_more_whole_periods_lie_between(
    delay: float, validation: tuple[datetime, datetime], train: datetime
) -> None:
    how = params(delay=delay, windows={"test": 1, "validation": 1, "training": 2})
    first, second, third = windows(utc(2024, 9, 1) + timedelta(hours=delay), how)
    assert (third.start, third.end) == (utc(2024, 8, 1), utc(2024, 9, 1))
    assert (second.start, second.end) == validation
    assert first.end == train


def test_windows_of_weeks_and_days_follow_the_zones_clocks() -> None:
    lengths = {"test": 1, "validation": 1, "training": 1}
    weeks = params("week", 0, "America/New_York", windows=lengths)
    assert spans(utc(2024, 3, 18, 4), weeks) == [
        (utc(2024, 2, 26, 5), utc(2024, 3, 4, 5)),
        (utc(2024, 3, 4, 5), utc(2024, 3, 11, 4)),  # 167 hours: clocks were set forward
        (utc(2024, 3, 11, 4), utc(2024, 3, 18, 4)),
    ]
    days = params("day", 0, "America/New_York", windows=lengths)
    assert spans(utc(2024, 3, 11, 4), days)[2] == (utc(2024, 3, 10, 5), utc(2024, 3, 11, 4))


def test_a_split_covers_the_same_time_with_all_three() -> None:
    split = {"test": 0.2, "validation": 0.2}
    how = params(split=split, windows={"test": 1, "validation": 1, "training": 2})
    assert spans(utc(2024, 9, 3), how) == [(utc(2024, 7, 1), utc(2024, 9, 1))] * 3
    assert all(moment.tzinfo is UTC for span in spans(utc(2024, 9, 3), how) for moment in span if moment)
    ever = params(split=split, windows={"test": 1, "validation": 1, "training": None})
    assert windows(utc(2024, 9, 3), ever) == tuple(
        Window(name, None, utc(2024, 9, 1)) for name in ("train", "validation", "test")
    )


@pytest.mark.parametrize("period", ["day", "week", "month"])
@pytest.mark.parametrize("delay", [0, 48, 500])
def test_the_earliest_as_of_is_the_first_whose_training_window_holds_the_first_row(period: str, delay: float) -> None:
    how = params(period, delay, "America/New_York", windows={"test": 1, "validation": 2, "training": None})
    first, due = utc(2024, 3, 6, 12), timedelta(hours=delay)
    earliest = earliest_as_of(first, how)
    assert windows(earliest, how)[0].until(due) > first
    assert windows(earliest - timedelta(seconds=1), how)[0].until(due) <= first


def test_a_first_row_whose_label_is_due_only_when_validation_opens_is_not_learned_from() -> None:
    how = params("month", 48, "America/New_York", windows={"test": 1, "validation": 1, "training": None})
    first = utc(2024, 3, 30, 4)  # just the label's delay before April
    assert windows(earliest_as_of(first, how), how)[0].until(timedelta(hours=48)) > first
