"""How a stranger's table may write its times: read as what they are, or refused by one line that says what to add."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from refit.errors import UserError
from refit.new_project.new_params import params_of
from refit.new_project.project_folder import create
from refit.new_project.table_reading import Hints, TableReading, read_table

START = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = 12


def reading(
    path: Path, written: Callable[[datetime], object], *formats: str, rows: int = 160, start: datetime = START
) -> TableReading:
    lines = [f"k{n},{written(start + timedelta(hours=HOURS * n))},{n % 7},{n % 2}" for n in range(rows)]
    table = path / "table.csv"
    table.write_text("\n".join(["id,t,x,y", *lines]) + "\n")
    return read_table(table, key=("id",), time="t", label="y", hints=Hints(time_formats=formats))


def first_and_last(path: Path, found: TableReading) -> tuple[datetime, datetime]:
    """By the SQL that the project's params say, over the column cast as they declare it."""
    source = params_of("times", found)["ingest"]["sources"]["table"]
    kind = {"text": "varchar", "integer": "bigint", "number": "double"}[source["columns"]["t"]]
    cast = f"select t::{kind} as t from read_csv('{path}/table.csv', all_varchar = true)"
    moment = f"({source['event_time']})::timestamp"
    [(first, last)] = duckdb.sql(f"select min({moment}), max({moment}) from ({cast})").fetchall()
    return first.replace(tzinfo=UTC), last.replace(tzinfo=UTC)


LAST = START + timedelta(hours=HOURS * 159)
NUMBERS: dict[str, Callable[[datetime], object]] = {
    "seconds": lambda at: int(at.timestamp()),
    "parts_of_seconds": lambda at: f"{int(at.timestamp())}.0",
    "milliseconds": lambda at: int(at.timestamp()) * 1000,
    "microseconds": lambda at: int(at.timestamp()) * 1000**2,
    "nanoseconds": lambda at: int(at.timestamp()) * 1000**3,
    "digits_to_the_minute": lambda at: f"{at:%Y%m%d%H%M}",
    "digits_to_the_second": lambda at: f"{at:%Y%m%d%H%M%S}",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_time_written_as_a_number_is_that_time(tmp_path: Path, name: str) -> None:
    assert first_and_last(tmp_path, reading(tmp_path, NUMBERS[name])) == (START, LAST)


@pytest.mark.parametrize("machine", ["America/Los_Angeles", "UTC", "Pacific/Kiritimati"])
@pytest.mark.parametrize("zone", [timedelta(0), timedelta(hours=14)], ids=["utc", "local times east"])
def test_rows_up_to_this_hour_are_read_wherever_the_machine_and_the_table_are(
    tmp_path: Path, machine: str, zone: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", machine)
    time.tzset()
    try:
        end = datetime.now(UTC) + zone - timedelta(minutes=5)
        begin = end - timedelta(hours=HOURS * 159)
        assert reading(tmp_path, lambda at: f"{at:%Y-%m-%d %H:%M:%S}", start=begin).time is not None
        with pytest.raises(UserError, match="lies in the future"):
            reading(tmp_path, lambda at: f"{at:%Y-%m-%d %H:%M:%S}", start=begin + timedelta(days=2))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_seconds_before_1973_are_read_where_they_are_said_to_be_such(tmp_path: Path) -> None:
    early = datetime(1969, 3, 1, tzinfo=UTC)
    with pytest.raises(UserError, match="or 'seconds since 1970', or name another column"):
        reading(tmp_path, NUMBERS["seconds"], start=early)
    found = reading(tmp_path, NUMBERS["seconds"], "seconds since 1970", start=early)
    assert first_and_last(tmp_path, found)[0] == early


@pytest.mark.parametrize("form", ["%d/%m/%y", "%d.%m.%y", "%d-%m-%y", "%m/%d/%y"])
def test_a_year_of_two_digits_is_of_our_age(tmp_path: Path, form: str) -> None:
    found = reading(tmp_path, lambda at: at.strftime(form))
    assert first_and_last(tmp_path, found) == (START, LAST.replace(hour=0))


def test_a_year_of_two_digits_that_may_be_a_day_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="may be written %d-%m-%y or %y-%m-%d, which read it differently"):
        reading(tmp_path, lambda at: f"{at:%y-%m-%d}")
    found = reading(tmp_path, lambda at: f"{at:%y-%m-%d}", "%y-%m-%d")
    assert first_and_last(tmp_path, found) == (START, LAST.replace(hour=0))


def test_a_parquet_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"PAR1\x15\x04\xffPAR1")
    with pytest.raises(UserError, match=r"table\.parquet is Parquet, and --csv takes CSV"):
        read_table(tmp_path / "table.parquet", key=(), time=None, label="y")


@pytest.mark.parametrize(
    ("unlabelled_from", "hours"),
    [(488, 0), (460, 0), (320, 2016), (426, 744)],
    ids=["all labelled", "the last whole month has some", "from half a month on", "whole months have none"],
)
def test_labels_that_the_newest_rows_still_lack_are_known_as_much_later_as_they_come(
    tmp_path: Path, unlabelled_from: int, hours: int
) -> None:
    lines = [
        f"k{n},{START + timedelta(hours=HOURS * n):%Y-%m-%d %H:%M},{n % 7},{n % 2 if n < unlabelled_from else ''}"
        for n in range(488)  # January to August
    ]
    (tmp_path / "table.csv").write_text("\n".join(["id,t,x,y", *lines]) + "\n")
    found = read_table(tmp_path / "table.csv", key=("id",), time="t", label="y")
    assert (found.period, params_of("late", found)["featurize"]["label"]["delay_hours"]) == ("month", hours)


@pytest.mark.slow
def test_a_project_of_which_the_newest_month_has_no_label_runs_and_says_when_labels_count_as_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        f"k{n},{START + timedelta(hours=HOURS * n):%Y-%m-%d %H:%M},{n * 37 % 11},{n * 7 % 3 % 2 if n < 426 else ''}"
        for n in range(488)  # January to August
    ]
    (tmp_path / "table.csv").write_text("\n".join(["id,t,x,y", *lines]) + "\n")
    create(tmp_path / "p", csv=tmp_path / "table.csv", time="t", label="y", key=("id",)).print()
    assert "no label: labels count as known 744 hours after their" in capsys.readouterr().out
