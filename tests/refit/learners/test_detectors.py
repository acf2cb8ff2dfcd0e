"""Any scikit-learn outlier detector by its import path: scores, volumes, budget, storage, and bad input."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from quick import quick

from refit.errors import UserError
from refit.learners import Learner, Spec, load, make
from refit.metrics import level_sets
from refit.metrics.level_sets import Volumes, proposal
from refit.problems.anomaly import Anomaly

KINDS: dict[str, dict[str, Any]] = {
    "sklearn.ensemble.IsolationForest": {"n_estimators": 50},
    "sklearn.neighbors.LocalOutlierFactor": {"n_neighbors": 30},
    "sklearn.svm.OneClassSVM": {"nu": 0.05},
    "sklearn.covariance.EllipticEnvelope": {},
    "refit.learners.tails.ECOD": {},
    "refit.learners.tails.COPOD": {},
    "refit.learners.consensus.Consensus": {},
}


OF_PYOD = '''
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors


class Near(BaseEstimator):
    """Scores and stores as detectors of pyod do."""

    def __init__(self, n_neighbors=3):
        self.n_neighbors = n_neighbors

    def fit(self, X):
        self.near_ = NearestNeighbors(n_neighbors=self.n_neighbors).fit(X)
        self.decision_scores_ = self.near_.kneighbors()[0].mean(axis=1)
        return self

    def decision_function(self, X):
        return self.near_.kneighbors(X)[0].mean(axis=1)
'''


def points(rows: int = 600, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Rows around 0, and one in twenty far off; the label says which."""
    random = np.random.default_rng(seed)
    odd = random.random(rows) < 0.05
    x, y = random.normal(0, 1, (2, rows)) + np.where(odd, random.choice([-7.0, 7.0], (2, rows)), 0.0)
    return pa.table({"x": x, "y": pa.array(10 * y, mask=random.random(rows) < 0.02)}), odd.astype(np.int64)


def fitted(kind: str, label: np.ndarray | None = None, **params: Any) -> Learner:
    rows, odd = points()
    learner = make(Spec("it", kind, ("x", "y"), params=params, metric="log_volume", task="anomaly"))
    learner.fit(rows, odd if label is None else label)
    return learner


@pytest.mark.parametrize("kind", quick(KINDS, 0, 1, 2, 4, 5))
def test_a_detector_finds_the_odd_rows_without_their_label_and_comes_back_from_its_file(
    kind: str, tmp_path: Path
) -> None:
    learner, (rows, odd) = fitted(kind, **KINDS[kind]), points(500, seed=1)
    predicted = learner.predict(rows)
    assert Anomaly().check_predictions(predicted, 500) == ""
    assert Anomaly().score("roc_auc", odd, predicted) > 0.8
    assert fitted(kind, np.zeros(600, dtype=np.int64), **KINDS[kind]).digest() == learner.digest()
    assert learner.unsafe_reason() is None
    (tmp_path / "model").mkdir()
    learner.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(rows), predicted)
    assert again.digest() == learner.digest()
    np.testing.assert_allclose(learner.predict(rows.slice(7, 1)), predicted[7:8])  # whatever other rows there are


def test_a_volume_is_that_of_the_points_in_the_units_of_the_columns() -> None:
    random = np.random.default_rng(0)
    drawn, weights = proposal(random.normal(size=(2_000, 2)), seed=0)
    volumes = Volumes.of(np.sqrt((drawn**2).sum(axis=1)), weights, np.log(6.0))
    for radius in (0.3, 0.5, 1.0, 2.0):
        assert np.exp(volumes.log_of(np.array([radius]))[0]) == pytest.approx(6 * np.pi * radius**2, rel=0.25)


@pytest.mark.slow
def test_without_labels_the_log_volume_tells_a_good_detector_from_a_poor_one() -> None:
    rows, _ = points(2_000, seed=1)
    good, poor = (
        Anomaly().score("log_volume", np.zeros(2_000), fitted(kind, **params).predict(rows))
        for kind, params in (
            ("sklearn.ensemble.IsolationForest", {}),
            ("sklearn.ensemble.IsolationForest", {"n_estimators": 1, "max_samples": 4}),
        )
    )
    assert good < poor - 0.5
    units = pa.table({"x": rows["x"], "y": pa.array(rows["y"].to_numpy(zero_copy_only=False) * 1000, from_pandas=True)})
    naive = Anomaly().naive(np.zeros(2_000), "log_volume", rows)
    larger = Anomaly().naive(np.zeros(2_000), "log_volume", units)
    by_naive = [Anomaly().guess_for(*each)[:, 1].mean() for each in ((rows, naive), (units, larger))]
    assert by_naive[1] - by_naive[0] == pytest.approx(np.log(1000))


