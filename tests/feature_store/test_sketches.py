"""Sketches: counts that add up, however rows are divided, in any order, on any number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import sketches
from feature_store.errors import DefinitionError
from feature_store.sketches import Categories, Layout, Numbers, Sketch, count, make_layout
from refit.schemas.profile import Profile

SCHEMA = pa.schema({"event_time": pa.timestamp("us"), "x": pa.float64(), "name": pa.string()})
LAYOUT = Layout(
    {
        "x": Numbers(lows=(0.0, 2.0), highs=(1.0, 3.0), mean=1.5, std=1.0),
        "name": Categories(("a", "b"), ("rare",), complete=True),
    }
)
DAY = "event_time::date"
Row = tuple[int, float | None, str | None]


def counted(rows: Sequence[Row], layout: Layout = LAYOUT) -> Sketch:
    """The sketch of rows given as day of January 2020, number and name."""
    columns = zip(
        *[(datetime(2020, 1, day, tzinfo=UTC).replace(tzinfo=None), x, name) for day, x, name in rows], strict=True
    )
    table = pa.table(dict(zip(SCHEMA.names, columns, strict=True)) if rows else SCHEMA.empty_table(), SCHEMA)
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("rows", table)
        return count(connection, "rows", layout, DAY)


ROWS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.none() | st.floats(-1, 5) | st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan"), float("inf")]),
        st.none() | st.sampled_from(["a", "b", "rare", "new"]),
    ),
    max_size=30,
)


@pytest.mark.ci
@given(ROWS, ROWS)
@settings(max_examples=10, deadline=None)
def test_counts_of_two_parts_add_up_to_those_of_all_rows(one: list[Row], other: list[Row]) -> None:
    together = counted([*one, *other])
    assert counted(one) + counted(other) == together == counted(other) + counted(one)
    assert together.rows.sum() == len(one) + len(other)
    assert all(counts.sum() == len(one) + len(other) for counts in together.totals().values())


def test_each_value_has_its_place() -> None:
    values: list[float | None] = [-1.0, 0.0, 1.0, 1.5, 3.0, 3.5, float("inf"), None, float("nan")]
    names = ["a", "b", "rare", "new", None, "a", "a", "a", "a"]
    sketch = counted([(1, x, name) for x, name in zip(values, names, strict=True)])
    # below, 0 to 1, 2 to 3 (1.5 lies between), above, missing; a, b, other, unseen, missing
    assert {name: counts.tolist() for name, counts in sketch.totals().items()} == {
        "x": [1, 2, 2, 2, 2],
        "name": [5, 1, 1, 1, 1],
    }


def test_of_a_text_its_letters_are_counted() -> None:
    table = pa.table({"day": [date(2020, 1, 1)] * 5, "remark": ["", "ab", "abcd", None, "x" * 99]})
    with duckdb.connect() as connection:
        connection.register("rows", table)
        layout = make_layout(connection, "(select * from rows where length(remark) < 9)", [], [], ["remark"])
        counts = count(connection, "rows", layout, "day").totals()["remark"]
    assert Profile.from_json(Profile.of(layout).to_json(), "profile.json").layout() == layout
    assert layout.columns["remark"].kind == "text"
    assert counts.tolist() == [0, 1, 1, 1, 1, 1]  # below, three lengths, above, missing


def test_days_are_those_of_the_expression_and_a_window_sums_some_of_them() -> None:
    sketch = counted([(3, 0.0, "a"), (1, 0.0, "b"), (3, 2.0, "a")])
    assert sketch.days.astype(str).tolist() == ["2020-01-01", "2020-01-03"]
    assert sketch.rows.tolist() == [1, 2]
    some = sketch.between(date(2020, 1, 2), date(2020, 1, 4))
    assert some.totals()["name"].tolist() == [2, 0, 0, 0, 0]
    assert not sketch.between(date(2020, 1, 2), date(2020, 1, 3)).rows.sum()


def test_columns_of_two_sketches_stand_side_by_side_each_with_its_own_days() -> None:
    inputs = counted([(1, 0.0, None), (2, 0.0, None)], LAYOUT.only(["x"]))
    labels = counted([(2, None, "a")], LAYOUT.only(["name"]))
    both = inputs.join(labels)
    assert (both.layout, both.rows.tolist()) == (LAYOUT, [1, 1])
    assert {name: int(counts.sum()) for name, counts in both.totals().items()} == {"x": 2, "name": 1}
    with pytest.raises(ValueError, match="both sketches count 'x'"):
        inputs.join(inputs)


def test_a_sketch_and_its_layout_come_back_from_files_equal(tmp_path: Path) -> None:
    sketch = counted([(1, 0.0, "a"), (2, None, "new"), (4, 9.0, None)])
    pq.write_table(sketch.to_arrow(), tmp_path / "sketch.parquet")
    layout = Profile.from_json(Profile.of(LAYOUT).to_json(), "profile.json").layout()
    assert layout == LAYOUT
    assert Sketch.from_arrow(pq.read_table(tmp_path / "sketch.parquet"), layout) == sketch
    nothing = Sketch.empty(LAYOUT)
    assert Sketch.from_arrow(nothing.to_arrow(), LAYOUT) == nothing == counted([])


def test_counts_of_another_layout_are_refused() -> None:
    sketch = counted([(1, 0.0, "a")])
    other = Layout({**LAYOUT.columns, "name": Categories(("a",), (), complete=True)})
    with pytest.raises(ValueError, match="different layouts"):
        sketch + counted([(1, 0.0, "a")], other)
    with pytest.raises(ValueError, match="another layout"):
        Sketch.from_arrow(sketch.to_arrow(), other)


def test_a_column_that_is_not_there_is_missing_in_every_row_and_a_row_without_a_day_is_an_error() -> None:
    with duckdb.connect() as connection:
        rows = "(select timestamp '2020-01-01' as event_time, 'a' as name from range(3))"
        assert count(connection, rows, LAYOUT, DAY).totals()["x"].tolist() == [0, 0, 0, 0, 3]
        with pytest.raises(DefinitionError, match="3 rows have no day"):
            count(connection, rows, LAYOUT, "null")


def made(query: str, numbers: Sequence[str] = (), categories: Sequence[str] = (), threads: int = 1) -> dict[str, Any]:
    with duckdb.connect(config={"threads": threads}) as connection:
        connection.execute(f"create table t as {query}")
        return dict(make_layout(connection, "t", numbers, categories).columns)


def test_bins_hold_as_many_rows_each_and_a_frequent_value_has_its_own() -> None:
    mixed = "select case when i % 2 = 0 then 0.0 else (hash(i) % 1000) / 100.0 end as x from range(20000) t(i)"
    x = made(mixed, ["x"])["x"]
    assert (0.0, 0.0) in zip(x.lows, x.highs, strict=True)
    assert len(x.lows) == 15  # one of zeros, 12 of the 24, two in the upper tail: it has no more values
    assert all(low <= high for low, high in zip(x.lows, x.highs, strict=True))
    assert all(high < low for high, low in zip(x.highs, x.lows[1:], strict=False))
    whole = made("select i::double as x from range(24 * 1024) t(i)", ["x"])["x"]
    tail = [3, 15, 63, 255]
    assert whole.highs == (*tail, *range(1023, 23 * 1024, 1024), *(24 * 1024 - 2 - n for n in reversed(tail)), 24575)
    assert (whole.mean, whole.std) == (12287.5, pytest.approx(24576 / 12**0.5))


def test_flags_constants_and_columns_without_values_have_bins_too() -> None:
    found = made(
        "select i % 2 as flag, 7.0 as same, null::double as none from range(10) t(i)", ["flag", "same", "none"]
    )
    assert (found["flag"].lows, found["flag"].highs) == ((0.0, 1.0), (0.0, 1.0))
    assert (found["same"].lows, found["same"].std) == ((7.0,), 0.0)
    assert found["none"] == Numbers((), (), 0.0, 0.0)
    assert found["none"].codes(pa.array([1.0, None])).tolist() == [0, 2]


def test_rare_names_are_told_from_unseen_ones_until_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "NAMES", 2)
    query = "select chr(97 + least(i, 4)::int) as name from range(7) t(i)"  # e three times, a to d once
    found = made(query, categories=["name"])["name"]
    assert found == Categories(("e", "a"), ("b", "c", "d"), complete=True)
    assert found.codes(pa.array(["e", "a", "d", "z", None])).tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(sketches, "MOST_NAMES", 4)
    found = made(query, categories=["name"])["name"]
    assert found == Categories(("e", "a"), ("b", "c"), complete=False)
    assert found.codes(pa.array(["d", "z"])).tolist() == [2, 2]


def test_the_layout_and_the_counts_are_the_same_on_any_number_of_threads() -> None:
    query = "select date '2020-01-01' + (hash(i) % 90)::int as day, sqrt(hash(i, 1) % 100003) as x, "
    query += "'n' || (hash(i, 2) % 3000)::varchar as name from range(400000) t(i)"
    found = []
    for threads in (1, 2, 4):
        with duckdb.connect(config={"threads": threads}) as connection:
            connection.execute(f"create table t as {query}")
            layout = make_layout(connection, "t", ["x"], ["name"])
            found.append((layout, count(connection, "t", layout, "day")))
    assert found[0] == found[1] == found[2]
    assert found[0][1].rows.sum() == 400_000
    assert found[0][1].totals()["x"].max() / 400_000 < 1 / 24 + 0.005
