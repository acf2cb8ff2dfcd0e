"""What `refit init` says of a table: what it understood, what it left out, and what may give the label away."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refit.evaluation.giveaways import COUNTS
from refit.new_project.column_reading import COMMA, MARKS, Column
from refit.new_project.first_look import FirstLook, UnreadCells
from refit.new_project.new_params import is_feature
from refit.new_project.period_reading import holdout_share
from refit.new_project.row_order import SIMILAR
from refit.new_project.table_reading import NULLS, TableReading
from refit.runtime.terminal import say
from refit.schemas.feature_table import Giveaway


@dataclass(frozen=True)
class Description:
    """What has become of a folder."""

    folder: Path
    sentence: str
    notes: tuple[tuple[str, str], ...]  # what each is about, and its text; "" goes on with the note before

    @property
    def next(self) -> str:
        """What to type next.

        >>> [Description(Path(folder), "", ()).next for folder in ("my churn", ".")]
        ["cd 'my churn' && refit run", 'refit run']
        """
        return f"cd {shlex.quote(str(self.folder))} && refit run" if self.folder.parts else "refit run"

    def with_note(self, about: str, text: str) -> Description:
        return replace(self, notes=(*self.notes, (about, text)))

    def print(self) -> None:
        say(f"{self.folder}: {self.sentence}")
        for about, text in (*self.notes, ("next", self.next)):
            say(f"  {about:<7} {text}")

    def to_json(self) -> dict[str, object]:
        """What `refit init --json` prints: each note on one line.

        >>> Description(Path("d"), "a project", (("left", "id: a text,"), ("", "in each row"))).to_json()["notes"]
        [{'about': 'left', 'text': 'id: a text, in each row'}]
        """
        notes = list[dict[str, str]]()
        for about, text in self.notes:
            if about or not notes:
                notes.append({"about": about, "text": text})
            else:
                notes[-1]["text"] += f" {text}"
        return {"folder": str(self.folder), "sentence": self.sentence, "notes": notes, "next": self.next}


def describe(
    folder: Path,
    location: str,
    reading: TableReading,
    seen: FirstLook,
    excluded: Sequence[Giveaway] = (),
) -> Description:
    """Describe the project that was made of a table; `excluded` of the leaks are left out of its features."""
    sentence = f"a project that predicts `{reading.label.name}` ({describe_task(reading)})"
    table, warnings = _describe_table(location, reading), _warnings(reading, seen.label_leaks, excluded)
    return Description(folder, sentence, (*table, *_describe_unread(seen.unread), *warnings))


def _describe_table(location: str, reading: TableReading) -> Iterator[tuple[str, str]]:
    """Describe the inferred roles and the unused columns, as names and texts."""
    yield "rows", describe_rows(reading, location)
    if reading.neighbours >= SIMILAR:
        alike = f"(correlation {reading.neighbours:.2f})"
        yield "order?", f"labels of neighbouring rows are alike {alike}. Are rows in order of a time? Then"
        yield "", "rows drawn from between others are easily guessed, and the figures too good: give rows their"
        yield "", "time in a column (--time), or say by one which of them judge (--split)"
    if skipped := reading.file.skip_lines:
        yield "header", f"line {skipped + 1}; what stands above it is skipped, in each file (skip_lines in params.yaml)"
    if unnamed := ", ".join(map(str, reading.unnamed)):
        yield "left", f"column {unnamed} of the file: without a name"
    if reading.spellings:
        shown = "; ".join(" and ".join(map(repr, texts)) for texts in reading.spellings[:3])
        yield "classes", f"{shown} are different classes, as they are written; to make them one, say"
        yield "", f"lower(trim({reading.label.sql})) for {reading.label.alias} in `cases` of params.yaml"
    if comma := [column for column in reading.columns if column.comma]:
        yield "numbers", f"{_names(comma)}: written with a decimal comma"
    if signed := [column for column in reading.columns if column.number_form and not column.comma]:
        yield "numbers", f"{_names(signed)}: read without their signs and commas; a cell that is written otherwise"
        yield "", "puts its row into quarantine"
    if codes := [column for column in reading.columns if column.code]:
        yield "codes", f"{_names(codes)}: text, since a number would lose leading zeros or digits; to learn from one as"
        yield "", "an amount, say `number` for it in params.yaml"
    yield from _describe_missing(reading)
    if reading.split:
        counts = [f"{count:,} {window}" for window, count in reading.split.rows.items() if count]
        if rest := reading.rows - sum(reading.split.rows.values()):
            counts.append(f"{rest:,} say none and are left out")
        yield "split", f"{reading.split.column.name}: {', '.join(counts)}"
    yield "key", ", ".join(reading.key) or "the line of each row: one that comes again in another file counts twice"
    others = [
        column
        for column in reading.columns
        if column not in (reading.label, reading.time, reading.split and reading.split.column)
        and column.name not in reading.key
    ]
    if reading.series:
        if others:
            yield "left", f"{_names(others)}: Refit's docs/forecasting.md says how to say since when it is known"
        yield "known", "each row at the end of its step; if it comes later, `available_at` in params.yaml says so"
        return
    if unused := [column for column in others if not (column.mixed or is_feature(column, reading))]:
        yield "left", f"{_names(unused)}: a different text in nearly every row; to learn from its words, add it to"
        yield "", "the columns of `cases` in params.yaml, and to featurize.text"
    if text := [column for column in others if column.is_read]:
        yield "read", f"{_names(text)}: its words are learned from (featurize.text)"
    for column in (column for column in others if column.mixed):
        number = f"try_cast(replace({column.sql}, ',', '.') as double)"
        yield (
            "text",
            f"{column.name}: numbers, {column.mixed:,} of them with a decimal comma, which makes it text; as a",
        )
        yield "", f"column of `cases`, {number} is the number"
    if reading.label_delay:
        yield "known", f"the newest rows have no label: labels count as known {reading.label_delay:,} hours after their"
        yield "", "row (featurize.label.delay_hours in params.yaml)"
    elif reading.time:
        yield "known", "each label with its row; if it comes later, set featurize.label.delay_hours in params.yaml"


def _describe_missing(reading: TableReading) -> Iterator[tuple[str, str]]:
    """Describe which unusual texts are read as missing, and which could be."""
    nulls = [text for text in reading.nulls if text not in NULLS]
    if nulls:
        where = [column for column in reading.columns if set(column.marks) & set(nulls)]
        columns = f" in {_names(where)}" if where else ""
        yield "missing", f"{', '.join(map(repr, nulls))}{columns}: read as missing"
    marks = dict.fromkeys(mark for column in reading.columns for mark in column.marks if mark not in nulls)
    for mark in marks:
        where = [column for column in reading.columns if mark in column.marks]
        option = f"--missing {shlex.quote(mark)}"
        yield "missing", f"{mark!r} in {_names(where)}: a category as it stands; {option} reads it as missing"


def _describe_unread(unread: Iterable[UnreadCells]) -> Iterator[tuple[str, str]]:
    """Describe which cells do not fit their column's type, and what to do about them.

    >>> for _, text in _describe_unread([UnreadCells("price", "is no number", "19,41", 3)]):
    ...     print(text)
    price: of 3 rows a value is no number, such as '19,41'; runs put these rows into quarantine:
    correct the file, or read a decimal comma by an expression (Refit's docs/own-table.md)
    """
    for cells in unread:
        example = f", such as {cells.example[:40]!r}" if cells.example else ""
        rows, these = (f"{cells.count:,} rows", "these rows") if cells.count > 1 else ("1 row", "it")
        where = f"{cells.column}: of {rows} a value" if cells.column else f"{rows}: the line"
        yield "unread", f"{where} {cells.reason}{example}; runs put {these} into quarantine:"
        if cells.example.strip().lower() in MARKS:
            yield "", f"if {cells.example!r} means a missing value, add it to `nulls` of the source in params.yaml"
            continue
        if not cells.column:
            yield "", "correct the file, or leave it as it is"
            continue
        is_comma = cells.reason == "is no number" and re.fullmatch(COMMA, cells.example.strip())
        otherwise = "read a decimal comma by an expression" if is_comma else "read the column as text, by an expression"
        yield "", f"correct the file, or {otherwise} (Refit's docs/own-table.md)"


def _warnings(
    reading: TableReading, label_leaks: Sequence[Giveaway], excluded: Sequence[Giveaway]
) -> Iterator[tuple[str, str]]:
    """Warn of columns that may not be known at prediction time, and of times that are read as texts."""
    for column in reading.columns:
        if column.writing and is_feature(column, reading):
            yield "time?", f"{column.name} {column.writing.description()}"
    counters = [column.alias for column in reading.columns if column.counter and is_feature(column, reading)]
    for giveaway in excluded:
        yield "leak", str(giveaway)
    if excluded:
        yield "", "left out: likely known only with the label, or after it. If it is known when predictions are made,"
        yield "", "delete it from featurize.exclude in params.yaml"
    leaks = [*(leak for leak in label_leaks if leak not in excluded), *reading.giveaways]
    leaking = {name for giveaway in leaks for name in giveaway.features}
    leaks += [
        Giveaway(features=(name,), reason=COUNTS) for name in counters if name not in leaking and not reading.series
    ]
    for giveaway in leaks:
        yield "leak?", str(giveaway)
    if leaks and reading.series:
        yield "", "known only together with the label: say of none of them that it is known ahead"
    elif leaks:
        names = dict.fromkeys(name for giveaway in leaks for name in giveaway.features)
        yield "", f"known only with the label or after it? Leave it out: featurize.exclude: [{', '.join(names)}]"


def describe_task(reading: TableReading) -> str:
    """Describe what is predicted."""
    amounts = "; train.task: regression if they are amounts" if reading.label.is_number else ""
    classes = f"one of {reading.label.distinct} classes{amounts}"
    descriptions = {"binary": f"1 = {reading.positive!r}", "multiclass": classes, "regression": "a number"}
    return descriptions[reading.task]


def describe_rows(reading: TableReading, path: str) -> str:
    """Describe the number of rows and their distribution over time."""
    if series := reading.series:
        ahead = ", ".join(map(str, series.horizons))
        season = f", a season of {series.season}" if series.season > 1 else ""
        return f"{reading.rows:,} of {path}: {series.count:,} series in steps of {series.step}{season}; {ahead} ahead"
    if reading.time is None:
        drawn = f"{holdout_share(reading.rows):.0%}"
        return f"{reading.rows:,} of {path}, without a time: {drawn} are drawn to judge models on"
    return f"{reading.rows:,} of {path}, by {reading.period} of `{reading.time.name}`"


def _names(columns: Iterable[Column]) -> str:
    return ", ".join(column.name for column in columns)
