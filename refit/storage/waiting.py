"""Rows whose event time was in the future when they were read; they join a batch once that time has passed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refit.schemas.manifest import Manifest, Ranges
from refit.storage.batches import FUTURE

if TYPE_CHECKING:
    import duckdb

TABLE = "waiting_rows"


def load(connection: duckdb.DuckDBPyConnection, project: Path, stored: Sequence[Manifest]) -> None:
    """Create the table of waiting rows: their batch, number, event time, and rank among rows of the same event time.

    A row is recognised by its event time, whatever its file is named now and wherever it is in the file.
    """
    run = connection.execute
    run("create or replace temp table all_waiting (batch varchar, line bigint, moment timestamp)")
    for batch in stored:
        if (uncast := batch.uncast_table(project)) is not None:
            connection.register("part", uncast)
            run(
                'insert into all_waiting select $batch, _row, any_value(try_cast("value" as timestamp)) from part '
                "where reason = $reason group by _row",
                {"batch": batch.name, "reason": FUTURE},
            )
            connection.unregister("part")
    for batch_name, ranges in taken_rows(stored).items():
        for first, last in ranges:
            run("delete from all_waiting where batch = ? and line between ? and ?", [batch_name, first, last])
    run(
        f"create or replace temp table {TABLE} as "
        "select *, row_number() over (partition by moment order by batch, line) as nth from all_waiting"
    )


def take(connection: duckdb.DuckDBPyConnection, here: str) -> dict[str, Ranges]:
    """Remove the waiting rows that are in the relation `here` from the table, and return them by batch."""
    matches = connection.execute(
        f"delete from {TABLE} w using (select _event_time as moment, row_number() over "
        f"(partition by _event_time order by _file, _line) as nth from {here} where _event_time is not null) h "
        "where w.moment = h.moment and w.nth = h.nth returning w.batch, w.line"
    ).fetchall()
    rows = defaultdict(list)
    for batch, row in matches:
        rows[batch].append(row)
    return {batch: ranges(numbers) for batch, numbers in sorted(rows.items())}


def taken_rows(stored: Iterable[Manifest]) -> Mapping[str, Ranges]:
    """The rows of each batch that waited in it and were moved to later batches."""
    spans: dict[str, Ranges] = {}
    for batch in stored:
        for name, rows in batch.waited.items():
            spans[name] = tuple(sorted((*spans.get(name, ()), *rows)))
    return spans


def ranges(numbers: Iterable[int]) -> Ranges:
    """Group numbers into spans of consecutive numbers, both ends included.

    >>> ranges([7, 3, 4, 5])
    ((3, 5), (7, 7))
    """
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return tuple(spans)


def count(spans: Ranges) -> int:
    """The number of values in some spans.

    >>> count(((3, 5), (7, 7)))
    4
    """
    return sum(last - first + 1 for first, last in spans)
