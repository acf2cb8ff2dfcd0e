"""What stands above a header, and columns without a name, are no part of a table; init says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from refit.new_project.description import describe
from refit.new_project.first_look import FirstLook
from refit.new_project.layout_reading import detect_layout
from refit.new_project.table_reading import TableReading, read_table

ROWS = "".join(f"{n};{n % 7};{'yes' if n % 3 else 'no'}\n" for n in range(200))


def reading_of(tmp_path: Path, content: str) -> TableReading:
    (tmp_path / "t.csv").write_text(content)
    return read_table(tmp_path / "t.csv", key=(), time=None, label="y")


def notes_of(tmp_path: Path, reading: TableReading) -> list[tuple[str, str]]:
    return list(describe(tmp_path, "t.csv", reading, FirstLook({}, (), ())).notes)


@pytest.mark.parametrize(
    ("above", "skipped"),
    [
        ("", 0),
        ("Orders of June\n", 1),
        ("Orders of June;;\n;;\n", 2),
        ("Orders, returns and refunds\n\nfor all shops\n\n", 4),
        ("# exported\n# on Monday\n", 2),
        ("\n\n", 2),
    ],
)
def test_lines_above_the_header_are_skipped_and_told(tmp_path: Path, above: str, skipped: int) -> None:
    reading = reading_of(tmp_path, f"{above}id;x;y\n{ROWS}")
    assert (reading.rows, [column.name for column in reading.columns]) == (200, ["id", "x", "y"])
    assert reading.file.skip_lines == skipped
    told = [text for about, text in notes_of(tmp_path, reading) if about == "header"]
    assert told == [
        f"line {skipped + 1}; what stands above it is skipped, in each file (skip_lines in params.yaml)"
    ] * (skipped > 0)


@pytest.mark.parametrize(
    "content",
    ["text\nwell, well\nno\n", "id,text\n1,oh, well, well\n2,no, never, no\n", "a\n1\n2\n", "a;b\n1;2\n", "one\n"],
)
def test_what_may_be_a_header_is_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert detect_layout(tmp_path / "t.csv", "utf-8").skip_lines == 0


def test_columns_without_a_name_are_passed_over_and_told(tmp_path: Path) -> None:
    numbered = "".join(f"{n};{row};\n" for n, row in enumerate(ROWS.splitlines()))
    reading = reading_of(tmp_path, f";id;x;y; \n{numbered}")
    assert [column.name for column in reading.columns] == ["id", "x", "y"]
    assert ("left", "column 1, 5 of the file: without a name") in notes_of(tmp_path, reading)
