"""`refit init` says which cells a run could not read, before the run puts their rows into quarantine."""

from __future__ import annotations

from pathlib import Path

import pytest

from refit.new_project.project_folder import create


@pytest.mark.parametrize(
    ("every", "notes"),
    [
        (200, ["unread  price: of 2 rows a value is no number, such as '9,5'; runs put these rows into quarantine"]),
        (40, ["price: numbers, 10 of them with a decimal comma", "try_cast(replace(price, ',', '.') as double)"]),
    ],
)
def test_numbers_with_a_decimal_comma_among_others_are_counted_with_what_to_do(
    every: int, notes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = [f'"{n * 37 % 397 + 9},5"' if n % every == 0 else f"{n * 37 % 397 + 9}.5" for n in range(400)]
    lines = ["id,price,size,bought", *(f"a{n},{price},{n % 7},{n * n % 3 % 2}" for n, price in enumerate(prices))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="bought", key=("id",)).print()
    said = capsys.readouterr().out
    assert [note for note in notes if note not in said] == []
    assert "a different text in nearly every row" not in said, "they are numbers"
