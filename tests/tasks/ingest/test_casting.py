"""Which texts are values of which type: what a type cannot hold as it is written is put aside, never rounded."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit.config import ColumnType, SourceParams
from refit.sources import parquet_files
from refit.sources.limits import Limits
from refit.sources.source_files import numbered
from tasks.ingest.casting import TOO_LONG, Caster, connect

NOW = datetime(2020, 1, 1, tzinfo=UTC)


def cast(tmp_path: Path, kind: ColumnType, value: Any) -> tuple[Any, str | None]:
    """The value as it is stored, and why it is not."""
    source = SourceParams.model_validate(
        {"kind": "files", "path": "x.csv", "columns": {"value": kind}, "key": ("value",)}
    )
    with connect(str(tmp_path)) as connection:
        caster = Caster(connection, source, "ingest.sources.x", NOW)
        caster.add(
            0, numbered(pa.record_batch([value if isinstance(value, pa.Array) else pa.array([value])], ["value"]), 1)
        )
        [(found, faults)] = connection.execute("select c0, _faults from cast_rows").fetchall()
    return found, faults[0]["reason"] if faults else None


@pytest.mark.parametrize("value", [2**53 + 1, 2**63 - 1, -(2**63), -(2**53) - 1, 0, 7])
def test_an_integer_keeps_every_digit(tmp_path: Path, value: int) -> None:
    for text in (str(value), f" {value} ", f"{value}.0", value):
        assert cast(tmp_path, "integer", text) == (value, None)


@pytest.mark.parametrize(
    "text",
    ["9007199254740993.5", "9007199254740992.6", "9223372036854775807.4", "2.7", "9223372036854775808",
     "18446744073709551615", "-9223372036854775809", "0x1F", "\uff11\uff12", "NaN", "inf", "12,5", "1e19"],
)  # fmt: skip
def test_what_is_no_integer_is_put_aside(tmp_path: Path, text: str) -> None:
    assert cast(tmp_path, "integer", text) == (None, "is no integer")


@pytest.mark.parametrize(
    ("text", "number"),
    [("9007199254740992", 2.0**53), ("1152921504606846976", 2.0**60), ("123456789012345680000", 1.2345678901234568e20),
     ("100000000000000000000", 1e20), ("1e300", 1e300), ("-1.7976931348623157e308", -1.7976931348623157e308),
     ("5e-324", 5e-324), ("0.1234567890123456789012", 0.12345678901234568), ("0000000000000000000012", 12.0),
     ("12.5000000000000000000", 12.5), ("9007199254740992.0", 2.0**53), ("-0.0", 0.0)],
)  # fmt: skip
def test_a_number_is_the_double_that_is_written(tmp_path: Path, text: str, number: float) -> None:
    assert cast(tmp_path, "number", text) == (number, None)


@pytest.mark.parametrize(
    "text",
    ["9007199254740993", "-9007199254740993", "1152921504606846977", "9223372036854775807", "18446744073709551615",
     "9007199254740993.0", "12345678901234567890.50", "00012345678901234567"],
)  # fmt: skip
def test_a_whole_number_that_no_double_holds_is_put_aside_as_too_long(tmp_path: Path, text: str) -> None:
    assert cast(tmp_path, "number", text) == (None, TOO_LONG)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e400", "0x1F", "12,5", "\uff11"])
def test_what_is_no_finite_number_is_put_aside(tmp_path: Path, text: str) -> None:
    assert cast(tmp_path, "number", text) == (None, "is no number")


@pytest.mark.parametrize("value", [0.1, 1e22, 2.0**53, 2.0**70, 1.2345678901234567e19, -5e-324])
def test_a_double_of_parquet_is_itself(tmp_path: Path, value: float) -> None:
    assert cast(tmp_path, "number", value) == (value, None)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array([-(2**63)], pa.int64()), "-9223372036854775808"),
        (pa.array(["00501"]), "00501"),
        (pa.array([" 12 "]), " 12 "),
    ],
)
def test_a_text_is_what_was_written(tmp_path: Path, array: pa.Array, text: str) -> None:
    assert cast(tmp_path, "text", array) == (text, None)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_are_the_same_moment(tmp_path: Path, unit: str) -> None:
    moment = datetime(2019, 5, 1, 12, 30)  # noqa: DTZ001
    assert cast(tmp_path, "timestamp", pa.array([moment], pa.timestamp(unit))) == (moment, None)
    assert cast(tmp_path, "timestamp", pa.array([moment], pa.timestamp(unit, tz="Europe/Berlin"))) == (moment, None)


@pytest.mark.parametrize("value", ["1556713800", "1556713800000", 1556713800, 1.5e9])
def test_a_number_of_seconds_is_no_time_until_its_unit_is_said(tmp_path: Path, value: Any) -> None:
    assert cast(tmp_path, "timestamp", value) == (None, "is no timestamp")
    assert cast(tmp_path, "date", value) == (None, "is no date")


@pytest.mark.parametrize(
    ("text", "truth"),
    [("true", True), ("T", True), ("yes", True), ("Y", True), ("1", True), ("0", False), ("no", False), ("F", False),
     ("on", None), ("2", None), ("ja", None), ("", None)],
)  # fmt: skip
def test_a_boolean_is_one_of_few_words(tmp_path: Path, text: str, truth: bool | None) -> None:
    found, fault = cast(tmp_path, "boolean", text)
    assert found is truth
    assert fault == (None if truth is not None or not text else "is no boolean")


def test_a_date_with_a_time_is_no_date(tmp_path: Path) -> None:
    assert cast(tmp_path, "date", "2019-05-01") == (date(2019, 5, 1), None)
    assert cast(tmp_path, "date", "2019-05-01 10:00") == (None, "is no date")


@pytest.mark.parametrize("text", ["31/01/24", "24-01-31", " 01-02-24", "24-01-31 10:00", "1/2/3", "999-01-01"])
def test_a_year_of_two_digits_is_no_year_of_antiquity(tmp_path: Path, text: str) -> None:
    assert cast(tmp_path, "timestamp", text) == (None, "is no timestamp")
    assert cast(tmp_path, "date", text) == (None, "is no date")
    written = pa.array([datetime(24, 1, 31)], pa.timestamp("us"))  # noqa: DTZ001 - Parquet says its years itself
    assert cast(tmp_path, "date", written) == (date(24, 1, 31), None)


def test_parquet_values_of_types_that_the_engine_does_not_know_are_exact(tmp_path: Path) -> None:
    number = Decimal(10**45)
    kinds = {"id": pa.decimal256(60, 0), "price": pa.decimal256(60, 2), "half": pa.float16()}
    values = {"id": [number, Decimal(10**45 + 1)], "price": [Decimal("-1.50"), None], "half": [1.5, 65504.0]}
    table = pa.table({name: pa.array(values[name], kind) for name, kind in kinds.items()})
    pq.write_table(table, tmp_path / "a.parquet")
    [batch] = parquet_files.read(tmp_path / "a.parquet", "a.parquet", list(kinds), lambda _: None, Limits())
    assert cast(tmp_path, "text", batch["id"].slice(1, 1)) == (str(10**45 + 1), None)
    assert cast(tmp_path, "number", batch["price"].slice(0, 1)) == (-1.5, None)
    assert [cast(tmp_path, "number", batch["half"].slice(n, 1))[0] for n in range(2)] == [1.5, 65504.0]
