"""A column of the table that says which rows are to learn from and which to judge on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feature_store.compile import literal, quote
from refit.errors import UserError
from refit.new_project.column_reading import Column

_WORDS = {
    "train": ("train", "training", "tr", "learn", "learning", "fit"),
    "validation": ("validation", "valid", "validate", "val", "dev", "development", "tune", "tuning"),
    "test": ("test", "testing", "holdout", "hold-out", "hold_out", "eval", "evaluation"),
}
LEAST = 20  # rows to judge on, or no gate decides


@dataclass(frozen=True)
class GivenSplit:
    """How many rows a column puts into each window."""

    column: Column
    windows: Mapping[str, str]  # a text of the column -> the window that it means
    rows: Mapping[str, int]  # of each window

    @property
    def sql(self) -> str:
        """SQL of a row's window."""
        cases = " ".join(f"when {literal(text)} then '{window}'" for text, window in self.windows.items())
        return f"case {self.column.sql}::varchar {cases} end"


def read_split(connection: Any, column: Column) -> GivenSplit:
    """Take a column's texts for windows.

    Raises:
        UserError: one of them is no word for a window, or there is nothing to learn from or to judge on.
    """
    query = (
        f"select {quote(column.name)} as v, count(*) from t where v is not null group by 1 order by 2 desc, 1 limit 20"
    )
    found: dict[str, int] = dict(connection.execute(query).fetchall())
    meant = {word: window for window, words in _WORDS.items() for word in words}
    windows = {text: meant[text.strip().lower()] for text in found if text.strip().lower() in meant}
    understood = "train, validation (or dev) and test (or holdout) are understood"
    if odd := [text for text in found if text not in windows]:
        raise UserError(f"--split {column.name}: it holds {', '.join(map(repr, odd[:3]))}; {understood}")
    rows = {window: sum(found[text] for text in windows if windows[text] == window) for window in _WORDS}
    for window in ("train", "test"):
        if rows[window] < LEAST:
            raise UserError(
                f"--split {column.name}: {rows[window]} rows are {window}, {LEAST} are needed at least; {understood}"
            )
    return GivenSplit(column, windows, rows)
