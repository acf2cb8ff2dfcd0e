"""Scores of policies: their difference has an interval, however short the windows are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from refit.operations.replay.history import Floats, History
from refit.operations.replay.scoring import Scores, _measured, difference
from refit.problems.regression import Regression
from refit.schemas.feature_table import FeatureColumns

DAYS, ROWS = 12, 40  # a day


@pytest.fixture
def history() -> History:
    days = np.repeat(np.arange("2024-01-01", "2024-01-13", dtype="datetime64[D]"), ROWS)
    times = days.astype("datetime64[us]")
    label = np.random.default_rng(0).normal(0, 1, len(days))
    columns = FeatureColumns(key="id", features=(), numeric=(), categorical=())
    return History(
        table=pa.table({"id": np.arange(len(days))}),
        label=label,
        known_at=times,
        event_time=times,
        prediction_time=times,
        days=days,
        features=columns,
        problem=Regression(),
        digest="",
    )


def scores(history: History, predicted: Floats, window: int) -> Scores:
    """By windows of some days."""
    parts = np.arange(len(history)).reshape(-1, ROWS * window)
    measured = tuple(_measured(history, "mae", rows, predicted[rows], np.zeros(0, np.bool_)) for rows in parts)
    counts = tuple(map(len, parts))
    return Scores(counts, counts, measured)


@pytest.mark.parametrize("window", [1, DAYS])
def test_the_difference_of_two_policies_is_as_uncertain_in_windows_of_a_day_as_in_one_of_all_days(
    history: History, window: int
) -> None:
    random = np.random.default_rng(1)
    ours, theirs = (random.normal(0, 1, len(history)) for _ in range(2))
    apart = difference("mae", scores(history, ours, window), scores(history, theirs, window))
    loss = np.abs(theirs - history.label) - np.abs(ours - history.label)
    daily = loss.reshape(DAYS, ROWS).mean(1)
    assert apart.value == pytest.approx(loss.mean())
    assert apart.clusters == pytest.approx(DAYS)
    assert apart.standard_error == pytest.approx(daily.std(ddof=1) / np.sqrt(DAYS))
    low, high = apart.interval(0.95)
    assert low < apart.value < high


def test_a_single_day_gives_no_interval(history: History) -> None:
    ours, theirs = scores(history, history.label, 1), scores(history, history.label + 1, 1)
    of_one_day = [Scores(each.rows[:1], each.labelled[:1], each.windows[:1]) for each in (ours, theirs)]
    apart = difference("mae", *of_one_day)
    assert apart.value == pytest.approx(1)
    assert np.isnan(apart.interval(0.95)).all()
