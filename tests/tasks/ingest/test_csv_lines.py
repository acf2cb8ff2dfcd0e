"""The fast and the careful reader of CSV are one reader: same rows, same lines, same complaints."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refit.errors import UserError
from refit.sources import csv_files, text_streams
from refit.sources.csv_files import CsvFile

Row = tuple[int, str | None, tuple[str | None, ...]]


def _rows(path: Path, monkeypatch: pytest.MonkeyPatch, *, careful: bool) -> list[Row] | str:
    with monkeypatch.context() as patched:
        if careful:
            patched.setattr(csv_files, "_is_plain", lambda *_: False)
        try:
            batches = list(csv_files.read(CsvFile(path, "x.csv"), ["a", "b"], lambda header: None))
        except UserError as error:
            return str(error)
        return [
            (line, text, tuple(values))
            for batch in batches
            for line, _, text, *values in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]


@pytest.mark.ci
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet='x1,"\n\r ', min_size=1, max_size=40), st.sampled_from([4, 16, 1 << 20]))
@example('"x",1\n', 16)
@example('"""x""",1\n,\n', 16)
@example('x"x,1\n"x"x,1\n', 16)
@example('"a\nb",1\nx\n2,3', 16)
@example('"x,"1\n",1\n2,3\n', 16)
@example("x,1\r2,3\r", 16)
@example("x,1\n\n2,3\n\n\n", 64)
@example("x,1\n2,3\n\n\n", 8)
@example("\r\r\n,", 16)
@example("\n,", 4)
def test_the_fast_reader_gives_what_the_careful_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, block: int
) -> None:
    monkeypatch.setattr(text_streams, "BLOCK", block)
    path = tmp_path / "x.csv"
    path.write_bytes(("a,b\n" + text).encode())
    assert _rows(path, monkeypatch, careful=False) == _rows(path, monkeypatch, careful=True)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text("xé,\"\n\r '", max_size=6), st.text('x,"\n\r;', min_size=1, max_size=6)), min_size=1))
def test_what_was_written_comes_back_with_the_line_it_starts_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, str]]
) -> None:
    path, stream = tmp_path / "x.csv", io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b"])
    expected = []
    for row in rows:
        before = stream.getvalue().replace("\r\n", "\n").replace("\r", "\n")
        expected.append((before.count("\n") + 1, None, row))
        writer.writerow(row)
    path.write_bytes(stream.getvalue().encode())
    assert _rows(path, monkeypatch, careful=False) == expected


def test_the_careful_reader_goes_on_where_the_fast_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_streams, "BLOCK", 64)
    monkeypatch.setattr(csv_files, "_ROWS", 7)
    path = tmp_path / "x.csv"
    lines = [f"{n},{n}\n" for n in range(100)]
    lines[60] = "60\n"
    path.write_text("a,b\n" + "".join(lines))
    rows = _rows(path, monkeypatch, careful=False)
    assert [row[0] for row in rows] == list(range(2, 102))
    assert [row[1] for row in rows if isinstance(row, tuple) and row[1]] == ["60"]
