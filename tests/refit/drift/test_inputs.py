"""Drift of the inputs: what is as usual in the reference is no drift, whatever a test that knows no days would say."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from feature_store.sketches import Categories, Column, Layout, Numbers, Sketch
from refit.config import DriftParams
from refit.config.drift import MinEffectParams
from refit.drift.inputs import calibrate, judge_window
from refit.schemas.drift_decision import ColumnDrift, DayWindow, InputVerdict

FIRST = date(2020, 1, 1)
NORMAL = Numbers.of(np.random.default_rng(0).normal(size=20_000))
NAMES = Categories(("a", "b", "c"), (), complete=True)
REFERENCE, DAILY = 120, 300  # days, rows of each


def day_effects(random: np.random.Generator, days: int, sd: float = 0.05, memory: float = 0.5) -> NDArray[np.float64]:
    """What all rows of a day share: an AR(1) process."""
    effects = np.zeros(days)
    for day in range(days):
        effects[day] = memory * effects[day - 1] + random.normal(0, sd * (1 - memory**2) ** 0.5)
    return effects


def sketch(columns: dict[str, tuple[Column, list[Any]]], first: date = FIRST) -> Sketch:
    """Counts of each column's values, given as an array a day."""
    layout = Layout({name: column for name, (column, _) in columns.items()})
    parts = [
        np.array([np.bincount(column.codes(pa.array(day)), minlength=column.size) for day in days])
        for column, days in columns.values()
    ]
    counts = np.hstack(parts)
    return Sketch(layout, np.datetime64(first) + np.arange(len(counts)), parts[0].sum(axis=1), counts)


def numbers(days: int, columns: int = 1, *, seed: int = 0, shift: float = 0.0, first: date = FIRST) -> Sketch:
    """Normal columns whose days differ; the first is `shift` higher."""
    random = np.random.default_rng(seed)
    made: dict[str, tuple[Column, list[Any]]] = {}
    for number in range(columns):
        effects = day_effects(random, days) + (shift if number == 0 else 0)
        made[f"x{number}"] = (NORMAL, [random.normal(effect, 1, DAILY) for effect in effects])
    return sketch(made, first)


def names(days: int, share: float = 0.5, *, new: float = 0.0, first: date = FIRST, seed: int = 0) -> Sketch:
    """A category; `share` of the rows are called a, `new` of them as nobody was before."""
    random = np.random.default_rng(seed)
    p = [share * (1 - new), (1 - share) * (1 - new), new]
    return sketch({"name": (NAMES, [random.choice(["a", "b", "z"], DAILY, p=p) for _ in range(days)])}, first)


def after(days: int = REFERENCE) -> date:
    return FIRST + timedelta(days=days)


def week(start: date | None = None) -> DayWindow:
    first = start or after()
    return DayWindow(first=first, end=first + timedelta(days=7))


def judged(reference: Sketch, current: Sketch, policy: DriftParams | None = None) -> InputVerdict:
    return judge_window(reference, current, week(), policy or DriftParams())


def column(verdict: InputVerdict, name: str) -> ColumnDrift:
    return next(each for each in verdict.columns if each.column == name)


def test_days_that_differ_as_they_always_did_are_no_drift() -> None:
    reference = numbers(REFERENCE, 20)
    for seed in range(1, 9):
        verdict = judged(reference, numbers(7, 20, seed=seed, first=after()))
        assert (verdict.calibrated, verdict.breached) == (True, False)
        assert verdict.reasons == ("0 of 20 columns moved",)


def test_a_shift_of_one_column_is_found_there_and_nowhere_else() -> None:
    verdict = judged(numbers(REFERENCE, 20), numbers(7, 20, seed=1, shift=0.4, first=after()))
    assert [each.column for each in verdict.columns if each.breached] == ["x0"]
    worst = verdict.columns[0]
    assert worst.column == "x0"
    assert worst.effects["wasserstein"] == pytest.approx(0.4, abs=0.1)
    assert worst.severity == worst.effects["wasserstein"] / worst.thresholds["wasserstein"] > 1
    assert verdict.reasons[0].startswith("1 of 20 columns moved: x0 (Wasserstein distance 0.")


