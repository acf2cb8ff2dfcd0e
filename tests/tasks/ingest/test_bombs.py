"""Small files that stand for large ones: refused in one line that names the limit, before they cost memory or time."""

from __future__ import annotations

import bz2
import gzip
import io
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quick import quick

from refit.errors import UserError
from refit.sources import csv_files, limits, text_streams
from refit.sources.limits import Limits

HEADER = b"id,at,kind,cost\n"
MB = 1 << 20


def gzip_of(pieces: list[tuple[bytes, int]]) -> bytes:
    """A gzip of pieces that repeat, without ever holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = [packer.compress(piece) for piece, times in pieces for _ in range(times)]
    return b"".join([*packed, packer.flush()])


def zip_of(content: bytes, method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.csv", content)
    return buffer.getvalue()


@pytest.fixture
def project(project: Any) -> Any:
    project.zone = "UTC"
    return project


LONG = [(HEADER, 1), (b"7" * MB, 100)]
BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip without line ends": lambda: gzip_of(LONG),
    "gzip of gzip": lambda: gzip.compress(gzip_of(LONG)),
    "zip without line ends": lambda: zip_of(HEADER + b"7" * (40 * MB), zipfile.ZIP_DEFLATED),
    "zip with bzip2": lambda: zip_of(HEADER + b"7" * (40 * MB), zipfile.ZIP_BZIP2),
    "zip with lzma": lambda: zip_of(HEADER + b"7" * (40 * MB), zipfile.ZIP_LZMA),
    "a header without an end": lambda: gzip_of([(b"a," * (MB // 2), 20)]),
    "a quote that stays open": lambda: gzip_of([(HEADER + b'1,2013-01-31,"', 1), ((b"a" * 500 + b"\n") * 2000, 20)]),
    "plain text without line ends": lambda: HEADER + b"7" * (17 * MB),
}
WORDS = {"gzip of gzip": "is gzip data where text was expected"}


@pytest.mark.parametrize("name", quick(BOMBS, 0, 1, 2))
def test_a_line_that_never_ends_is_refused_by_its_limit(project: Any, name: str) -> None:
    project.put("a.csv", BOMBS[name]())
    said = project.fails(UserError)
    wanted = WORDS.get(name, "longer than 16 MB; correct the file, or raise ingest.sources.trips.max_line_mb in params")
    assert said.startswith("raw/a.csv")
    assert wanted in said
    assert project.stored() == []


def test_a_line_as_long_as_params_allow_is_read(project: Any) -> None:
    project.put("a.csv", HEADER + b"1,2013-01-31," + b"a" * (2 * MB) + b",1\n2,2013-01-31,a,1\n")
    project.source["max_line_mb"] = 1.5
    assert "longer than 1.5 MB" in project.fails(UserError)
    project.source["max_line_mb"] = 3
    assert project.ingest()["batches"][0]["rows"] == 2


def test_a_file_that_unpacks_to_many_times_its_size_is_refused(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_SMALL", 4 * MB)
    project.put("a.csv", gzip_of([(HEADER, 1), (b"1,2013-01-31,a,1\n" * 65536, 8)]))
    assert "more than 200 times its" in project.fails(UserError)
    assert "raise ingest.sources.trips.max_unpacked_ratio" in project.fails(UserError)
    project.source["max_unpacked_ratio"] = 5000
    project.source["max_unpacked_gb"] = 0.005
    assert "unpacks to more than 0.005 GB; split the file, or raise ingest.sources.trips.max_unpacked_gb" in (
        project.fails(UserError)
    )


@pytest.mark.slow
def test_reading_a_bomb_takes_little_memory_and_time_that_grows_with_its_size_alone(tmp_path: Path) -> None:
    """Measured in a process of its own: a hundred times the limit costs no more than the limit."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from refit.errors import UserError; from refit.sources.csv_files import CsvFile, read\n"
        "import pyarrow.csv\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: list(read(CsvFile(Path(sys.argv[1]), 'a'), ['id'], lambda names: None))\n"
        "except UserError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    path = tmp_path / "a.csv"
    path.write_bytes(gzip_of([(HEADER, 1), (b"7" * MB, 400)]))
    assert path.stat().st_size < 500_000
    said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    message, megabytes = said.stdout.splitlines()
    assert "longer than 16 MB" in message
    assert int(megabytes) < 150


