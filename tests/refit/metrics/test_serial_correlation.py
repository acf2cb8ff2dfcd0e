"""The error of a mean over days allows for luck that lasts, by the likelihood that is written out here in full."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import null_space
from scipy.signal import lfilter
from scipy.stats import t

from refit.gate.comparison import Sample, gain
from refit.metrics.clusters import Clusters, Estimate, LeftOut, jackknife
from refit.metrics.serial_correlation import NEW, PRIOR, RHO, DaysError, error_of_mean

Floats = NDArray[np.float64]


def luck(random: np.random.Generator, days: int, rho: float) -> Floats:
    new = random.normal(size=days)
    new[1:] *= math.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], new))


def known(values: Floats, days: NDArray[np.int64] | None = None, effective: float | None = None) -> DaysError:
    days = np.arange(len(values)) if days is None else days
    error = error_of_mean(values, days, len(values) if effective is None else effective)
    assert error is not None
    return error


def in_full(values: Floats, days: NDArray[np.int64], levels: Floats) -> tuple[Floats, Floats]:
    """The odds and errors by whole matrices, of the values' part that no level can explain."""
    contrasts = null_space(levels.T)
    freedom = contrasts.shape[1]
    likelihoods, errors = [], []
    for rho, new, prior in zip(RHO, NEW, PRIOR, strict=True):
        apart = np.abs(np.subtract.outer(days, days)).astype(float)
        correlations = (1 - new) * rho**apart + new * np.eye(len(days))
        inside = contrasts.T @ correlations @ contrasts
        squares = (contrasts.T @ values) @ np.linalg.solve(inside, contrasts.T @ values)
        determinant = np.linalg.slogdet(inside)[1]
        likelihoods.append(np.log(prior) - determinant / 2 - freedom / 2 * np.log(squares))
        errors.append(math.sqrt(correlations.sum() / len(days) ** 2 * squares / freedom))
    odds = np.exp(np.array(likelihoods) - max(likelihoods))
    return odds / odds.sum(), np.array(errors)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("count", [20, 30, 61])
def test_odds_and_errors_are_those_of_the_restricted_likelihood(count: int, gaps: bool) -> None:
    random = np.random.default_rng(count)
    days = np.sort(random.choice(count + 9 * gaps, count, replace=False)) + 19_000
    values = luck(random, count, 0.5) + np.where(days % 7 == 3, 2.0, 0.0)
    weekdays = np.eye(7)[days % 7] if count >= 28 else np.ones((count, 1))
    odds, errors = in_full(values, days, weekdays)
    error = known(values, days)
    assert error.odds == pytest.approx(odds, abs=1e-12)
    assert error.errors == pytest.approx(errors, rel=1e-9)
    assert error.freedom == count - weekdays.shape[1]


def test_the_bound_is_wrong_with_probability_alpha_under_the_mixture() -> None:
    error = known(luck(np.random.default_rng(3), 30, 0.5))
    for alpha in (0.2, 0.04, 0.0005):
        beyond = t.sf(error.reach(alpha) / error.errors, error.freedom)
        assert float(error.odds @ beyond) == pytest.approx(alpha, rel=1e-9)


def test_an_effect_that_repeats_every_week_costs_nothing() -> None:
    values = luck(np.random.default_rng(4), 42, 0.4)
    week = np.tile([3.0, -1.0, 0.0, 2.0, -2.0, 1.0, -3.0], 6)
    assert known(values + week).reach(0.05) == pytest.approx(known(values).reach(0.05), rel=1e-9)


def test_weekdays_have_no_levels_where_there_are_too_few_of_each_or_one_day_has_most_rows() -> None:
    values = luck(np.random.default_rng(5), 30, 0.0)
    assert known(values).freedom == 23
    assert known(values[:27]).freedom == 26
    assert known(values, effective=15.5).freedom == pytest.approx(14.5)
    business = np.arange(28)[np.arange(28) % 7 < 5]
    assert known(values[:20], business).freedom == 15


