"""Series whose days or months are those of a zone: `refit init` asks which, and the project keeps to its clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest

from refit.config import parse
from refit.errors import UserError
from refit.new_project.new_params import params_of
from refit.new_project.table_reading import Hints, TableReading, read_table


def table(path: Path, zone: str, *, months: bool = False) -> Path:
    """Starts of 90 days or months at midnight of a zone, written with their offset."""
    first = datetime(2016 if months else 2024, 1 if months else 2, 1, tzinfo=ZoneInfo(zone))
    starts = [
        first.replace(year=2016 + n // 12, month=1 + n % 12) if months else first + timedelta(n) for n in range(90)
    ]
    lines = [f"{start.isoformat()},{n % 7 + n / 10}" for n, start in enumerate(starts)]
    path.write_text("\n".join(["began,sold", *lines]) + "\n")
    return path


def read(path: Path, zone: str = "UTC") -> TableReading:
    return read_table(path, key=(), time="began", label="sold", horizons=(1,), hints=Hints(zone=zone))


def said(path: Path, zone: str = "UTC") -> str:
    with pytest.raises(UserError) as refusal:
        read(path, zone)
    return str(refusal.value)


def test_days_of_a_zone_whose_clocks_change_are_not_taken_for_days_of_utc(tmp_path: Path) -> None:
    berlin = said(table(tmp_path / "t.csv", "Europe/Berlin"))
    assert berlin.startswith(
        "t.csv: its steps of 1d begin by the clocks of a zone, not by UTC: at 23:00 and 22:00 UTC, as"
    )
    assert "as in Europe/Berlin, " in berlin
    assert berlin.endswith("name the zone, such as --timezone Europe/Berlin")
    assert "as in America/New_York, " in said(table(tmp_path / "t.csv", "America/New_York"))


def test_months_of_a_zone_are_not_taken_for_the_months_before(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "Asia/Kolkata", months=True)
    assert "its steps of 1mo begin by the clocks of a zone, not by UTC: at 18:30 UTC" in said(path)
    reading = read(path, "Asia/Kolkata")
    assert reading.series
    assert not reading.series.inexact


def test_a_zone_that_is_named_is_the_project_s_and_its_days_end_when_its_clocks_say_so(tmp_path: Path) -> None:
    params = parse(params_of("shop", read(table(tmp_path / "t.csv", "Europe/Berlin"), "Europe/Berlin")))
    assert params.project.timezone == "Europe/Berlin"
    known = params.ingest.sources["table"].events["steps"].available_at
    began = "select unnest([timestamp '2024-03-29 23:00', timestamp '2024-03-30 23:00']) as event_time"
    ends = duckdb.sql(f"select ({known})::varchar from ({began}) order by event_time").fetchall()
    assert [end for (end,) in ends] == ["2024-03-30 23:00:00", "2024-03-31 22:00:00"]


def test_dates_and_days_of_utc_need_no_zone_and_a_zone_that_there_is_not_is_refused(tmp_path: Path) -> None:
    for zone in ("UTC", "Asia/Kolkata"):  # always 18:30 UTC: every day is 24 hours long
        assert read(table(tmp_path / "t.csv", zone)).zone == "UTC"
    starts = [datetime(2024, 2, 1, tzinfo=UTC) + timedelta(n) for n in range(90)]
    (tmp_path / "dates.csv").write_text("began,sold\n" + "".join(f"{day:%Y-%m-%d},{day.day}\n" for day in starts))
    reading = read(tmp_path / "dates.csv", "Europe/Berlin")
    assert reading.series
    assert (reading.zone, reading.series.zone) == ("Europe/Berlin", "UTC")
    assert said(tmp_path / "dates.csv", "Europe/Berln").startswith(
        "--timezone Europe/Berln: unknown; did you mean 'Europe/Berlin'?"
    )
