"""What stands above a header, columns without a name, several spellings of a word: what init makes of them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from refit.config import parse
from refit.new_project.description import describe
from refit.new_project.first_look import FirstLook
from refit.new_project.layout_reading import detect_layout
from refit.new_project.new_params import params_of
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


@pytest.mark.parametrize("texts", [["Yes", "yes", "No"], ["Y", "y", "n", "N"], ["TRUE", "True", "false", "FALSE", "t"]])
def test_spellings_of_yes_and_no_are_two_classes(tmp_path: Path, texts: list[str]) -> None:
    rows = "".join(f"{n};{n % 7};{texts[n % len(texts)]}\n" for n in range(200))
    reading = reading_of(tmp_path, f"id;x;y\n{rows}")
    assert (reading.task, reading.positive.lower()[0] in "yt") == ("binary", True)
    params = parse(params_of("p", reading))
    label = params.ingest.sources["table"].events["cases"].columns["y"]
    shown = {text: duckdb.sql(f"select {label} from (select {text!r}::boolean as y)").fetchall() for text in texts}
    assert shown == {text: [(int(text.lower()[0] in "yt"),)] for text in texts}


def test_classes_that_differ_in_case_or_spaces_only_are_named(tmp_path: Path) -> None:
    texts = ["gold", "Gold", "silver", "silver ", "bronze"]
    rows = "".join(f"{n};{n % 7};{texts[n % 5]}\n" for n in range(200))
    reading = reading_of(tmp_path, f"id;x;y\n{rows}")
    (told,) = [text for about, text in notes_of(tmp_path, reading) if about == "classes"]
    assert told.startswith("'Gold' and 'gold'; 'silver' and 'silver ' are different classes, as they are written")
    plain = "".join(f"{n};{n % 7};{'abc'[n % 3]}\n" for n in range(200))
    assert not [
        about for about, _ in notes_of(tmp_path, reading_of(tmp_path, f"id;x;y\n{plain}")) if about == "classes"
    ]