def test_days_after_a_gap_count_as_further_apart() -> None:
    values = luck(np.random.default_rng(6), 24, 0.9)
    near, far = known(values), known(values, np.arange(24) + 400 * (np.arange(24) >= 12))
    assert (near.step, far.step) == (1, 1)
    assert far.errors[0] == near.errors[0]
    assert (far.errors[1:] < near.errors[1:]).all()  # over 400 days nothing lasts
    assert far.reach(0.05) < near.reach(0.05)


def test_luck_lasts_from_step_to_step_however_many_days_that_is() -> None:
    values = luck(np.random.default_rng(6), 24, 0.7)
    daily = known(values)
    weekly = known(values, np.arange(24) * 7)
    assert (weekly.step, weekly.correlation, weekly.reach(0.05)) == (7, daily.correlation, daily.reach(0.05))
    months = np.arange("2015-01", "2017-01", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)
    monthly = known(values, months)
    assert monthly.step in (30, 30.5, 31)
    assert monthly.reach(0.05) == pytest.approx(daily.reach(0.05), rel=0.03)
    every_month = known(np.tile(values, 2), np.r_[months, months + 731])
    assert every_month.freedom == 47, "the weekday on which a month begins has no level"


@pytest.mark.parametrize("step", [1, 7])
def test_the_numbers_of_days_without_gaps_are_those_of_the_days_themselves(step: int) -> None:
    values = luck(np.random.default_rng(9), 30, 0.5)
    days = np.arange(30) * step
    odds, errors = in_full(values, days // step, np.eye(7)[days % 7] if step == 1 else np.ones((30, 1)))
    assert known(values, days).odds == pytest.approx(odds, abs=1e-12)
    assert known(values, days).errors == pytest.approx(errors, rel=1e-9)


def test_days_that_do_not_vary_or_are_not_finite_have_no_error_of_this_kind() -> None:
    assert error_of_mean(np.full(30, 0.25), np.arange(30), 30.0) is None
    assert error_of_mean(np.tile(np.arange(7.0), 5), np.arange(35), 35.0) is None
    assert error_of_mean(np.r_[math.nan, np.arange(29.0)], np.arange(30), 30.0) is None
    assert jackknife(LeftOut(0.5, np.full(30, 0.5), 30.0), Clusters.by_day(np.arange(30))).lower(0.05) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 30, 60])
def test_equal_models_pass_seldom_though_luck_lasts_over_days(count: int) -> None:
    """At most 6.5 % where days correlate by .5 and 8.5 % where by .7, instead of 17 % and 25 %."""
    runs = 800
    for rho, most, least_naive in ((0.0, 0.05, 0.03), (0.3, 0.065, 0.08), (0.5, 0.065, 0.13), (0.7, 0.085, 0.2)):
        random, wrong, naive = np.random.default_rng(count), 0, 0
        for _ in range(runs):
            values = luck(random, count, rho)
            wrong += values.mean() > known(values).reach(0.05)
            naive += values.mean() > t.ppf(0.95, count - 1) * values.std(ddof=1) / math.sqrt(count)
        assert wrong / runs < most + 2 * math.sqrt(most / runs), rho
        assert naive / runs > least_naive, rho


@pytest.mark.slow
def test_power_is_hardly_lost_where_days_are_independent() -> None:
    random, runs = np.random.default_rng(8), 1200
    for count, lost in ((30, 0.17), (60, 0.08), (90, 0.08)):
        ours = naive = 0
        for _ in range(runs):
            values = random.normal(2.49 / math.sqrt(count), 1, count)
            ours += values.mean() > known(values).reach(0.05)
            naive += values.mean() > t.ppf(0.95, count - 1) * values.std(ddof=1) / math.sqrt(count)
        assert 0.75 < naive / runs < 0.83
        assert 1 - lost < ours / naive < 1, count


def pair(clusters: Clusters, seed: int = 0) -> tuple[Sample, Floats, Floats]:
    random = np.random.default_rng(seed)
    truth = random.random(len(clusters.codes))
    labels = (random.random(len(truth)) < truth).astype(np.int64)
    day = luck(random, clusters.count, 0.8)[clusters.codes] * 0.1
    return Sample(labels, clusters), np.clip(truth + day, 0.01, 0.99), np.clip(truth - day, 0.01, 0.99)


