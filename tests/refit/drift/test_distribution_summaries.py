"""Distributions kept with a decision are those of the rows, whatever the kind of column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from feature_store.sketches import Categories, Column, Layout, Numbers, Sketch
from refit.drift.distribution_summaries import BARS, distributions

RANDOM = np.random.default_rng(3)


def sketch(column: Column, values: object) -> Sketch:
    counts = np.bincount(column.codes(pa.array(values)), minlength=column.size)
    return Sketch(
        Layout({"x": column}), np.array(["2024-01-01"], "datetime64[D]"), np.array([counts.sum()]), counts[None]
    )


def test_the_bars_of_a_number_hold_all_of_its_values() -> None:
    then, now = RANDOM.normal(size=40_000), RANDOM.normal(0.5, 1, 20_000)
    column = Numbers.of(then)
    [told] = distributions(sketch(column, then), sketch(column, [*now, None, None]), ["x"])
    assert len(told.edges) == BARS + 1
    assert sum(told.then) + told.beyond[0] == pytest.approx(1, abs=1e-4)
    assert sum(told.now) + told.beyond[1] == pytest.approx(1, abs=1e-4)
    assert told.missing == (0.0, round(2 / 20_002, 6))
    for side, values in (("then", then), ("now", now)):
        exact = np.histogram(values, told.edges)[0] / len(values)
        assert np.abs(np.array(getattr(told, side)) - exact).max() < 0.01


def test_whole_numbers_keep_a_bar_each() -> None:
    then = RANDOM.integers(0, 7, 7_000).astype(float)
    column = Numbers.of(then)
    [told] = distributions(sketch(column, then), sketch(column, [3.0] * 50), ["x"])
    assert told.edges == (-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5)
    assert told.now == (0, 0, 0, 1, 0, 0, 0)


def test_what_moved_off_the_axis_is_told() -> None:
    then = RANDOM.normal(size=10_000)
    column = Numbers.of(then)
    [told] = distributions(sketch(column, then), sketch(column, np.full(100, 50.0)), ["x"])
    assert told.beyond[1] == 1.0


@pytest.mark.parametrize("values", [[7.0] * 30, [None] * 30])
def test_a_column_without_spread_or_without_a_value_is_told(values: list[float | None]) -> None:
    column = Numbers.of(np.array(values, float))
    [told] = distributions(sketch(column, pa.array(values, pa.float64())), sketch(column, [7.0, 7.0]), ["x"])
    assert len(told.then) == len(told.now) == max(len(told.edges) - 1, 0)


def test_names_are_told_with_all_others_and_the_unseen_ones() -> None:
    column = Categories(tuple("abcdefghij"), ("rare",), complete=True)
    then, now = [*"aaaabbbcdefghij", "rare"], ["a", "new", "new", "rare", None]
    [told] = distributions(sketch(column, then), sketch(column, now), ["x"])
    assert told.names[:2] == ("a", "b")
    assert len(told.names) == 8
    assert told.now[0] == 0.25
    assert told.unseen == (0.0, 0.5)
    assert told.other == (3 / 16, 0.25)
    assert told.missing == (0.0, 0.2)