def test_an_effect_breaches_where_it_reaches_its_threshold() -> None:
    reference = numbers(REFERENCE, 5)
    threshold = judged(reference, numbers(7, 5, seed=1, first=after())).columns[0].thresholds["wasserstein"]
    for shift in np.linspace(0, 0.4, 9):
        verdict = judged(reference, numbers(7, 5, seed=1, shift=float(shift), first=after()))
        for each in verdict.columns:
            assert each.breached == any(size >= each.thresholds[name] for name, size in each.effects.items())
    assert 0.1 <= threshold < 0.4


def test_what_is_certain_but_small_is_no_breach() -> None:
    verdict = judged(names(REFERENCE), names(7, 0.55, seed=1, first=after()))
    assert verdict.columns[0].p is not None
    assert verdict.columns[0].p < 0.01
    assert not verdict.breached
    strict = DriftParams(min_effect=MinEffectParams(jensen_shannon=0.01))
    assert judged(names(REFERENCE), names(7, 0.55, seed=1, first=after()), strict).breached


def test_names_that_nobody_had_are_found() -> None:
    verdict = judged(names(REFERENCE), names(7, new=0.05, seed=1, first=after()))
    assert verdict.breached
    assert verdict.columns[0].effects["unseen"] == pytest.approx(0.05, abs=0.015)
    assert verdict.columns[0].thresholds["unseen"] == DriftParams().min_effect.unseen


