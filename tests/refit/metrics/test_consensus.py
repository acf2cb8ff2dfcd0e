"""Where no label says which detector is right, what simple detectors agree on is the measure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from refit.gate.comparison import Sample, gain
from refit.learners import Spec, make
from refit.metrics.clusters import Clusters
from refit.metrics.consensus import FEWEST, agreed
from refit.problems.anomaly import MOST_AGREEING, MOST_COLUMNS, Anomaly

PROBLEM = Anomaly()
Score = Callable[[pa.Table], np.ndarray]
KINDS = {
    "sklearn.ensemble.IsolationForest": {},
    "sklearn.neighbors.LocalOutlierFactor": {"n_neighbors": 30},
    "sklearn.svm.OneClassSVM": {"nu": 0.05},
    "sklearn.covariance.EllipticEnvelope": {},
    "refit.learners.tails.ECOD": {},
    "refit.learners.tails.COPOD": {},
}


def points(rows: int, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Rows around 0, and one in thirty far off in all four columns; the labels say which."""
    random = np.random.default_rng(seed)
    odd = random.random(rows) < 0.03
    values = random.normal(size=(rows, 4)) + 6 * random.choice([-1, 1], (rows, 4)) * odd[:, None]
    return table(values), odd.astype(np.int64)


def table(values: np.ndarray) -> pa.Table:
    return pa.table({f"x{index}": column for index, column in enumerate(values.T)})


def score(of: Callable[[np.ndarray], np.ndarray]) -> Score:
    def predict(rows: pa.Table) -> np.ndarray:
        values = np.column_stack([rows[name].to_numpy() for name in rows.column_names])
        return np.column_stack([of(values), np.zeros(len(values)), np.zeros(len(values))])

    return predict


DISTANCE = score(lambda values: (values**2).sum(axis=1))
ONE_COLUMN = score(lambda values: np.abs(values[:, 0]))
CHANCE = score(lambda values: np.random.default_rng(9).random(len(values)))


def judged(predict: Score, rows: pa.Table) -> np.ndarray:
    return PROBLEM.judged(predict, rows, PROBLEM.reference(rows))


def agreement(predict: Score, rows: pa.Table) -> float:
    return PROBLEM.score("agreement", np.zeros(len(rows)), judged(predict, rows))


def test_what_detectors_agree_on_are_the_odd_rows_though_no_label_says_so() -> None:
    rows, odd = points(500)
    values = np.column_stack([rows[name].to_numpy() for name in rows.column_names])
    assert roc_auc_score(odd, agreed(values)) > 0.99
    assert agreement(DISTANCE, rows) > 0.8 > agreement(ONE_COLUMN, rows) > 0.2 > abs(agreement(CHANCE, rows))


@pytest.mark.slow
def test_agreement_depends_on_no_unit_and_on_no_other_scale_of_the_score() -> None:
    rows, _ = points(300)
    values = np.column_stack([rows[name].to_numpy() for name in rows.column_names])
    metres = table(values * [1, 1000, 0.01, 1])
    squared = score(lambda each: (each**2).sum(axis=1) ** 2)
    inches = score(lambda each: ((each / [1, 1000, 0.01, 1]) ** 2).sum(axis=1))
    assert agreement(inches, metres) == pytest.approx(agreement(DISTANCE, rows), abs=1e-6)
    assert agreement(squared, rows) == agreement(DISTANCE, rows)


def test_a_difference_of_agreement_has_an_interval_and_is_0_for_equal_models() -> None:
    rows, _ = points(400)
    sample = Sample(np.zeros(400, dtype=np.int64), Clusters.rows(400), PROBLEM)
    good, poor = judged(DISTANCE, rows), judged(ONE_COLUMN, rows)
    assert gain("agreement", sample, good, poor).lower(0.05) > 0
    same = gain("agreement", sample, good, good)
    assert (same.value, same.standard_error) == (0.0, 0.0)


