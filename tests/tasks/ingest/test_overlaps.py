"""Exports that overlap, and clocks that stood behind: each row counts once, however many visits it took to read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refit.errors import UserError
from refit.files.artifacts import VALIDATED, read_json
from tasks import validate

Month = Callable[..., str]
HEADER = "id,at,kind,cost\n"


def line(number: int, *, cost: str = "1", month: int = 1) -> str:
    moment = datetime(2013, month, 1, 12) + timedelta(hours=3 * number)  # noqa: DTZ001 - written without a zone: UTC
    return f"{number},{moment:%Y-%m-%d %H:%M},{'ab'[number % 2]},{cost}\n"


def export(numbers: Sequence[int], **other: Any) -> str:
    return HEADER + "".join(line(number, **other) for number in numbers)


def accepted(project: Any) -> list[tuple[Any, ...]]:
    """The rows of all batches without where they stood, and how many did not cast."""
    rows = [row for name in project.stored() for row in project.batch(name)]
    return sorted((row["id"], row["at"], row["kind"], row["cost"]) for row in rows)


def totals(project: Any) -> dict[str, int]:
    project.ingest()
    validate.run(project.context())
    found: dict[str, int] = read_json(project.path / VALIDATED)["rows"]
    return found


def fresh(project: Any, name: str) -> Any:
    project.zone = "UTC"
    other = type(project)(project.path / name, zone="UTC")
    other.path.mkdir(parents=True)
    other.as_of("2013-02-01")
    return other


@pytest.mark.slow
def test_overlapping_exports_give_the_same_totals_at_once_and_one_after_the_other(project: Any) -> None:
    parts = {"a.csv": range(50), "b.csv": range(40, 70), "c.csv": range(45, 90)}
    results = []
    for order in [(tuple(parts),), (("a.csv",), ("b.csv",), ("c.csv",)), (("c.csv",), ("b.csv", "a.csv"))]:
        other = fresh(project, f"p{len(results)}")
        for names in order:
            for name in names:
                other.put(name, export(parts[name]))
            found = totals(other)
        results.append((found, accepted(other)))
    assert results[0][0] == {"read": 90, "accepted": 90, "quarantined": 0, "pending": 0}
    assert all(result == results[0] for result in results)


def test_rows_that_a_query_computes_are_not_counted_as_read_once_more(project: Any) -> None:
    other = fresh(project, "p")
    other.put("a.csv", export(range(20)))
    other.others["kinds"] = {
        "kind": "query",
        "query": 'select kind, max("at") as at, count(*) as trips from trips group by kind',
        "columns": {"kind": "text", "at": "timestamp", "trips": "integer"},
        "key": ["kind"],
        "event_time": "at",
    }
    assert totals(other) == {"read": 20, "accepted": 20, "quarantined": 0, "pending": 0}
    assert {batch["source"] for batch in read_json(other.path / VALIDATED)["batches"]} == {"kinds", "trips"}


def test_rows_that_repeat_others_are_said_and_counted_once(project: Any) -> None:
    other = fresh(project, "p")
    other.put("a.csv", export([*range(20), 3, 4]))
    other.put("b.csv", export(range(15, 30)))
    assert totals(other)["read"] == 30
    assert "trips: rows that equal another one, each counted once: 7" in other.said
    (batch,) = read_json(other.path / VALIDATED)["batches"]
    assert "rows that equal another one, each counted once: 7" in batch["warnings"]
    other.put("c.csv", export(range(25, 40)))
    assert totals(other)["read"] == 40
    assert "trips: rows that equal another one, each counted once: 5" in other.said
    batch = read_json(other.path / VALIDATED)["batches"][1]
    assert "rows that equal another one, each counted once: 5" in batch["warnings"]


@pytest.mark.parametrize("together", [True, False])
def test_two_files_that_differ_under_one_key_are_refused_at_once_and_one_after_the_other(
    project: Any, together: bool
) -> None:
    other = fresh(project, "p")
    other.put("a.csv", export(range(20)))
    if not together:
        other.ingest()
    other.put("b.csv", export(range(10, 30)).replace(line(12), line(12, cost="7")))
    said = other.fails(UserError)
    assert "raw/b.csv line 4" in said
    if together:
        assert "raw/a.csv line 14 differ and have one key (id 12), as have 1 in all" in said
        assert other.stored() == []
    else:
        assert "has changed" in said


@pytest.mark.slow
def test_a_bad_line_counts_once_in_overlapping_files_and_twice_where_one_file_has_it_twice(project: Any) -> None:
    bad = line(8, cost="much")
    a, b = export(range(8)) + bad + bad, HEADER + line(7) + bad + line(9) + line(10)
    for number, visits in enumerate(([("a.csv", a), ("b.csv", b)], [("a.csv", a)], [("b.csv", b)])):
        other = fresh(project, f"p{number}")
        for name, text in visits:
            other.put(name, text)
        other.ingest()
        other.put("a.csv", a)
        other.put("b.csv", b)
        batches = other.ingest()["batches"]
        assert (sum(batch["rows"] for batch in batches), sum(batch["uncast"] for batch in batches)) == (10, 2)


def test_rows_of_a_static_table_that_stands_in_two_files_count_once(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.others["kinds"] = {"kind": "files", "path": "kinds-*.csv", "columns": {"kind": "text"}, "key": ["kind"]}
    (project.path / "kinds-1.csv").write_text("kind\na\nb\n")
    project.ingest()
    (project.path / "kinds-2.csv").write_text("kind\nb\n")
    assert [batch["name"] for batch in project.ingest()["batches"]][-1] == "v1"
    (project.path / "kinds-2.csv").write_text("kind\nb\nc\n")
    project.ingest()
    assert [row["kind"] for row in project.batch("v2", "kinds")] == ["a", "b", "c"]


def visits_of(files: Sequence[int], cuts: Sequence[int]) -> list[list[int]]:
    edges = sorted({0, len(files), *(cut % (len(files) + 1) for cut in cuts)})
    return [list(files[start:end]) for start, end in pairwise(edges)]


def check_any_split(project: Any, tmp_path: Path, draws: int) -> None:
    counter = iter(range(10**9))
    spans = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=2, max_size=4)

    @settings(max_examples=draws, deadline=None, derandomize=True, database=None)
    @given(spans=spans, data=st.data())
    def check(spans: list[tuple[int, int]], data: st.DataObject) -> None:
        texts = [
            HEADER + "".join(line(n, cost="much" if n % 11 == 5 else "1") for n in range(start, start + length))
            + line(start, cost="much" if start % 11 == 5 else "1") * (length % 2)
            for start, length in spans
        ]  # fmt: skip
        at_once = fresh(project, f"s{next(counter)}")
        for number, text in enumerate(texts):
            at_once.put(f"{number}.csv", text)
        expected = sum(batch["rows"] for batch in at_once.ingest()["batches"])
        order = data.draw(st.permutations(range(len(texts))))
        split = fresh(project, f"s{next(counter)}")
        for visit in visits_of(order, data.draw(st.lists(st.integers(0, 4), max_size=3))):
            for number in visit:
                split.put(f"{number}.csv", texts[number])
            batches = split.ingest()["batches"]
        assert accepted(split) == accepted(at_once)
        assert sum(batch["rows"] for batch in batches) == expected == len(accepted(at_once))
        once = {n for start, length in spans for n in range(start, start + length) if n % 11 != 5}
        assert [row[0] for row in accepted(split)] == sorted(once)

    check()


@pytest.mark.ci
def test_any_split_of_the_same_files_over_visits_gives_the_same_rows(project: Any, tmp_path: Path) -> None:
    check_any_split(project, tmp_path, 4)


@pytest.mark.slow
def test_many_splits_of_the_same_files_over_visits_give_the_same_rows(project: Any, tmp_path: Path) -> None:
    check_any_split(project, tmp_path, 300)


def test_rows_read_while_the_clock_stood_behind_count_once(project: Any) -> None:
    other = fresh(project, "p")
    other.put("a.csv", export(range(150)) + "".join(line(n, month=2) for n in range(150, 170)) + "x,2013-01-02,a,1\n")
    other.now = datetime(2013, 1, 10, tzinfo=UTC)
    other.as_of("2013-01-11")
    waiting = totals(other)
    assert waiting["read"] == 171
    assert waiting["quarantined"] > 90
    other.now = datetime(2020, 1, 1, tzinfo=UTC)
    other.as_of("2013-02-01")
    assert totals(other) == {"read": 171, "accepted": 150, "quarantined": 1, "pending": 20}
    batches = read_json(other.path / VALIDATED)["batches"]
    assert all(batch["read"] == batch["accepted"] + batch["quarantined"] for batch in batches)
    (other.path / ".refit/ingest.json").unlink()
    assert totals(other)["read"] == 171


@pytest.mark.slow
def test_a_row_that_still_waits_is_counted_where_it_waits(project: Any) -> None:
    other = fresh(project, "p")
    other.put("a.csv", export(range(30)))
    counts = []
    for day in (2, 3, 4, 9):
        other.now = datetime(2013, 1, day, tzinfo=UTC)
        found = totals(other)
        counts.append((found["accepted"], found["quarantined"], found["read"]))
    assert counts == [(5, 25, 30), (13, 17, 30), (21, 9, 30), (30, 0, 30)]
