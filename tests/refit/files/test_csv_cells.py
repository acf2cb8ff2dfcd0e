"""No cell that Refit writes is a formula of a spreadsheet's, no number is harmed, and what was written is read back."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pyarrow as pa
import pytest

from refit.files.csv_cells import WRITTEN_BY_REFIT, escaped
from refit.reports.drawing import write_csv
from refit.sources import csv_files
from tasks.score import _write

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "-", "--", "+", "=", "-x"]
PLAIN = ["-3.5", "+2", "-1e-5", "-.5", "a=b", "a-b", "", "'", "'quoted'", "x\ty", "'=1", "''+1", " =1", 'Zoë, "x"']


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_written_as_text(text: str, tmp_path: Path) -> None:
    assert escaped(text) == f"'{text}"
    write_csv(tmp_path / "plot.csv", ("class", "score"), [(text, -3.5)])
    with (tmp_path / "plot.csv").open(newline="") as file:
        ((_, _), (shown, number)) = csv.reader(file)
    assert not re.match(r"[=+\-@\t\r＝]", shown), "and a control character is shown, not written"
    assert number == "-3.5"


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    texts = [*FORMULAS, *PLAIN]
    others = {name: ["x"] * len(texts) for name in WRITTEN_BY_REFIT}
    numbers = [-3.5 * place for place in range(len(texts))]
    path = tmp_path / "scores.csv"
    _write(path, pa.table({"key": texts, "prediction": numbers, **others}))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, number in zip(rows, numbers, strict=True):
        assert not row["key"].startswith(("=", "@", "\t", "\r", "＝")), row
        assert float(row["prediction"]) == number
    file = csv_files.CsvFile(path, path.name)
    read = pa.Table.from_batches(list(csv_files.read(file, ["key", "prediction"], lambda _: None)))
    assert read["key"].to_pylist() == texts
    assert [float(text) for text in read["prediction"].to_pylist()] == numbers


def test_a_file_of_somebody_else_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("key,model\n'=1,x\n=1,y\n")
    (batch,) = csv_files.read(csv_files.CsvFile(path, path.name), ["key"], lambda _: None)
    assert batch.column("key").to_pylist() == ["'=1", "=1"]