def test_too_few_rows_agree_on_nothing() -> None:
    assert not agreed(np.zeros((FEWEST - 1, 2))).any()
    assert np.isnan(agreement(DISTANCE, points(FEWEST - 1)[0]))


def with_chance(rows: int, columns: int) -> pa.Table:
    """The odd rows of `points`, with columns of small chance numbers."""
    values, _ = points(rows)
    for number in range(columns - 4):
        values = values.append_column(f"more{number}", pa.array(np.random.default_rng(number).normal(0, 0.01, rows)))
    return values


@pytest.mark.slow
def test_agreement_needs_no_points_so_that_it_is_known_of_many_columns_and_of_pictures() -> None:
    wide = with_chance(200, MOST_COLUMNS + 1)
    assert agreement(DISTANCE, wide) > agreement(CHANCE, wide) + 0.3
    predicted = judged(DISTANCE, wide)
    assert PROBLEM.score("log_volume", np.zeros(200), predicted) == predicted[:, 1].mean(), "a model's own volumes"
    assert np.isnan(PROBLEM.score("excess_mass", np.zeros(200), predicted))
    numbers = np.random.default_rng(0).integers(0, 200, (60, 16)).astype(np.uint8)
    numbers[:3] = 255
    pictures = pa.table({"picture": [row.tobytes() for row in numbers]})
    bright: Score = lambda rows: np.column_stack([numbers.mean(axis=1), *np.zeros((2, 60))])  # noqa: E731
    assert agreement(bright, pictures) > 0.3
    assert PROBLEM.reference(with_chance(30, MOST_AGREEING + 1)) is None


def labelled() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Public sets that scikit-learn carries, with few of one class left."""
    cancer, wine, digits = load_breast_cancer(), load_wine(), load_digits()
    coordinates = PCA(8, random_state=0).fit_transform(digits.data)
    pair = np.isin(digits.target, (1, 4))
    sets = {
        "breast cancer": (cancer.data, cancer.target == 0, 0.08),
        "wine": (wine.data, wine.target == 0, 0.08),
        "digits, 4 among 1": (coordinates[pair], digits.target[pair] == 4, 0.06),
        "digits, 0 among all": (coordinates, digits.target == 0, 0.03),
    }
    return {name: _with_few(*each) for name, each in sets.items()}


def _with_few(values: np.ndarray, odd: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    usual, rare = np.flatnonzero(~odd), np.flatnonzero(odd)
    count = max(5, round(share * len(usual) / (1 - share)))
    rows = random.permutation(np.concatenate([usual, random.choice(rare, count, replace=False)]))
    return values[rows].astype(np.float64), odd[rows].astype(np.int64)


@pytest.mark.slow
def test_on_labelled_sets_it_chooses_better_detectors_than_volumes_do() -> None:
    """Compared with the best that the labels would have chosen; docs/unsupervised.md has more sets."""
    lost: dict[str, list[float]] = {"agreement": [], "log_volume": []}
    for values, odd in labelled().values():
        half = len(values) // 2
        train, test = table(values[:half]), table(values[half:])
        scores: dict[str, dict[str, float]] = {name: {} for name in ("agreement", "log_volume", "roc_auc")}
        for kind, params in KINDS.items():
            names = tuple(train.column_names)
            learner = make(Spec("it", kind, names, params=params, metric="agreement", task="anomaly"))
            learner.fit(train, np.zeros(half, dtype=np.int64))
            predicted = judged(learner.predict, test)
            for metric, of_kinds in scores.items():
                of_kinds[kind] = PROBLEM.score(metric, odd[half:], predicted)
        chosen = {
            "agreement": max(scores["agreement"], key=scores["agreement"].__getitem__),
            "log_volume": min(scores["log_volume"], key=scores["log_volume"].__getitem__),
        }
        for metric, kind in chosen.items():
            lost[metric].append(max(scores["roc_auc"].values()) - scores["roc_auc"][kind])
    assert np.mean(lost["agreement"]) < 0.08
    assert np.mean(lost["agreement"]) < np.mean(lost["log_volume"]) - 0.05