def test_the_budget_is_the_share_that_is_called_an_anomaly() -> None:
    rows, odd = points(5_000, seed=1)
    predicted = fitted("sklearn.ensemble.IsolationForest", budget=0.05).predict(rows)
    assert predicted[:, 2].mean() == pytest.approx(0.05, abs=0.015)
    problem = Anomaly()
    called = np.array(problem.predicted_values(predicted).to_pylist()) == "anomaly"
    assert problem.score("precision_at_budget", odd, predicted) == pytest.approx(odd[called].mean())
    assert problem.score("recall_at_budget", odd, predicted) == pytest.approx(called[odd == 1].mean())
    assert np.isnan(problem.score("roc_auc", 0 * odd, predicted))


def test_the_naive_distance_and_a_detector_of_the_same_score_have_the_same_volumes() -> None:
    rows, _ = points(2_000)
    numbers = np.nan_to_num(np.column_stack([rows[name].to_numpy() for name in rows.column_names]), nan=0.0)
    naive = Anomaly().naive(np.zeros(2_000), "log_volume", rows)
    by_naive = Anomaly().guess_for(rows, naive)
    scaled = (numbers - naive["mean"]) / naive["deviations"]
    scaled[np.isnan(np.column_stack([rows[name].to_numpy() for name in rows.column_names]))] = 0.0
    drawn, weights = proposal(scaled)
    volumes = Volumes.of(np.sqrt((drawn**2).sum(axis=1)), weights, float(np.log(naive["deviations"]).sum()))
    assert by_naive[:, 1].mean() == pytest.approx(volumes.log_of(by_naive[:, 0]).mean(), abs=0.03)


@pytest.mark.slow
def test_a_column_of_one_value_in_the_training_rows_leaves_the_volumes_finite() -> None:
    rows, odd = points()
    images = rows.append_column("none", pa.array(np.zeros(len(rows))))
    learner = make(Spec("it", "sklearn.ensemble.IsolationForest", ("x", "y", "none"), task="anomaly"))
    learner.fit(images, odd)
    predicted, naive = learner.predict(images), Anomaly().naive(odd, "log_volume", images)
    assert np.isfinite(predicted).all()
    assert np.isfinite(Anomaly().guess_for(images, naive)).all()
    without = fitted("sklearn.ensemble.IsolationForest").predict(rows)
    assert predicted[:, 1].mean() == pytest.approx(without[:, 1].mean(), abs=0.5)


def test_a_naive_distance_stored_before_volumes_had_points_still_judges() -> None:
    old = {"columns": ["x"], "mean": [1.0], "deviations": [2.0], "log_range": np.log(6.0), "budget": 1.5}
    predicted = Anomaly().guess_for(pa.table({"x": [2.0, 9.0]}), old)
    np.testing.assert_allclose(predicted, [[0.5, np.log(2.0), 0], [4.0, np.log(6.0), 1]])


@pytest.mark.slow
def test_volumes_of_many_columns_do_not_overflow() -> None:
    drawn, weights = proposal(np.random.default_rng(0).normal(size=(300, 500)))
    assert np.isfinite(Volumes.of(drawn[:, 0], weights, 0.0).log_volumes).all()


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("sklearn.ensemble.IsolationForest", {"budget": 0.7}, "budget is the share of the rows"),
        ("sklearn.ensemble.IsolationForrest", {}, "did you mean 'sklearn.ensemble.IsolationForest'"),
        ("sklearn.cluster.KMeans", {"n_clusters": 0}, "n_clusters"),
        ("sklearn.linear_model.Ridge", {}, "scores no rows"),
        ("sklearn.svm.OneClassSVM", {"nu": 2.0}, "nu"),
    ],
)
def test_a_detector_that_cannot_be_is_refused_in_a_line(kind: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        fitted(kind, **params)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_volumes_of_pictures_take_little_memory_and_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(level_sets, "POINTS", 400)
    rows = np.random.default_rng(0).normal(size=(400, 784))
    tracemalloc.start()
    _, weights = proposal(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6, "all distances of 400 points to 400 rows in 784 columns have 1,000 MB"
    monkeypatch.setattr(level_sets, "AT_ONCE", 10**9)
    np.testing.assert_array_equal(proposal(rows)[1], weights)


@pytest.mark.parametrize("stored", ["negative_outlier_factor_", "decision_scores_"])
def test_the_budget_of_a_detector_by_neighbours_holds_for_new_rows(stored: str) -> None:
    def rows(seed: int) -> pa.Table:
        values = np.random.default_rng(seed).normal(size=(5, 2_000))
        return pa.table({f"x{number}": column for number, column in enumerate(values)})

    kind, source = "sklearn.neighbors.LocalOutlierFactor", ""
    if stored == "decision_scores_":
        kind, source = "near.py:Near", OF_PYOD
    names = tuple(f"x{number}" for number in range(5))
    params = {"n_neighbors": 3, "budget": 0.05}
    learner = make(Spec("it", kind, names, params=params, task="anomaly", source=source, trusted_types=(kind,)))
    learner.fit(rows(0), np.zeros(2_000, dtype=np.int64))
    assert learner.predict(rows(1))[:, 2].mean() == pytest.approx(0.05, abs=0.015)
