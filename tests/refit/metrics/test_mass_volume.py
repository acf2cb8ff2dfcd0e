"""Scores of anomalies are compared without labels by one set of points, with the error that these leave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from quick import quick
from scipy.special import gammaln
from scipy.stats import chi2

from refit.gate.comparison import Sample, error_reduction, gain
from refit.learners import Learner, Spec, make
from refit.metrics.clusters import Clusters
from refit.metrics.mass_volume import MASSES, ReferencePoints
from refit.problems.anomaly import Anomaly

PROBLEM = Anomaly()
METRICS = ("log_volume", "excess_mass")


def rows(count: int, seed: int, columns: int = 2) -> pa.Table:
    """Rows around 0, and one in thirty three times as far off."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(count, columns))
    points[random.random(count) < 0.03] *= 3
    return pa.table({f"x{each}": points[:, each] for each in range(columns)})


def forest(train: pa.Table, seed: int = 0, **params: int) -> Learner:
    kind, features = "sklearn.ensemble.IsolationForest", tuple(train.column_names)
    learner = make(Spec("it", kind, features, params=params, seed=seed, metric="log_volume", task="anomaly"))
    learner.fit(train, np.zeros(len(train), dtype=np.int64))
    return learner


def sample(count: int) -> Sample:
    return Sample(np.zeros(count, dtype=np.int64), Clusters.rows(count), PROBLEM)


def judged(predict: Callable[[pa.Table], np.ndarray], test: pa.Table) -> np.ndarray:
    return PROBLEM.judged(predict, test, PROBLEM.reference(test))


def ellipse(*weights: float) -> Callable[[pa.Table], np.ndarray]:
    """A score without a fit: a weighted distance from 0."""

    def predict(table: pa.Table) -> np.ndarray:
        values = np.column_stack([table[name].to_numpy() for name in table.column_names])
        return np.column_stack([values**2 @ np.array(weights), np.zeros(len(table)), np.zeros(len(table))])

    return predict


@pytest.mark.parametrize("columns", quick([2, 5, 10], 0, 1))
def test_the_log_volume_is_that_of_the_level_sets_within_its_error(columns: int) -> None:
    points = np.random.default_rng(0).normal(size=(3_000, columns))
    table = pa.table({f"x{each}": points[:, each] for each in range(columns)})
    masses = np.linspace(*MASSES, 500)
    ball = columns / 2 * np.log(np.pi) - gammaln(columns / 2 + 1)
    truth = ball + columns / 2 * np.log(chi2.ppf(masses, columns)).mean()
    ours = judged(ellipse(*[1.0] * columns), table)
    value = PROBLEM.score("log_volume", np.zeros(3_000), ours)
    assert value == pytest.approx(truth, abs=0.15)


@pytest.mark.ci
@pytest.mark.parametrize("metric", quick(METRICS, 1))
def test_two_fits_that_differ_in_nothing_have_a_difference_of_exactly_0(metric: str) -> None:
    train, test = rows(500, 0), rows(600, 1)
    ours, theirs = (judged(forest(train).predict, test) for _ in range(2))
    difference = gain(metric, sample(600), ours, theirs)
    assert (difference.value, difference.standard_error, difference.monte_carlo_error) == (0.0, 0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_does_not_depend_on_the_units_of_the_columns(metric: str) -> None:
    test = rows(500, 1)
    metres = pa.table({"x0": test["x0"], "x1": pa.array(test["x1"].to_numpy() * 1000)})
    first = gain(metric, sample(500), judged(ellipse(1, 1), test), judged(ellipse(1, 9), test))
    second = gain(metric, sample(500), judged(ellipse(1, 1e-6), metres), judged(ellipse(1, 9e-6), metres))
    assert first.value == pytest.approx(second.value, abs=1e-6)


@pytest.mark.ci
@pytest.mark.parametrize("metric", quick(METRICS, 1))
def test_a_detector_that_follows_the_density_better_wins(metric: str) -> None:
    train, test = rows(800, 0), rows(1_000, 1)
    good, poor = (
        judged(forest(train, **params).predict, test)
        for params in ({"n_estimators": 100}, {"n_estimators": 2, "max_samples": 8})
    )
    assert gain(metric, sample(1_000), good, poor).lower(0.05) > 0
    assert gain(metric, sample(1_000), poor, good).upper(0.05) < 0


@pytest.mark.slow
def test_the_error_by_points_is_that_between_draws_of_them() -> None:
    test, columns = rows(1_000, 1, 6), 6
    numbers = np.column_stack([test[name].to_numpy() for name in test.column_names])
    gains = []
    for seed in range(12):
        points = ReferencePoints.of(numbers, seed)
        assert points is not None
        table = pa.table({f"x{each}": points.points[:, each] for each in range(columns)})
        ours, theirs = (
            points.judged(score(test), score(table)[:, 0])
            for score in (ellipse(1, 1, 1, 1, 1, 1), ellipse(1, 1, 1, 3, 3, 3))
        )
        gains.append(gain("log_volume", sample(1_000), ours, theirs))
    between = np.std([each.value for each in gains], ddof=1)
    stated = np.sqrt(np.mean([each.monte_carlo_error**2 for each in gains]))
    assert 0.5 < between / stated < 1.6
    assert all(each.monte_carlo_error < each.standard_error for each in gains)


@pytest.mark.slow
def test_a_column_of_one_value_is_no_dimension() -> None:
    test = rows(400, 1)
    flat = test.append_column("none", pa.array(np.full(400, 7.0)))
    without = judged(ellipse(1, 1), test)
    np.testing.assert_array_equal(judged(ellipse(1, 1, 1), flat)[:, 1], without[:, 1])
    assert PROBLEM.reference(pa.table({"none": np.ones(50)})) is None


@pytest.mark.slow
def test_too_many_columns_for_volumes_leave_a_difference_without_an_error() -> None:
    for columns in (40, 60):  # too few points near rows, and more columns than points are drawn for
        test = rows(300, 1, columns)
        ours, theirs = (judged(ellipse(*[weight] * columns), test) for weight in (1.0, 2.0))
        assert not gain("log_volume", sample(300), ours, theirs).finite


def test_the_reduction_of_errors_has_the_error_of_the_points_too() -> None:
    test = rows(500, 1)
    ours, theirs = judged(ellipse(1, 1), test), judged(ellipse(1, 9), test)
    reduction = error_reduction("excess_mass", sample(500), ours, theirs)
    assert reduction.value > 0
    assert 0 < reduction.monte_carlo_error < reduction.standard_error


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_of_two_equally_good_detectors_hardly_more_than_alpha_win(metric: str) -> None:
    """By symmetry, both are equally good: the columns have the same distribution, and the weights are mirrored."""
    runs, wins = 200, 0
    for seed in range(runs):
        test = rows(400, 100 + seed)
        ours, theirs = judged(ellipse(1, 3), test), judged(ellipse(3, 1), test)
        wins += gain(metric, sample(400), ours, theirs).lower(0.05) > 0
    assert wins / runs < 0.05 + 2.33 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_two_seeds_of_a_forest_mostly_differ_by_less_than_the_interval_of_their_difference(metric: str) -> None:
    train, within = rows(800, 0), 0
    for seed in range(20):
        test = rows(400, 100 + seed)
        ours, theirs = (judged(forest(train, seed=2 * seed + each).predict, test) for each in range(2))
        low, high = gain(metric, sample(400), ours, theirs).interval(0.95)
        within += low < 0 < high
    assert within >= 15
