"""Effects from binned counts are those of the raw samples, as closely as is said here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from feature_store.sketches import Categories, Numbers
from refit.drift.effect_sizes import Effect, jensen_shannon, measure, psi, unseen, wasserstein

Sampler = Callable[[np.random.Generator, int], NDArray[np.float64]]
CASES: dict[str, tuple[Sampler, Sampler]] = {
    "shifted": (lambda r, n: r.normal(size=n), lambda r, n: r.normal(0.2, 1, n)),
    "wider": (lambda r, n: r.normal(size=n), lambda r, n: r.normal(0, 1.3, n)),
    "skewed": (lambda r, n: r.lognormal(size=n), lambda r, n: r.lognormal(0.2, 1, n)),
    "flag": (lambda r, n: (r.random(n) < 0.3).astype(float), lambda r, n: (r.random(n) < 0.4).astype(float)),
    "count": (lambda r, n: r.poisson(3, n).astype(float), lambda r, n: r.poisson(3.5, n).astype(float)),
    "often zero": (lambda r, n: np.maximum(r.normal(size=n), 0), lambda r, n: np.maximum(r.normal(0.3, 1, n), 0)),
}


def counts(column: Numbers | Categories, values: object) -> NDArray[np.int64]:
    return np.bincount(column.codes(pa.array(values)), minlength=column.size)


@pytest.mark.parametrize("case", CASES)
def test_wasserstein_from_bins_is_that_of_the_rows(case: str) -> None:
    random = np.random.default_rng(0)
    before, now = CASES[case][0](random, 40_000), CASES[case][1](random, 30_000)
    column = Numbers.of(before)
    found = float(wasserstein(column, counts(column, before)[:-1], counts(column, now)[:-1]))
    exact = wasserstein_distance(before, now) / before.std()
    assert found == pytest.approx(exact, rel=0.05)


def test_wasserstein_of_discrete_values_is_exact() -> None:
    before, now = np.repeat([0.0, 1.0, 5.0], [50, 30, 20]), np.repeat([0.0, 1.0, 5.0], [20, 30, 50])
    column = Numbers.of(before)
    found = float(wasserstein(column, counts(column, before)[:-1], counts(column, now)[:-1]))
    assert found == pytest.approx(wasserstein_distance(before, now) / before.std(), rel=1e-12)


def test_psi_and_jensen_shannon_follow_their_formulas() -> None:
    before, now = np.array([500.0, 300.0, 200.0, 0.0]), np.array([100.0, 100.0, 150.0, 50.0])
    q, p = (before + 0.5) / (before + 0.5).sum(), (now + 0.5) / (now + 0.5).sum()
    assert float(psi(before, now)) == pytest.approx(float(np.sum((p - q) * np.log(p / q))), rel=1e-12)
    assert float(jensen_shannon(before, now)) == pytest.approx(jensenshannon(before, now, base=2), rel=1e-12)
    assert float(unseen(before, now)) == pytest.approx(50 / 400)


def test_a_bin_that_nobody_has_changes_nothing() -> None:
    before, now = np.array([5.0, 3.0, 0.0, 2.0]), np.array([1.0, 1.0, 0.0, 4.0])
    for effect in (psi, jensen_shannon):
        assert effect(before, now) == effect(np.delete(before, 2), np.delete(now, 2))


@pytest.mark.parametrize("rows", [200, 2000])
def test_without_drift_psi_and_jensen_shannon_lie_about_their_floor(rows: int) -> None:
    random = np.random.default_rng(1)
    share = random.dirichlet(np.full(20, 5.0))
    column = Categories(tuple(map(str, range(20))), (), complete=True)
    before, now = (np.zeros((500, column.size)) for _ in range(2))
    before[:, :20], now[:, :20] = random.multinomial(10 * rows, share, 500), random.multinomial(rows, share, 500)
    found = measure(column, before, now)
    for name, power in (("psi", 1), ("jensen_shannon", 2)):
        effect: Effect = found[name]  # type: ignore[index]
        assert (effect.size**power).mean() == pytest.approx(effect.floor.mean(), rel=0.12)
        assert np.allclose(replace(effect, size=effect.size_at(0.3)).shift, 0.3)


@pytest.mark.parametrize("case", CASES)
def test_noise_is_the_mean_square_shift_of_samples_of_one_distribution(case: str) -> None:
    random = np.random.default_rng(3)
    column = Numbers.of(CASES[case][0](random, 40_000))
    before = np.array([counts(column, CASES[case][0](random, 2000)) for _ in range(200)])
    now = np.array([counts(column, CASES[case][0](random, 300)) for _ in range(200)])
    found = measure(column, before, now)["wasserstein"]
    assert 0.5 < (found.shift**2).mean() / found.noise.mean() < 1.15  # the noise is a bound
    gone, gone_before = random.binomial(300, 0.1, 200), random.binomial(2000, 0.1, 200)
    now, before = np.zeros_like(now), np.zeros_like(before)
    now[:, 0], now[:, -1], before[:, 0], before[:, -1] = 300 - gone, gone, 2000 - gone_before, gone_before
    missing = measure(column, before, now)["missing"]
    assert (missing.shift**2).mean() == pytest.approx(missing.noise.mean(), rel=0.3)


def test_many_windows_are_measured_at_once_as_each_alone() -> None:
    random = np.random.default_rng(2)
    column = Numbers.of(random.normal(size=1000))
    before, now = random.integers(0, 50, (2, 5, column.size))
    together = measure(column, before, now)
    for window in range(5):
        alone = measure(column, before[window], now[window])
        assert all(np.isclose(together[name].size[window], alone[name].size) for name in together)


def test_what_is_not_defined_is_not_a_number() -> None:
    column = Numbers.of(np.array([1.0, 2.0, 3.0]))
    there, gone = counts(column, [1.0, 2.0, 3.0]), counts(column, [np.nan, np.nan])
    found = {name: float(effect.size) for name, effect in measure(column, there, gone).items()}
    assert np.isnan([found["psi"], found["wasserstein"]]).all()
    assert found["missing"] == 1.0
    constant = Numbers.of(np.ones(10))
    moved = measure(constant, counts(constant, np.ones(10)), counts(constant, np.full(10, 2.0)))
    assert np.isnan(moved["wasserstein"].size)
    assert float(moved["psi"].size) > 1