def test_lines_are_cut_in_time_that_grows_with_their_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are joined once: the bytes copied are counted, not the seconds."""
    monkeypatch.setattr(text_streams, "BLOCK", 1 << 10)
    for mark in (b"\n", b"\r"):
        text = (b"a" * 100 + mark) * 1000
        blocks = list(text_streams.whole_lines(io.BytesIO(text)))
        assert b"".join(blocks) == text
        assert max(map(len, blocks)) < 3 << 10


@pytest.mark.slow
def test_many_bad_lines_are_given_out_in_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + (b"," * (4 * MB) + b"\n") * 12)
    batches = csv_files.read(csv_files.CsvFile(path, "a.csv"), ["id"], lambda names: None)
    assert max(batch.nbytes for batch in batches) < 50 * MB


def test_a_header_of_very_many_columns_is_refused_in_a_moment(project: Any) -> None:
    project.put("a.csv", ",".join(f"column_{number}" for number in range(200_000)) + "\n1\n")
    said = project.fails(UserError)
    assert "is missing" in said
    assert "and 199995 more is not declared" in said


def parquet(path: Path, **columns: Any) -> None:
    count = len(next(iter(columns.values())))
    usual = {"id": pa.array(range(count)), "at": pa.array(["2013-01-31"] * count), "kind": pa.array(["a"] * count)}
    pq.write_table(pa.table({**usual, "cost": pa.array([1.0] * count), **columns}), path, compression="zstd")


def test_a_parquet_value_that_repeats_is_counted_as_often_as_it_stands(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One long value in a dictionary and a run of references to it: kilobytes that stand for a gigabyte."""
    monkeypatch.setattr(limits, "_SMALL", 4 * MB)
    project.source["path"] = "raw/a.parquet"
    kinds = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["a" * 50_000]))
    parquet(project.put("a.parquet", b""), kind=kinds)
    assert "raw/a.parquet unpacks to more than 200 times its" in project.fails(UserError)


def test_a_parquet_value_longer_than_a_line_may_be_is_refused(project: Any) -> None:
    project.source["path"] = "raw/a.parquet"
    parquet(project.put("a.parquet", b""), kind=pa.array(["a" * (17 * MB)]))
    assert "a value of column 'kind' is longer than 16 MB" in project.fails(UserError)


def test_values_that_repeat_in_parquet_are_read_as_they_are(project: Any) -> None:
    project.source["path"] = "raw/a.parquet"
    parquet(project.put("a.parquet", b""), kind=pa.array(["a", None, "b", "a"]).dictionary_encode())
    project.ingest()
    assert [row["kind"] for row in project.batch("2013-01")] == ["a", None, "b", "a"]


@pytest.mark.parametrize("depth", [40, 5000])
def test_types_that_nest_deep_are_refused_before_a_library_reads_them(project: Any, depth: int) -> None:
    """The C++ reader overflows its stack, and takes the process with it."""
    kind: Any = pa.int64()
    for _ in range(depth):
        kind = pa.struct([("a", kind)])
    project.source["path"] = "raw/a.parquet"
    pq.write_metadata(pa.schema([("x", kind)]), project.put("a.parquet", b""), store_schema=False)
    assert f"nests its types {depth + 1:,} deep, at most 32 are read" in project.fails(UserError)


def test_a_parquet_footer_of_very_many_columns_is_refused_unread(project: Any) -> None:
    project.source |= {"path": "raw/a.parquet", "max_line_mb": 1}
    schema = pa.schema([(f"a column with a long name, number {number}", pa.int8()) for number in range(20_000)])
    pq.write_metadata(schema, project.put("a.parquet", b""))
    assert "its footer is longer than 1 MB" in project.fails(UserError)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (bz2.compress(HEADER * 9), "bzip2"),
        (b"\xfd7zXZ\x00" + bytes(40), "xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "Zstandard"),
        (b"ARROW1\x00\x00" + bytes(40), "Arrow"),
        (b"Obj\x01" + bytes(40), "Avro"),
        (b"SQLite format 3\x00" + bytes(40), "SQLite"),
        (gzip.compress(b"a.csv" + bytes(252) + b"ustar" + bytes(250)), "tar"),
    ],
    ids=["bzip2", "xz", "zstd", "arrow", "avro", "sqlite", "tar"],
)
def test_data_of_a_kind_that_is_not_read_is_named(project: Any, content: bytes, kind: str) -> None:
    project.put("a.csv", content)
    assert f"raw/a.csv is {kind} data where text was expected" in project.fails(UserError)


def test_a_text_that_begins_like_an_archive_is_read(project: Any) -> None:
    project.source["columns"] = {"BZh": "integer", "at": "timestamp", "kind": "text"}
    project.source |= {"key": ["BZh"], "required": []}
    project.put("a.csv", "BZh,at,kind\n1,2013-01-31,a\n")
    assert project.ingest()["batches"][0]["rows"] == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_is_an_error_that_says_so(project: Any, method: int) -> None:
    whole = zip_of(HEADER + b"".join(b"%d,2013-01-31,a,1\n" % number for number in range(5000)), method)
    for place in range(60, len(whole) - 100, len(whole) // 5):
        project.put(
            "a.csv", whole[:place] + bytes(byte ^ 0x5A for byte in whole[place : place + 4]) + whole[place + 4 :]
        )
        assert "cannot be unpacked" in project.fails(UserError)


def test_limits_say_nothing_of_params_where_there_are_none() -> None:
    with pytest.raises(UserError, match=r"longer than 16 MB; correct the file$"):
        Limits().check_line("a.csv", 17 * MB, "line 1")
