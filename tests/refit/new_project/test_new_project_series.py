"""A table of series, of times and of amounts: what `refit init` reads in it, and what it leaves open."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from driving import drive
from quick import quick

from refit.config import parse
from refit.errors import UserError
from refit.files.yaml_files import read_yaml
from refit.new_project.new_params import params_of
from refit.new_project.project_folder import create
from refit.new_project.table_reading import read_table
from tests.refit.new_project.test_new_project import LITTLE


def sales(first: date, steps: list[timedelta]) -> list[str]:
    """Two stores; each step sells more than the one before, and every seventh twice as much."""
    lines = ["Store,Day,Sold"]
    for store, level in (("north", 40), ("south", 400)):
        day = first
        for number, step in enumerate(steps):
            lines.append(f"{store},{day},{level + number * level // 100 + level * (number % 7 == 3)}")
            day += step
    return lines


@pytest.mark.slow
def test_the_next_steps_of_series_are_forecast_by_one_command(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n".join(sales(date(2024, 1, 1), [timedelta(1)] * 244)) + "\n")
    create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="Sold", key=("Store",), horizons=(1, 7))
    told = drive(tmp_path / "p", overrides=LITTLE)
    assert told["model"]["alias"] == "champion"
    assert told["metrics"]["mae"] < 0.7 * told["evaluation"]["baseline"]["mae"]["value"]
    assert told["intervals"]["level"] == 0.9
    forecast = parse(read_yaml(tmp_path / "p/params.yaml")).ingest.sources["forecasts"].forecast
    assert forecast is not None
    assert (forecast.step, forecast.season, list(forecast.series)) == ("1d", 7, ["store"])


@pytest.mark.parametrize(
    ("text", "roles", "words"),
    [
        (
            sales(date(2024, 1, 1), [timedelta(1)] * 30),
            {},
            "30 of 60 rows have the time of another row of their series",
        ),
        (sales(date(2024, 1, 1), [timedelta(1)] * 30), {"key": ("Store",), "horizons": (1, 20)}, "need 60 at least"),
        (
            ["Day,Sold", *(f"2024-10-27 {n // 6:02d}:{n % 6}0,{n}" for n in (*range(18), *range(17, 144)))],
            {},
            "first 2024-10-27 02:50:00; remove one of each two, or where clocks were set back then",
        ),
        (["Day,Sold", "2024-01-01,a", "2024-01-02,b"], {"label": "Sold"}, "forecasts are of numbers"),
        (["x,Sold", "1,2", "2,3"], {"label": "Sold"}, "a forecast needs one: --time COLUMN"),
        (
            ["The store,Day,Sold", "n,2024-01-01,1", "n,2024-01-02,2"],
            {"key": ("The store",)},
            "call it the_store in the header",
        ),
    ],
)
def test_what_series_leave_open_is_said(tmp_path: Path, text: list[str], roles: dict[str, Any], words: str) -> None:
    (tmp_path / "t.csv").write_text("\n".join(text) + "\n")
    given: dict[str, Any] = {"time": None, "label": "Sold", "key": (), "horizons": (1,)} | roles
    with pytest.raises(UserError, match=re.escape(words)):
        create(tmp_path / "p", csv=tmp_path / "t.csv", **given)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("{0:%d/%m/%Y}", "strptime(met, '%d/%m/%Y')"),
        ("{0.month}/{0.day}/{0:%Y} 8:26", "strptime(met, '%m/%d/%Y %H:%M')"),
        ("{0:%d.%m.%Y} 08:26:01", "strptime(met, '%d.%m.%Y %H:%M:%S')"),
        ("{0:%Y-%m-%d} 20:16:04 -0800", "strptime(met, '%Y-%m-%d %H:%M:%S %z')::timestamp"),
        ("{0:%Y%m%d}", "strptime(met, '%Y%m%d')"),
    ],
)
def test_a_time_is_read_as_it_is_written_where_only_one_way_fits(tmp_path: Path, written: str, read: str) -> None:
    rows = [f"{n},{written.format(date(2024, 1, 1) + timedelta(days=n % 150))},{n % 9},{n % 2}" for n in range(300)]
    (tmp_path / "t.csv").write_text("\n".join(["id,met,x,y", *rows]) + "\n")
    found = read_table(tmp_path / "t.csv", time="met", label="y", key=())
    source = parse(params_of("p", found)).ingest.sources["table"]
    assert (source.event_time, source.columns["met"]) == (read, "text")


def test_a_time_of_which_days_and_months_cannot_be_told_apart_is_left_open(tmp_path: Path) -> None:
    rows = [f"{n},{n % 12 + 1:02d}/{n % 11 + 1:02d}/2024,{n % 2}" for n in range(300)]
    (tmp_path / "t.csv").write_text("\n".join(["id,at,y", *rows]) + "\n")
    with pytest.raises(
        UserError, match=r"it may be written %d/%m/%Y or %m/%d/%Y, .* say which: --time-format '%d/%m/%Y'"
    ):
        create(tmp_path / "p", csv=tmp_path / "t.csv", time="at", label="y", key=())


@pytest.mark.parametrize(
    ("days", "step"),
    [
        ([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] * 3, "1mo"),
        ([7] * 40, "1w"),
        ([14] * 40, "2w"),
        ([1] * 60, "1d"),
    ],
)
def test_the_step_of_series_is_seen_from_their_rows(tmp_path: Path, days: list[int], step: str) -> None:
    (tmp_path / "t.csv").write_text("\n".join(sales(date(2020, 1, 1), [timedelta(n) for n in days])) + "\n")
    found = read_table(tmp_path / "t.csv", key=("Store",), time=None, label="Sold", horizons=(1,))
    assert found.series is not None
    assert found.series.step == step


def test_years_are_a_time_where_they_are_said_to_be_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n".join(["Year,y", *(f"{1900 + n},{n * 37 % 101}" for n in range(90))]) + "\n")
    found = read_table(tmp_path / "t.csv", key=(), time="Year", label="y", horizons=(1,))
    assert found.series is not None
    assert found.time is not None
    assert (found.series.step, found.time.moment) == ("1y", "strptime(\"Year\", '%Y')")


def test_times_with_an_offset_are_told_apart_where_clocks_are_set_back(tmp_path: Path) -> None:
    hours = [f"2024-10-{26 + n // 24}T{n % 24:02d}:00:00+02:00" for n in range(27)]
    hours += [f"2024-10-{27 + n // 24}T{n % 24:02d}:00:00+01:00" for n in range(2, 99)]
    (tmp_path / "t.csv").write_text("\n".join(["at,y", *(f"{hour},{n}" for n, hour in enumerate(hours))]) + "\n")
    found = read_table(tmp_path / "t.csv", key=(), time=None, label="y", horizons=(1,))
    assert found.series is not None
    assert (found.series.step, found.series.length) == ("1h", len(hours))


def test_numbers_with_a_decimal_comma_are_numbers(tmp_path: Path) -> None:
    rows = [f"{n},{n % 7},{n % 3}5;{n * 1000 % 7919 / 10:.1f}".replace(".", ",") for n in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["Größe;y", *(row.split(",", 1)[1] for row in rows)]) + "\n")
    params = parse(params_of("p", read_table(tmp_path / "t.csv", key=(), time=None, label="y")))
    assert params.train.task == "regression"
    number = "try_cast(replace(replace({}, '.', ''), ',', '.') as double)"
    columns = params.ingest.sources["table"].events["cases"].columns
    assert columns == {"grosse": number.format('"Größe"'), "y": number.format("y")}


@pytest.mark.parametrize(
    ("written", "comma"),
    [("{:.1f}", True), ("{:.3f}", True), ("1,{:03.0f}", False), ("{:.0f}", False)],
    ids=["tenths", "thousandths, some below 1", "thousands", "whole"],
)
def test_quoted_numbers_between_commas_have_a_decimal_comma_where_no_grouping_explains_it(
    tmp_path: Path, written: str, comma: bool
) -> None:
    rows = [f'{n},"{written.format(n * 1000 % 7919 / 10).replace(".", ",")}",{n % 2}' for n in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["id,x,y", *rows]) + "\n")
    reading = read_table(tmp_path / "t.csv", key=("id",), time=None, label="y")
    assert [column.comma for column in reading.columns if column.name == "x"] == [comma]


@pytest.mark.parametrize("written", quick(['"$1,{:03d}.50"', "{:d} €", '"1,{:03d}"', "${:d}.99"], 0, 1))
def test_amounts_with_signs_are_read_as_numbers_and_what_is_written_otherwise_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str
) -> None:
    rows = [f"{n},{written.format(n)},00{n % 7},{n % 3},{n % 2}" for n in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["id,price,zip,z,y", *rows]) + "\n")
    create(tmp_path / "demo", csv=tmp_path / "t.csv", time=None, label="y", key=("id",)).print()
    said = capsys.readouterr().out
    assert "  numbers price: read without their signs and commas" in said
    assert "left  " not in said, "the numbers differ in every row, and are learned from all the same"
    params = parse(read_yaml(tmp_path / "demo/params.yaml"))
    number = params.ingest.sources["table"].events["cases"].columns["price"]
    cell = written.strip('"').format(5)
    assert duckdb.sql(f"select {number} from (select {cell!r} as price)").fetchall() == [
        (float(re.sub("[^0-9.]", "", cell)),)
    ]
    [form] = [each["expect_column_values_to_match_regex"]["regex"] for each in params.validate_.suites["table"][1:]]
    assert re.fullmatch(form, cell)
    assert not re.fullmatch(form, "12,5"), "it would be read as 125"
    assert not [text for text in ("", "$", "-", "€ ", "+$+5", "--5", "1,2345") if re.fullmatch(form, text)]
    assert all(re.fullmatch(form, text) for text in ("-$5", "$-5", "- 5", "$ 1,234.50", "+12 €", ".5", "7."))


@pytest.mark.parametrize(
    ("written", "cell", "number", "refused"),
    [
        ("{:d},50 €", "1.234,5 €", 1234.5, ("1,234.50", "$", "1.2,5", "12 %")),
        ("€ 1.{:03d},25", "-€3.999,25", -3999.25, ("1,234.50", "€", "1.23 €")),
        ("{:d},5 %", "12,5%", 12.5, ("1,234 %", "12,5", "%")),
    ],
)
def test_amounts_and_shares_with_a_decimal_comma_are_read_as_numbers(
    tmp_path: Path, written: str, cell: str, number: float, refused: tuple[str, ...]
) -> None:
    rows = [f"{n};{written.format(n)};{n % 3};{n % 2}" for n in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["id;price;z;y", *rows]) + "\n")
    reading = read_table(tmp_path / "t.csv", key=("id",), time=None, label="y")
    params = parse(params_of("p", reading))
    value = params.ingest.sources["table"].events["cases"].columns["price"]
    assert duckdb.sql(f"select {value} from (select {cell!r} as price)").fetchall() == [(number,)]
    [form] = [each["expect_column_values_to_match_regex"]["regex"] for each in params.validate_.suites["table"][1:]]
    assert re.fullmatch(form, cell)
    assert not [text for text in refused if re.fullmatch(form, text)]


def test_whole_amounts_between_semicolons_are_not_a_thousandth_of_what_they_say(tmp_path: Path) -> None:
    rows = [f"{n};$1,{n:03d};{n % 3};{n % 2}" for n in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["id;price;z;y", *rows]) + "\n")
    reading = read_table(tmp_path / "t.csv", key=("id",), time=None, label="y")
    [price] = [column for column in reading.columns if column.name == "price"]
    assert (price.comma, price.amount) == (False, True)


def test_a_first_day_that_has_rows_from_its_beginning_on_counts_as_the_others_do(tmp_path: Path) -> None:
    """Of many series some begin a day later: validation compares the second day with the first, so the band does."""
    days = [day for day, rows in enumerate((10, 40, 42, 40, 41, 40, 3)) for _ in range(rows)]
    rows = [f"{n},2024-01-{day + 1:02d} 00:00,{n % 9},{n % 2}" for n, day in enumerate(days)]
    (tmp_path / "t.csv").write_text("\n".join(["id,at,x,y", *rows]) + "\n")
    params = parse(params_of("p", read_table(tmp_path / "t.csv", key=(), time=None, label="y")))
    assert params.validate_.rows_band.high == 5.6


@pytest.mark.parametrize("count", [1000, 50_000])
def test_forecasts_of_many_series_leave_the_test_window_enough_days_for_a_gate(tmp_path: Path, count: int) -> None:
    (tmp_path / "t.csv").write_text("\n".join(sales(date(2023, 1, 1), [timedelta(1)] * 730)) + "\n")
    found = read_table(tmp_path / "t.csv", key=("Store",), time=None, label="Sold", horizons=(1,))
    assert found.series is not None
    many = replace(found.series, count=count, horizons=tuple(range(1, 29)))
    params = parse(params_of("p", replace(found, series=many)))
    forecast, windows = params.forecast, params.featurize.windows
    assert forecast is not None
    assert windows is not None
    moments = windows.test * 30 // forecast.every
    assert forecast.every > 1
    assert forecast.every % 7
    assert params.evaluate.gate.cluster == "day"
    assert moments >= 24, "the gate needs 20 days"
    assert params.evaluate.gate.min_rows <= moments * count * 28 / 2
    learned = count * 730 / forecast.every * (forecast.learn or 28)
    assert learned < max(300_000, 1.01 * count * 730 / forecast.every)


def test_a_short_history_is_judged_by_its_few_moments_and_never_by_rows(tmp_path: Path) -> None:
    hours = [f"2024-03-{1 + n // 24:02d} {n % 24:02d}:00,{n * 37 % 101}" for n in range(700)]
    (tmp_path / "t.csv").write_text("\n".join(["at,y", *hours]) + "\n")
    found = read_table(tmp_path / "t.csv", key=(), time=None, label="y", horizons=(1, 24))
    gate = parse(params_of("p", found)).evaluate.gate
    assert gate.cluster == "day"
    assert 8 <= gate.min_clusters < 20