def test_new_names_that_keep_coming_up_are_as_usual() -> None:
    layout = Layout({"name": Categories(tuple(f"name {n}" for n in range(12)), (), complete=True)})
    counts = np.zeros((REFERENCE, 15), int)
    counts[np.arange(REFERENCE), np.arange(REFERENCE) // 10] = DAILY
    days = np.datetime64(FIRST) + np.arange(REFERENCE)
    reference = Sketch(layout, days, np.full(REFERENCE, DAILY), counts)
    unseen = np.zeros((7, 15), int)
    unseen[:, -2] = DAILY
    verdict = judged(reference, Sketch(layout, days[:7] + REFERENCE, np.full(7, DAILY), unseen))
    assert verdict.columns[0].effects["unseen"] == 1.0
    assert not verdict.breached


def test_a_column_that_is_all_missing_now_is_found_and_one_not_counted_is_not_judged() -> None:
    both = numbers(REFERENCE, 2)
    gone = sketch({"x0": (NORMAL, [np.full(DAILY, np.nan)] * 7)}, after())
    verdict = judged(both, gone)
    assert [each.column for each in verdict.columns] == ["x0"]
    assert verdict.columns[0].effects == {"missing": 1.0}
    assert verdict.breached


def test_a_constant_column_is_as_usual_until_it_changes() -> None:
    constant = Numbers.of(np.ones(10))
    reference = sketch({"x": (constant, [np.ones(DAILY)] * REFERENCE)})
    for value, moved in ((1.0, False), (2.0, True)):
        verdict = judged(reference, sketch({"x": (constant, [np.full(DAILY, value)] * 7)}, after()))
        assert verdict.breached == moved
        assert set(verdict.columns[0].effects) == {"psi", "missing"}


def test_few_rows_are_far_from_the_reference_without_any_drift() -> None:
    random = np.random.default_rng(3)
    few = sketch({"x0": (NORMAL, [random.normal(size=10) for _ in range(7)])}, after())
    verdict = judged(numbers(REFERENCE), few)
    assert verdict.columns[0].effects["psi"] > 0.1
    assert not verdict.breached


def test_a_window_without_rows_says_so() -> None:
    verdict = judged(numbers(REFERENCE), numbers(7, first=after(200)))
    assert (verdict.rows, verdict.breached, verdict.columns) == (0, False, ())
    assert verdict.reasons == ("no row lies in the window from 2020-04-30 to 2020-05-07: nothing can be said",)
    assert (
        "no row lies in the reference"
        in judged(Sketch.empty(Layout({"x0": NORMAL})), numbers(7, first=after())).reasons[0]
    )


def test_a_column_counted_in_another_way_is_refused() -> None:
    other = Layout({"x0": Numbers((0.0,), (1.0,), 0.5, 1.0)})
    counts = np.full((7, 4), DAILY // 4)
    current = Sketch(other, np.datetime64(after()) + np.arange(7), np.full(7, DAILY), counts)
    with pytest.raises(ValueError, match="'x0' was counted in different ways"):
        judged(numbers(REFERENCE), current)


def test_a_window_of_the_reference_is_compared_with_days_as_long_before_it_as_in_production() -> None:
    reference = numbers(REFERENCE)
    found = calibrate(reference, 7, 10, fewest=8)
    assert (found.lagged, len(found)) == (True, 11)  # of 17 weeks those with 28 days and 10 more before them
    assert (found.current.sum(axis=1) == 7 * DAILY).all()
    assert found.reference.sum(axis=1).tolist() == [DAILY * (REFERENCE - 7 * n - 10) for n in range(1, 12)]


def test_a_reference_too_short_for_the_lag_is_compared_with_all_of_its_other_days() -> None:
    found = calibrate(numbers(60), 7, 10, fewest=8)
    assert (found.lagged, len(found)) == (False, 8)
    assert (found.reference.sum(axis=1) == 53 * DAILY).all()
    verdict = judge_window(numbers(60), numbers(7, seed=1, first=after(60)), week(after(60)), DriftParams())
    assert verdict.calibrated
    assert "too short to leave the lag" in verdict.reasons[1]


def test_a_reference_of_a_few_windows_is_uncalibrated() -> None:
    policy, current = DriftParams(), numbers(7, seed=1, shift=0.5, first=after(20))
    verdict = judge_window(numbers(20), current, week(after(20)), policy)
    assert (verdict.calibrated, verdict.reference_windows, verdict.breached) == (False, 2, True)
    assert verdict.columns[0].p is None
    assert verdict.columns[0].thresholds["wasserstein"] == policy.min_effect.wasserstein
    assert verdict.reasons[1].startswith("uncalibrated: the reference holds 2 windows of this length, 8 are needed")


def test_a_change_of_season_that_the_reference_knows_is_no_drift() -> None:
    random = np.random.default_rng(0)

    def seasonal(days: int, first: date) -> Sketch:
        start = (first - FIRST).days
        level = 0.02 * np.arange(start, start + days)
        return sketch({"x": (wide, [random.normal(each, 1, DAILY) for each in level])}, first)

    wide = Numbers.of(random.normal(0.02 * (np.arange(20_000) % REFERENCE), 1))
    verdict = judged(seasonal(REFERENCE, FIRST), seasonal(7, after()))
    assert column(verdict, "x").effects["wasserstein"] > 0.1
    assert not verdict.breached


def test_a_column_whose_own_windows_differ_as_much_as_a_gross_change_cannot_be_judged() -> None:
    """Each week of the reference lies somewhere else, so that no place of the next one is unusual."""
    random = np.random.default_rng(3)
    weeks = [random.normal(0, 3) for _ in range(REFERENCE // 7 + 1)]
    days = [random.normal(weeks[day // 7], 0.05, DAILY) for day in range(REFERENCE)]
    wild = sketch({"x0": (Numbers.of(np.concatenate(days)), days)})
    now = sketch({"x0": (wild.layout.columns["x0"], [random.normal(2, 0.05, DAILY) for _ in range(7)])}, after())
    [found] = judged(wild, now).columns
    assert set(found.unjudged) == {"psi", "wasserstein"}
    assert found.thresholds["psi"] is None
    assert [each.statistic for each in found.comparisons] == ["missing"], "which is as it was"
    assert not found.breached
    said = judged(wild, now).reasons[0]
    assert said.startswith("0 of 1 columns moved; 2 of 3 measures of columns cannot be judged: x0 (PSI, Wasserstein")
    assert "even half of all rows moved to one value would be usual" in said


def test_what_reaches_even_a_threshold_beyond_a_gross_change_is_a_breach() -> None:
    """Shares of a from .4 to .6 are usual here; a name that the reference never had is not."""
    random = np.random.default_rng(4)
    shares = [random.uniform(0.02, 0.98) for _ in range(REFERENCE // 7 + 1)]
    wild = sketch({"name": (NAMES, [random.choice(["a", "b"], DAILY, p=[shares[day // 7], 1 - shares[day // 7]])
                                    for day in range(REFERENCE)])})  # fmt: skip
    [found] = judged(wild, names(7, 0.5, seed=1, first=after())).columns
    assert "psi" not in found.comparisons
    [gone] = judged(wild, names(7, new=1.0, seed=1, first=after())).columns
    assert gone.breached
    assert gone.thresholds["unseen"] is not None
