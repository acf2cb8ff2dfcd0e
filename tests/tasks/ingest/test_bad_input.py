"""Input that cannot be used: one line each that says what, where, and what would be right."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit.errors import UserError
from refit.sources import text_streams

Month = Callable[..., str]

HEADER = "id,at,kind,cost\n"
ROW = "1,2013-01-31,a,1\n"


@pytest.fixture
def project(project: Any) -> Any:
    project.zone = "UTC"
    return project


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("raw/missing.csv", ["raw/missing.csv does not exist", "ingest.sources.trips.path"]),
        ("raw/trps.csv", ["did you mean 'trips.csv'?"]),
        ("raw/*.parquet", ["raw/*.parquet matches no file"]),
        ("raw", ["raw is a folder", "raw/*.csv"]),
    ],
)
def test_a_missing_file_is_named(project: Any, path: str, words: list[str]) -> None:
    project.put("trips.csv", HEADER + ROW)
    project.source["path"] = path
    said = project.fails(UserError)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["raw/a.csv is empty"]),
        (HEADER.encode(), ["raw/a.csv has a header and no rows"]),
        (b"\n\n\n", ["raw/a.csv holds blank lines only"]),
        (HEADER.encode() + b"1,2013-01-31,caf\xe9,1\n", ["raw/a.csv line 2 is not UTF-8", "0xe9 at 32"]),
        ((HEADER + ROW).encode("utf-16"), ["raw/a.csv is UTF-16"]),
        ((HEADER + ROW).encode("utf-16-be"), ["raw/a.csv is UTF-16-BE text", "`encoding: utf-16-be`"]),
        ((HEADER + ROW).encode("utf-32"), ["raw/a.csv is UTF-32 text", "`encoding: utf-32`"]),
        (HEADER.encode() + b"1,2013-01-31,\0,1\n", ["raw/a.csv line 2 holds a NUL byte (byte 29)"]),
        (b"id,at,kind,cost,kind\n1,2013-01-31,a,1,b\n", ["column 'kind' is there twice"]),
        (b"id,at,cost\n1,2013-01-31,1\n", ["column 'kind' is missing", "ingest.sources.trips.columns"]),
        (b"id,at,kind,cost,tip\n1,2013-01-31,a,1,2\n", ["column 'tip' is not declared"]),
        (
            b"id,at,kind,costs\n1,2013-01-31,a,1\n",
            ["'cost' (near 'costs') is missing", "'costs' (near 'cost') is not decl"],
        ),
        (b"id;at;kind;cost\n1;2013-01-31;a;1\n", ["separated by ';', not ','"]),
        (b"1,2013-01-31,a,1\n2,2013-01-31,a,1\n", ["is missing", "column '1', '2013-01-31', 'a' is not declared"][:1]),
        (
            HEADER.encode() + b"1,2\n3\n",
            ["no row of raw/a.csv has an event time: line 2", "expected 4 columns, found 2"],
        ),
        (
            HEADER.encode() + b"1,never,a,1\n",
            ["no row of raw/a.csv has an event time: line 2: at never is no timestamp"],
        ),
        (HEADER.encode() + b'1,2013-01-31,"a,1\n2,2013-01-31,b,1\n', ["line 2: a quote opened here is not closed"]),
        (HEADER.encode() + ROW.encode() + b'2,2013-01-31,"a,1\n3,2013-01-31,"b",1\n', ["line 3: a quote opened here"]),
        (
            HEADER.encode() + b'1,2013-01-31,"a\n2,2013-01-31,b",1,2\n',
            ["line 2: a quote opened here closes on line 3 only"],
        ),
        (b'"id,at,kind,cost\n1,2013-01-31,a,1\n', ["line 1: a quote opened here"]),
        (gzip.compress((HEADER + ROW).encode(), mtime=0)[:-6], ["raw/a.csv cannot be unpacked"]),
    ],
)
def test_a_csv_that_cannot_be_used_is_an_error_that_says_where(project: Any, content: bytes, words: list[str]) -> None:
    project.put("a.csv", content)
    said = project.fails(UserError)
    assert all(word in said for word in words), said
    assert project.stored() == []


def test_an_unclosed_quote_deep_in_a_file_swallows_nothing(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_streams, "BLOCK", 1 << 16)
    lines = [f"{number},2013-01-{number % 31 + 1:02d},a,1\n" for number in range(20_000)]
    lines[15_000] = '15000,2013-01-20,"a,1\n'
    project.put("a.csv", HEADER + "".join(lines))
    assert "raw/a.csv line 15002: a quote opened here is not closed" in project.fails(UserError)


def test_a_ragged_line_deep_in_a_file_is_set_aside_alone(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_streams, "BLOCK", 1 << 16)
    lines = [f"{number},2013-01-{number % 31 + 1:02d},a,1\n" for number in range(30_000)]
    lines[25_000] = "25000,2013-01-20,a,1,surplus\n"
    project.put("a.csv", HEADER + "".join(lines))
    (batch,) = project.ingest()["batches"]
    assert (batch["rows"], batch["read"]) == (29_999, 30_000)
    assert project.uncast("2013-01") == [
        (25_002, "raw/a.csv", None, "25000,2013-01-20,a,1,surplus", "expected 4 columns, found 5")
    ]
    assert {row["_row"] - row["id"] for row in project.batch("2013-01")} == {2}


def test_a_quote_that_closes_too_early_costs_only_its_line(project: Any) -> None:
    project.put("a.csv", HEADER + '1,2013-01-31,"a"b,1\n2,2013-01-31,b,1\n')
    project.ingest()
    assert [row["_row"] for row in project.batch("2013-01")] == [3]
    ((row, _, _, value, reason),) = project.uncast("2013-01")
    assert (row, value) == (2, '1,2013-01-31,"a"b,1')
    assert reason.startswith("malformed quotes")


def test_a_column_of_another_type_is_set_aside_row_by_row(project: Any) -> None:
    project.put("a.csv", HEADER + "".join(f"{n},2013-01-{n:02d},a,free\n" for n in range(1, 32)))
    (batch,) = project.ingest()["batches"]
    assert (batch["rows"], batch["uncast"]) == (0, 31)
    assert {reason for *_, reason in project.uncast("2013-01")} == {"is no number"}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"folder/": ""}, "holds 0 files (none)"),
        ({"[Content_Types].xml": "", "xl/workbook.xml": ""}, "is a workbook; save the sheet that is meant as CSV"),
        (
            {"a.csv": HEADER + ROW, "b.csv": HEADER + ROW},
            "holds 2 files (a.csv, b.csv); name the one that is meant (`member`), or unpack it",
        ),
    ],
)
def test_a_zip_must_hold_one_file(project: Any, members: dict[str, str], words: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    project.put("a.csv", stream.getvalue())
    assert words in project.fails(UserError)


def test_a_zip_without_any_member_holds_no_file(project: Any) -> None:
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    project.put("a.csv", b"PK\x03\x04" + stream.getvalue())
    assert "raw/a.csv holds 0 files (none)" in project.fails(UserError)


def _parquet(path: Path, rows: int = 5000, **options: Any) -> bytes:
    table = pa.table(
        {
            "id": pa.array(range(rows)),
            "at": pa.array([f"2013-01-{n % 31 + 1:02d}" for n in range(rows)]),
            "kind": pa.array(["a"] * rows),
            "cost": pa.array([n / 3 for n in range(rows)]),
        }
    )
    pq.write_table(table, path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -8, -1000])
def test_a_truncated_parquet_is_an_error(project: Any, keep: int) -> None:
    project.source["path"] = "raw/a.parquet"
    path = project.put("a.parquet", b"")
    path.write_bytes(_parquet(path)[:keep])
    said = project.fails(UserError)
    assert "raw/a.parquet" in said
    assert project.stored() == []


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.97, 0.995])
def test_a_flipped_bit_in_parquet_with_checksums_is_an_error(project: Any, share: float) -> None:
    project.source["path"] = "raw/a.parquet"
    path = project.put("a.parquet", b"")
    whole = bytearray(_parquet(path, write_page_checksum=True, use_dictionary=False, compression="none"))
    whole[int(len(whole) * share)] ^= 4
    path.write_bytes(whole)
    assert "raw/a.parquet" in project.fails(UserError)


def test_parquet_without_rows_or_with_other_columns_is_an_error(project: Any) -> None:
    project.source["path"] = "raw/a.parquet"
    path = project.put("a.parquet", b"")
    _parquet(path, 0)
    assert "raw/a.parquet has no rows" in project.fails(UserError)
    pq.write_table(pa.table({"id": [1], "at": ["2013-01-31"], "kind": ["a"], "price": [1.0]}), path)
    assert "column 'cost' is missing, and column 'price' is not declared" in project.fails(UserError)


def test_a_file_with_another_digest_than_declared_is_an_error(project: Any) -> None:
    project.put("a.csv", HEADER + ROW)
    project.source["sha256"] = "0" * 64
    assert "ingest.sources.trips.sha256 is 000" in project.fails(UserError)
    project.put("b.csv", HEADER + ROW)
    assert "names one file, raw/*.csv matches 2" in project.fails(UserError)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("bogus(cost)", "Catalog Error: Scalar Function with name bogus does not exist!"),
        ("att", 'Referenced column "att" not found'),
        ('"at" +', "Parser Error"),
        ('max("at")', "Binder Error"),
        ("cost", "DOUBLE"),
        ("kind", "VARCHAR"),
        ('"at"; drop table cast_rows', "Parser Error"),
    ],
)
def test_a_broken_expression_is_an_error_with_its_place_in_params(project: Any, expression: str, words: str) -> None:
    project.put("a.csv", HEADER + ROW)
    project.source["event_time"] = expression
    said = project.fails(UserError)
    assert said.startswith("ingest.sources.trips.event_time: ")
    assert words in said


def test_an_expression_that_fails_on_some_rows_sets_those_aside(project: Any) -> None:
    project.put("a.csv", HEADER + "1,2013-01-31,31/01/2013,1\n2,2013-01-31,soon,1\n")
    project.source["event_time"] = "strptime(kind, '%d/%m/%Y') -- by the day\n"
    project.ingest()
    assert [row["id"] for row in project.batch("2013-01")] == [1]
    assert project.uncast("2013-01") == [(3, "raw/a.csv", "event_time", None, "has no event time")]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": "integer", "at": "timestamp", "": "text"}, "'' is no name for a column"),
        ({"id": "integer", "at": "timestamp", "\ue000row": "text"}, "is no name for a column"),
        ({"id": "integer", "at": "timestamp", "ID": "text"}, "id, ID differ in case only"),
    ],
)
def test_columns_that_could_not_be_stored_are_an_error(project: Any, columns: dict[str, str], words: str) -> None:
    project.put("a.csv", ",".join(columns) + "\n1,2013-01-31,a\n")
    project.source["columns"] = columns
    assert words in project.fails(UserError)


ODD_NAMES = ['a "quoted" name', "semi;colon", "sp ace", "ünïcode", "select", "\U0001f600", "x" * 300]
OUR_NAMES = ["_t0x", "_row", "_Event_Time", "_line", "_fault", "_t0", "c0", "c2", "_faults", "arrived"]


@pytest.mark.parametrize("name", [*ODD_NAMES, *OUR_NAMES])
def test_columns_may_be_named_as_one_likes(project: Any, name: str) -> None:
    header = '"' + name.replace('"', '""') + '"'
    project.put("a.csv", f"id,at,{header}\n1,2013-01-31,a\nx,2013-01-31,b\n")
    project.source["columns"] = {"id": "integer", "at": "timestamp", name: "text"}
    project.ingest()
    assert [row[name] for row in project.batch("2013-01")] == ["a"]
    assert len(project.uncast("2013-01")) == 1


@pytest.mark.parametrize("delimiter", ['"', "\n", "é"])
def test_a_delimiter_that_cannot_be_one_is_an_error(project: Any, delimiter: str) -> None:
    project.put("a.csv", HEADER + ROW)
    project.source["delimiter"] = delimiter
    assert "ingest.sources.trips.delimiter" in project.fails(UserError)


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "^", "]", "-"])
def test_other_delimiters_are_taken(project: Any, delimiter: str) -> None:
    project.source["delimiter"] = delimiter
    text = HEADER + '1,20130131 10:00,"a",1\n2,20130131 11:00,"b",1\n'
    project.source["event_time"] = "strptime(\"at\", '%Y%m%d %H:%M')"
    project.source["columns"] = {**project.source["columns"], "at": "text"}
    project.put("a.csv", text.replace(",", delimiter))
    project.ingest()
    assert [row["kind"] for row in project.batch("2013-01")] == ["a", "b"]
