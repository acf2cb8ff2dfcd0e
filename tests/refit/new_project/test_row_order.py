"""A table without a time whose rows are in order of one is not split at random without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from refit.new_project.description import describe
from refit.new_project.first_look import FirstLook
from refit.new_project.table_reading import Hints, read_table

ROWS = 900


def noise(n: int) -> int:
    """Digits that follow no order."""
    return (n * 7919 + n * n * 104729) % 1009


def about_order(tmp_path: Path, labels: list[str], *, split: str | None = None) -> list[str]:
    """The lines of `refit init` from `order?` on, up to the next note."""
    path = tmp_path / "t.csv"
    rows = [f"{noise(n)},{['dev', 'test', 'train', 'train'][n % 4]},{label}" for n, label in enumerate(labels)]
    path.write_text("\n".join(["x,part,y", *rows]) + "\n")
    notes = describe(
        tmp_path,
        path.name,
        read_table(path, key=(), time=None, label="y", hints=Hints(split=split)),
        FirstLook({}, (), ()),
    ).notes
    return [text for about, text in notes if about == "order?"]


@pytest.mark.parametrize(
    "labels",
    [
        ["up" if n // 6 % 2 else "down" for n in range(ROWS)],
        [["red", "green", "blue"][n // 5 % 3] for n in range(ROWS)],
        [f"{100 * (n // 30 % 7) + noise(n) / 11:.2f}" for n in range(ROWS)],
    ],
    ids=["two", "three", "numbers"],
)
def test_neighbours_with_similar_labels_are_told(tmp_path: Path, labels: list[str]) -> None:
    (line,) = about_order(tmp_path, labels)
    assert "labels of neighbouring rows are alike (correlation 0." in line
    assert about_order(tmp_path, labels, split="part") == [], "who named a split has decided"


@pytest.mark.parametrize(
    "labels",
    [
        ["up" if noise(n) % 2 else "down" for n in range(ROWS)],
        [str(noise(n) / 11) for n in range(ROWS)],
        ["up" if n < 450 else "down" for n in range(ROWS)],
        [["red", "green", "blue"][n // 300] for n in range(ROWS)],
        [str(n / 7) for n in range(ROWS)],
    ],
    ids=["unordered", "unordered numbers", "sorted", "grouped", "sorted numbers"],
)
def test_rows_in_no_order_or_sorted_by_their_label_are_not(tmp_path: Path, labels: list[str]) -> None:
    assert about_order(tmp_path, labels) == []
