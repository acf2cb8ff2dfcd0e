"""Any scikit-learn clusterer by its import path: what it predicts, how it is stored, and what it says of bad input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.evaluation.segment_study import REFERENCES, _gap, study
from refit.learners import Spec, load, make
from refit.learners.clusterer import Clusterer
from refit.metrics.mixtures import Mixture
from refit.metrics.scaling import Scaling
from refit.problems.clustering import NOISE, Clustering
from refit.problems.unlabelled import unusable

CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
KINDS: dict[str, dict[str, Any]] = {
    "sklearn.cluster.KMeans": {"n_clusters": 3},
    "sklearn.cluster.MiniBatchKMeans": {"n_clusters": 3},
    "sklearn.cluster.BisectingKMeans": {"n_clusters": 3},
    "sklearn.cluster.AgglomerativeClustering": {"n_clusters": 3},
    "sklearn.cluster.HDBSCAN": {"min_cluster_size": 20, "copy": True},
    "sklearn.cluster.DBSCAN": {"eps": 0.3},
    "sklearn.cluster.MeanShift": {"bandwidth": 1.0},
    "sklearn.mixture.GaussianMixture": {"n_components": 3, "n_init": 3},
    "sklearn.mixture.BayesianGaussianMixture": {"n_components": 3, "covariance_type": "diag"},
}


def points(rows: int = 300, seed: int = 0, gaps: float = 0.05) -> pa.Table:
    random = np.random.default_rng(seed)
    x, y = (CENTRES[random.integers(3, size=rows)] + random.normal(0, 0.7, (rows, 2))).T
    return pa.table({"x": x, "y": pa.array(1000 * y, mask=random.random(rows) < gaps)})


def spec(kind: str, **params: Any) -> Spec:
    return Spec("it", kind, ("x", "y"), params=params, metric="negative_log_likelihood", task="clustering")


def fitted(kind: str, rows: pa.Table | None = None, **params: Any) -> Clusterer:
    learner, table = make(spec(kind, **params)), points() if rows is None else rows
    learner.fit(table, np.zeros(len(table), dtype=np.int64))
    assert isinstance(learner, Clusterer)
    return learner


@pytest.mark.parametrize("kind", KINDS)
def test_a_clusterer_finds_the_groups_and_comes_back_from_its_file(kind: str, tmp_path: Path) -> None:
    learner, new = fitted(kind, **KINDS[kind]), points(200, seed=1)
    predicted = learner.predict(new)
    assert Clustering().check_predictions(predicted, 200) == ""
    near = ((np.column_stack([new["x"].to_numpy(), 0 * new["x"].to_numpy()]) - CENTRES[1]) ** 2).sum(axis=1) < 4
    assert len({*predicted[near, 0]} - {NOISE}) == 1
    (tmp_path / "model").mkdir()
    learner.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(new), predicted)
    assert again.digest() == learner.digest() == fitted(kind, **KINDS[kind]).digest()
    assert learner.unsafe_reason() is None
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}


def test_k_means_puts_new_rows_where_scikit_learn_does_and_a_mixture_into_its_likeliest_component() -> None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score
    from sklearn.mixture import GaussianMixture

    rows = points().set_column(1, "y", pa.array(np.nan_to_num(points()["y"].to_numpy(zero_copy_only=False))))
    x = np.column_stack([rows["x"].to_numpy(), rows["y"].to_numpy()])
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = KMeans(5, n_init=1, random_state=0).fit(scaled)
    ours = fitted("sklearn.cluster.KMeans", rows, n_clusters=5, n_init=1).predict(rows)
    assert adjusted_rand_score(theirs.predict(scaled), ours[:, 0]) == 1.0
    np.testing.assert_allclose(ours[:, 3], theirs.transform(scaled).min(axis=1), rtol=1e-9)
    mixture = GaussianMixture(3, random_state=0).fit(scaled)
    ours = fitted("sklearn.mixture.GaussianMixture", rows, n_components=3).predict(rows)
    assert adjusted_rand_score(mixture.predict(scaled), ours[:, 0]) == 1.0
    density = mixture.score_samples(scaled) - np.log(x.std(axis=0)).sum()  # of x in its own units
    np.testing.assert_allclose(ours[:, 1], -density, rtol=1e-6)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_a_mixture_of_as_many_components_as_features_keeps_its_kind_of_covariance(covariance: str) -> None:
    rows = points().set_column(1, "y", pa.array(np.random.default_rng(0).normal(size=300)))
    from sklearn.mixture import GaussianMixture

    x = np.column_stack([rows["x"].to_numpy(), rows["y"].to_numpy()])
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = GaussianMixture(2, covariance_type=covariance, random_state=0).fit(scaled)
    ours = fitted("sklearn.mixture.GaussianMixture", rows, n_components=2, covariance_type=covariance).predict(rows)
    np.testing.assert_allclose(ours[:, 1], -theirs.score_samples(scaled) + np.log(x.std(axis=0)).sum(), rtol=1e-6)


def test_the_negative_log_likelihood_is_in_the_units_of_the_features_whatever_is_scaled_or_logged() -> None:
    """Of a lognormal column, its true density is the best that any model can reach, and the one of logs does."""
    random = np.random.default_rng(0)
    z, y = random.normal(size=(2, 20_000))
    rows = pa.table({"x": np.expm1(np.abs(2 + 0.3 * z)), "y": 50 * y})
    true = np.mean(0.5 * z**2 + 0.5 * np.log(2 * np.pi) + np.log(0.3) + 2 + 0.3 * z)
    true += np.mean(0.5 * y**2 + 0.5 * np.log(2 * np.pi) + np.log(50))
    logged, plain = (
        fitted("sklearn.mixture.GaussianMixture", rows, n_components=1, log=log).predict(rows)[:, 1].mean()
        for log in (["x"], [])
    )
    assert logged == pytest.approx(true, abs=0.01)
    assert plain > true + 0.05
    one = Clustering().naive(np.zeros(len(rows)), "negative_log_likelihood", rows)
    assert Clustering().guess_for(rows, one)[:, 1].mean() == pytest.approx(plain, abs=0.001)


def test_a_missing_value_counts_neither_in_densities_nor_in_distances() -> None:
    one = Mixture(np.ones(1), np.zeros((1, 2)), np.array([[[1.0, 0.5], [0.5, 4.0]]]))
    marginal = Mixture(np.ones(1), np.zeros((1, 1)), np.array([[[4.0]]]))
    assert one.log_density(np.array([[np.nan, 3.0]])) == pytest.approx(marginal.log_density(np.array([[3.0]])))
    predicted = fitted("sklearn.cluster.KMeans", n_clusters=3).predict(pa.table({"x": [8.0, None], "y": [None, None]}))
    assert np.isfinite(predicted).all()
    assert predicted[1, 1] == pytest.approx(0.0)


def test_noise_is_a_segment_of_its_own_for_new_rows_too() -> None:
    random = np.random.default_rng(0)
    scattered = pa.table({"x": random.uniform(-20, 20, 12), "y": 1000 * random.uniform(-20, 20, 12)})
    learner = fitted("sklearn.cluster.HDBSCAN", pa.concat_tables([points(), scattered]), min_cluster_size=20, copy=True)
    far = learner.predict(pa.table({"x": [40.0, 8.0], "y": [40_000.0, 0.0]}))
    assert far[0, 0] == NOISE
    assert far[1, 0] != NOISE
    assert Clustering().predicted_values(far).to_pylist()[0] == "noise"


def test_segments_keep_the_names_of_the_champion_and_a_new_one_gets_a_new_name() -> None:
    random, rows = np.random.default_rng(0), points()
    champion = fitted("sklearn.cluster.KMeans", n_clusters=3)
    fewer_of_the_largest = rows.take(np.flatnonzero((champion.predict(rows)[:, 0] != 1) | (random.random(300) < 0.3)))
    later = fitted("sklearn.cluster.KMeans", fewer_of_the_largest, n_clusters=3)
    assert (later.predict(rows)[:, 0] != champion.predict(rows)[:, 0]).mean() > 0.3  # by size, they are named otherwise
    before = later.digest()
    later.named_after(champion, rows)
    assert (later.predict(rows)[:, 0] == champion.predict(rows)[:, 0]).mean() > 0.99
    assert later.digest() != before
    more = fitted("sklearn.cluster.KMeans", n_clusters=4)
    more.named_after(champion, rows)
    assert {*more.segments.tolist()} == {1, 2, 3, 4}
    assert ({*more.predict(rows)[:, 0]} - {4.0}) == {1.0, 2.0, 3.0}


def test_a_single_shared_row_gives_no_name() -> None:
    """Segment 1 is split, and one row of its smaller part was of 3; 2 and 3 become one."""
    x = np.repeat([0.0, 50.0, 100.0], [180, 120, 300]) + np.linspace(0, 1, 600)
    rows, before = pa.table({"x": x, "y": 1000 * x}), np.repeat([1.0, 2.0, 3.0], [300, 200, 100])
    before[299] = 3
    learner = fitted("sklearn.cluster.KMeans", rows, n_clusters=3, n_init=5)
    assert [*dict.fromkeys(learner.predict(rows)[:, 0].tolist())] == [2.0, 3.0, 1.0]
    champion: Any = SimpleNamespace(predict=lambda _: before[:, None], segments=np.array([1, 2, 3]))
    learner.named_after(champion, rows)
    assert [*dict.fromkeys(learner.predict(rows)[:, 0].tolist())] == [1.0, 4.0, 2.0]


def test_components_without_a_row_are_no_segments() -> None:
    """A Bayesian mixture leaves the components that it does not need empty, with their means where the prior is."""
    params = {"n_components": 10, "covariance_type": "diag", "weight_concentration_prior": 1e-3}
    rows = points(gaps=0)
    learner = fitted("sklearn.mixture.BayesianGaussianMixture", rows, **params)
    predicted = learner.predict(rows)
    assert {*learner.segments.tolist()} == {*predicted[:, 0]} == {1, 2, 3}
    assert predicted[:, 2].mean() > 0.8
    assert learner.parameters == 3 * (1 + 2 + 2) - 1
    far = learner.predict(pa.table({"x": [2.7], "y": [2700.0]}))  # the mean of all rows, where empty components are
    assert far[0, 0] in {1, 2, 3}


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_the_bic_of_a_mixture_is_that_of_scikit_learn(covariance: str) -> None:
    from sklearn.mixture import GaussianMixture

    rows, params = points(gaps=0), {"n_components": 3, "covariance_type": covariance}
    learner = fitted("sklearn.mixture.GaussianMixture", rows, **params)
    theirs = GaussianMixture(**params, random_state=0).fit(learner.points(rows))
    assert learner.parameters == theirs._n_parameters()


def test_fits_that_find_no_cluster_count_as_no_agreement() -> None:
    """Two groups of 105 rows where a cluster needs 100: in about half of all samples one of them is smaller."""
    x, y = (np.repeat([[0.0, 0.0], [9.0, 9.0]], 105, axis=0) + np.random.default_rng(0).normal(0, 0.5, (210, 2))).T
    rows = pa.table({"x": x, "y": y})
    learner = fitted("sklearn.cluster.HDBSCAN", rows, min_cluster_size=100, copy=True)
    (division,) = study(learner, rows, ("x", "y"), []).divisions
    assert division.stability is not None
    assert 0.2 < division.stability < 0.8
    assert division.stability_error is not None
    assert division.stability_error > 0.05


def test_the_gap_compares_divisions_by_the_estimator_itself() -> None:
    """Of a ring around a group, single linkage finds both; the nearest centres, which are one point, find neither."""
    from sklearn.cluster import AgglomerativeClustering

    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 200)
    ring = np.vstack([8 * np.column_stack([np.cos(angles), np.sin(angles)]), random.normal(0, 0.5, (100, 2))])
    rows = pa.table({"x": ring[:, 0], "y": ring[:, 1]})
    learner = fitted("sklearn.cluster.AgglomerativeClustering", rows, n_clusters=2, linkage="single")
    gap, _ = _gap(learner, rows, np.random.default_rng(1))
    x = learner.points(rows)
    even = np.random.default_rng(1).uniform(x.min(axis=0), x.max(axis=0), (REFERENCES, *x.shape))

    def log_scatter(points: np.ndarray) -> float:
        groups = AgglomerativeClustering(2, linkage="single").fit_predict(points)
        return float(np.log(sum(points[groups == each].var(axis=0).sum() * (groups == each).sum() for each in (0, 1))))

    assert gap == pytest.approx(np.mean([log_scatter(each) for each in even]) - log_scatter(x), abs=1e-6)


def test_the_study_says_how_many_segments_there_are_how_stable_and_what_sets_each_apart() -> None:
    rows = points(gaps=0)
    shop = pa.array(np.where(rows["x"].to_numpy() > 4, "corner", "market"))
    learner = fitted("sklearn.cluster.KMeans", n_clusters=3, n_init=3)
    told = study(learner, rows.append_column("shop", shop), ("x", "y"), [2, 3, 4])
    by_count = {each.requested: each for each in told.divisions}
    assert max(by_count, key=lambda count: by_count[count].silhouette) == 3
    assert min(by_count, key=lambda count: by_count[count].bic) == 3
    assert max(by_count, key=lambda count: by_count[count].gap or 0) == 3
    assert (by_count[3].stability or 0) > 0.9 > (by_count[4].stability or 1)
    (right,) = (each for each in told.segments if any("mostly shop 'corner'" in trait.words for trait in each.traits))
    assert right.words.startswith("high x (median 7.988")
    assert sum(each.share for each in told.segments) == pytest.approx(1.0)
    assert len(told.points) == 300


def test_a_study_of_a_learner_with_its_default_number_is_of_that_number() -> None:
    learner = fitted("sklearn.cluster.KMeans", n_init=1)
    result = study(learner, points(gaps=0), ("x", "y"), [2])
    assert result.chosen == 8
    assert [each.requested for each in result.divisions] == [2, 8]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"x": [1.0] * 9, "y": [2.0] * 9}, "all 9 training rows are equal: there is nothing to tell apart"),
        ({"x": [1.0, 2.0], "y": [3.0, 3.0]}, "feature 'y' has one value in all 2 training rows, so it has no scale"),
        ({"x": [1.0, 2.0], "y": pa.nulls(2, pa.float64())}, "feature 'y' has no value in any of 2 training rows"),
        ({"x": [1.0, 2.0], "y": ["a", "b"]}, "feature 'y' is a text or a category, and only numbers, images and"),
        ({"x": [1.0], "y": [2.0]}, "there are 1 training rows; two are needed at least"),
    ],
)
def test_features_that_say_nothing_are_refused_in_a_line(rows: dict[str, Any], said: str) -> None:
    assert unusable(pa.table(rows)).startswith(said)
    assert "\n" not in unusable(pa.table(rows))


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("sklearn.cluster.KMeans", {"n_clusters": 500}, "could not be fitted: n_samples=300 should be >= n_clusters"),
        ("sklearn.cluster.HDBSCAN", {"min_cluster_size": 299, "copy": True}, "found no cluster: all 300 training rows"),
        ("sklearn.cluster.KMeans", {"log": ["z"]}, r"params.log: 'z' matches no feature"),
        ("sklearn.cluster.KMeans", {"log": "x"}, "log is a list of features"),
        ("sklearn.cluster.KMean", {}, "did you mean 'sklearn.cluster.KMeans'"),
        ("sklearn.linear_model.Ridge", {}, "divides no rows into clusters"),
    ],
)
def test_a_clusterer_that_cannot_be_is_refused_in_a_line(kind: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        fitted(kind, **params)
    assert "\n" not in str(caught.value)


def test_a_single_segment_is_a_warning() -> None:
    learner = make(spec("sklearn.cluster.MeanShift", bandwidth=50.0))
    report = learner.fit(points(), np.zeros(300, dtype=np.int64))
    assert any("it found a single segment" in warning for warning in report.warnings)
    assert (learner.predict(points())[:, 2] == 0).all()


def test_a_scaling_is_undone_and_constants_keep_their_unit() -> None:
    numbers = np.array([[1.0, -50.0, 3.0], [10.0, 20.0, 3.0], [100.0, np.nan, 3.0]])
    scaling = Scaling.of(numbers, np.array([True, True, False]))
    np.testing.assert_allclose(scaling.original(scaling.scaled(numbers)), numbers)
    again = Scaling.of_arrays(scaling.arrays())
    np.testing.assert_array_equal(again.scaled(numbers), scaling.scaled(numbers))
    assert scaling.scaled(numbers)[:, 2].tolist() == [0.0, 0.0, 0.0]


def test_a_fit_names_columns_of_few_values_by_which_likelihood_is_won() -> None:
    flag = np.random.default_rng(0).integers(0, 2, 300)
    table = pa.table({"x": points()["x"], "flag": flag})
    for metric, warned in (("negative_log_likelihood", True), ("silhouette", False)):
        learner = make(Spec("it", "sklearn.cluster.KMeans", ("x", "flag"), metric=metric, task="clustering"))
        said = learner.fit(table, np.zeros(300, dtype=np.int64)).warnings
        assert any("columns of few values have no density: flag (2)" in each for each in said) == warned


def test_the_naive_opponent_takes_the_logarithms_of_the_candidate() -> None:
    """One segment of logarithms is no better than one cluster of them, however much better than one of the amounts."""
    random = np.random.default_rng(0)
    rows = pa.table({"x": np.exp(2 * random.normal(size=500)), "y": random.normal(size=500)})
    learner = make(spec("sklearn.cluster.KMeans", n_clusters=1, n_init=1, log=["x"]))
    learner.fit(rows, np.zeros(500, np.int64))
    problem, ours = learner.spec.problem, learner.predict(rows)[:, 1]
    naive = problem.opponent(learner, np.zeros(500), "negative_log_likelihood", rows)
    assert problem.guess_for(rows, naive)[:, 1] == pytest.approx(ours, abs=0.01)
    of_amounts = problem.naive(np.zeros(500), "negative_log_likelihood", rows)
    assert problem.guess_for(rows, of_amounts)[:, 1].mean() > ours.mean() + 1
