"""`refit init` finds after how many steps series repeat themselves, in the part of them that models learn from."""

from __future__ import annotations

from datetime import datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from refit.new_project.repetition import cycles, repetitions
from refit.new_project.windows import learned_steps, periods_of_test, validation_periods

STEPS = np.arange(2000)
NOISE = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.sin(2 * np.pi * STEPS / 24) + (STEPS // 24 % 7 > 4), (24, 168)),
        (1000 + 5 * STEPS + 200 * np.sin(2 * np.pi * STEPS / 48), (48,)),
        ((3.0 * (STEPS % 7 > 4))[:300], (7,)),
        (np.ones(2000), ()),
        (STEPS.astype(float), ()),
        (np.full(50, np.nan), ()),
        (np.arange(5.0), ()),
    ],
)
def test_cycles_are_found_and_their_multiples_are_not(values: np.ndarray, found: tuple[int, ...]) -> None:
    noisy = values + NOISE.normal(0, 0.2, len(values)) if found else values
    assert cycles([noisy]) == found
    if found:
        gaps = np.where(np.random.default_rng(1).random(len(values)) < 0.1, np.nan, noisy)
        assert cycles([gaps, noisy]) == found


def test_what_wanders_or_is_noise_has_no_cycle() -> None:
    for seed in range(20):
        steps = np.random.default_rng(seed).normal(size=400)
        persistent = np.convolve(steps, 0.8 ** np.arange(50))[:400]
        assert [cycles([each]) for each in (steps, np.cumsum(steps), persistent)] == [(), (), ()]


def test_cycles_are_those_of_the_part_that_models_learn_from() -> None:
    began = [datetime(2024, 1, 1) + timedelta(minutes=30 * int(step)) for step in STEPS]  # noqa: DTZ001
    for later, found in ((0, (48,)), (900, ())):  # the cycle begins where windows for choosing and judging may begin
        values = np.where(later <= STEPS, 10 * np.sin(2 * np.pi * STEPS / 48), 0) + NOISE.normal(size=len(STEPS))
        connection = duckdb.connect()
        connection.register("t", pa.table({"began": began, "value": values}))
        connection.execute("create table s as select began, value, 1 as series from t")
        assert repetitions(connection, 1800, learned_steps(len(STEPS), 1800, "day")) == found


def test_no_step_of_a_validation_or_test_window_is_looked_at() -> None:
    for length, seconds, period in (
        (150, 86_400, "month"),
        (60, 86_400, "week"),
        (2000, 1800, "day"),
        (24, 3600, "day"),
    ):
        test = periods_of_test(length, seconds, period)
        learned = learned_steps(length, seconds, period)
        assert 0 <= learned <= 0.4 * length
        windows = (test + validation_periods(test)) * {"month": 31, "week": 7, "day": 1}[period] * 86_400 / seconds
        assert learned == 0 or learned + windows <= length - 1
