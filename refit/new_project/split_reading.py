"""A column of the table that assigns rows to training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feature_store.sql_text import literal, quote
from refit.errors import UserError
from refit.new_project.column_reading import Column

_WORDS = {
    "train": ("train", "training", "tr", "learn", "learning", "fit"),
    "validation": ("validation", "valid", "validate", "val", "dev", "development", "tune", "tuning"),
    "test": ("test", "testing", "holdout", "hold-out", "hold_out", "eval", "evaluation"),
}
LEAST = 20  # rows that training and test need; with fewer no gate decides


@dataclass(frozen=True)
class GivenSplit:
    """A column that assigns rows to windows, and the rows of each."""

    column: Column
    windows: Mapping[str, str]  # from a text of the column to its window
    rows: Mapping[str, int]  # of each window

    @property
    def sql(self) -> str:
        """SQL of a row's window."""
        cases = " ".join(f"when {literal(text)} then '{window}'" for text, window in self.windows.items())
        return f"case {self.column.sql}::varchar {cases} end"


def read_split(connection: Any, column: Column) -> GivenSplit:
    """Interpret a column's texts as windows.

    Raises:
        UserError: a text names no window, or there are too few rows to train or test on.
    """
    query = (
        f"select {quote(column.name)} as v, count(*) from t where v is not null group by 1 order by 2 desc, 1 limit 20"
    )
    counts: dict[str, int] = dict(connection.execute(query).fetchall())
    window_of = {word: window for window, words in _WORDS.items() for word in words}
    windows = {text: window_of[text.strip().lower()] for text in counts if text.strip().lower() in window_of}
    known_words = "train, validation (or dev) and test (or holdout) are understood"
    if unknown := [text for text in counts if text not in windows]:
        raise UserError(f"--split {column.name}: it holds {', '.join(map(repr, unknown[:3]))}; {known_words}")
    rows = {window: sum(counts[text] for text in windows if windows[text] == window) for window in _WORDS}
    for window in ("train", "test"):
        if rows[window] < LEAST:
            raise UserError(
                f"--split {column.name}: {rows[window]} rows are {window}, {LEAST} are needed at least; {known_words}"
            )
    return GivenSplit(column, windows, rows)