def test_only_days_have_an_order_and_other_clusters_are_as_they_were() -> None:
    dates = np.repeat(np.arange("2024-02-01", "2024-03-12", dtype="datetime64[D]"), 30)
    by_day, by_key = Clusters.by_day(dates), Clusters.of(dates)
    assert np.array_equal(by_day.codes, by_key.codes)
    sample, ours, theirs = pair(by_day)
    lasting = gain("brier", sample, ours, theirs)
    keyed = gain("brier", Sample(sample.labels, by_key), ours, theirs)
    assert (lasting.value, lasting.standard_error) == (keyed.value, keyed.standard_error)
    assert keyed.days is None
    assert keyed.widening(0.05) == 1
    assert lasting.days is not None
    assert lasting.days.correlation > 0.1
    assert lasting.lower(0.05) < keyed.lower(0.05)
    assert lasting.lower(0.05) == pytest.approx(
        keyed.value - lasting.widening(0.05) * (keyed.value - keyed.lower(0.05))
    )


def test_the_order_of_rows_says_nothing_and_the_order_of_days_does() -> None:
    dates = np.repeat(np.arange("2024-02-01", "2024-03-12", dtype="datetime64[D]"), 30)
    sample, ours, theirs = pair(Clusters.by_day(dates))
    measured = gain("brier", sample, ours, theirs)
    mixed = np.random.default_rng(1).permutation(len(dates))
    again = gain("brier", Sample(sample.labels[mixed], Clusters.by_day(dates[mixed])), ours[mixed], theirs[mixed])
    assert again.lower(0.05) == pytest.approx(measured.lower(0.05), rel=1e-9)
    days = np.unique(dates)
    elsewhere = np.random.default_rng(2).permutation(days)[np.searchsorted(days, dates)]
    other = gain("brier", Sample(sample.labels, Clusters.by_day(elsewhere)), ours, theirs)
    assert other.standard_error == pytest.approx(measured.standard_error)
    assert other.lower(0.05) > measured.lower(0.05)


def test_parts_of_the_rows_keep_the_place_of_their_days() -> None:
    dates = np.repeat(np.arange("2024-02-01", "2024-03-12", dtype="datetime64[D]"), 30)
    sample, ours, theirs = pair(Clusters.by_day(dates))
    rows = np.flatnonzero(dates.astype(int) % 3 > 0)
    part = sample.only(rows)
    assert part.clusters.days is not None
    assert part.clusters.days.tolist() == np.unique(dates[rows]).astype(int).tolist()
    direct = gain("brier", Sample(sample.labels[rows], Clusters.by_day(dates[rows])), ours[rows], theirs[rows])
    assert gain("brier", part, ours[rows], theirs[rows]).lower(0.05) == direct.lower(0.05)


def test_days_that_a_metric_merges_are_stretches_in_order() -> None:
    clusters = Clusters.by_day(np.repeat(np.arange(500), 4))
    merged = clusters.pooled(200)
    assert merged.count == 200
    assert np.array_equal(np.unique(merged.codes), np.arange(200))
    assert merged.days is not None
    assert merged.days[:3].tolist() == [1.0, 3.5, 6.0]  # the mean day of 0 to 2, of 3 and 4, of 5 to 7
    assert (np.diff(merged.codes) >= 0).all()
    sample, ours, theirs = pair(clusters)
    measured = gain("average_precision", sample, ours, theirs)
    assert measured.days is not None
    assert measured.widening(0.05) > 1
    assert measured.days.freedom == measured.clusters - 1, "a stretch of days is no weekday"
    assert Clusters.rows(500).pooled(200).codes[:202].tolist() == [*range(200), 0, 1]


def test_a_missing_day_has_no_place_in_the_order() -> None:
    dates = np.array(["2024-01-02", "NaT", "2024-01-01"], dtype="datetime64[D]")
    assert Clusters.by_day(dates).days is None
    assert Clusters.by_day(dates).codes.tolist() == [1, 2, 0]


def test_estimates_without_days_are_students_t_as_before() -> None:
    assert Estimate(0.1, 0.02, 30.0).lower(0.05) == pytest.approx(0.1 - t.ppf(0.95, 29) * 0.02)
