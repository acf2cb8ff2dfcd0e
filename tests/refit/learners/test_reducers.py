"""Any scikit-learn transformer or map of rows by its import path: what it restores, and where new rows lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.errors import UserError
from refit.learners import Spec, load, make
from refit.learners.contract import judged_by
from refit.learners.reducer import Reducer
from refit.problems.reduction import Reduction

KINDS: dict[str, dict[str, Any]] = {
    "sklearn.decomposition.PCA": {"n_components": 2},
    "sklearn.decomposition.TruncatedSVD": {"n_components": 2},
    "sklearn.decomposition.NMF": {"n_components": 2, "scale": False, "max_iter": 500},
    "sklearn.decomposition.KernelPCA": {"n_components": 2},
    "refit.learners.networks.autoencoder.Autoencoder": {"n_components": 2, "epochs": 60},
    "sklearn.manifold.Isomap": {"n_components": 2},
    "sklearn.manifold.TSNE": {"n_components": 2, "perplexity": 20},
    "umap.UMAP": {"n_components": 2},
}
NAMES = tuple(f"x{n}" for n in range(6))


def points(rows: int = 200, seed: int = 0) -> pa.Table:
    """Rows near a plane in six dimensions, which are positive."""
    random = np.random.default_rng(seed)
    axes = np.random.default_rng(9).random((2, 6))
    values = 5 + random.normal(0, 1, (rows, 2)) @ axes + random.normal(0, 0.01, (rows, 6))
    return pa.table(dict(zip(NAMES, values.T, strict=True)))


def fitted(kind: str, rows: pa.Table | None = None, **params: Any) -> Reducer:
    spec = Spec("it", kind, NAMES, params=params, metric="reconstruction_error", task="reduction")
    learner, table = make(spec), points() if rows is None else rows
    learner.fit(table, np.zeros(len(table), dtype=np.int64))
    assert isinstance(learner, Reducer)
    return learner


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind == "umap.UMAP" else []) for kind in KINDS]
)
def test_a_reduction_places_new_rows_restores_them_and_comes_back_from_its_file(kind: str, tmp_path: Path) -> None:
    if kind.startswith("umap"):
        pytest.importorskip("umap", reason="needs the extra [umap]")
    learner, new = fitted(kind, **KINDS[kind]), points(80, seed=1)
    predicted = learner.predict(new)
    assert Reduction().check_predictions(predicted, 80) == ""
    naive = Reduction().naive(np.zeros(200), "reconstruction_error", points())
    ours, mean = (
        Reduction().score("reconstruction_error", np.zeros(80), p)
        for p in (predicted, Reduction().guess_for(new, naive))
    )
    assert ours < 0.2 * mean
    assert predicted[:, 1].mean() > 0.9
    (tmp_path / "model").mkdir()
    learner.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(new), predicted)
    assert again.digest() == learner.digest()
    assert learner.unsafe_reason() is None
    np.testing.assert_allclose(learner.predict(new.slice(7, 1)), predicted[7:8], atol=1e-9)


def test_pca_loses_what_scikit_learn_says_in_the_units_of_the_features() -> None:
    from sklearn.decomposition import PCA

    rows = points()
    x = np.column_stack([rows[name].to_numpy() for name in NAMES])
    plain = PCA(1).fit(x)
    lost = ((x - plain.inverse_transform(plain.transform(x))) ** 2).mean(axis=1)
    ours = fitted("sklearn.decomposition.PCA", n_components=1, scale=False).predict(rows)
    np.testing.assert_allclose(ours[:, 0], lost, rtol=1e-9)
    assert (ours[:, 3] == 0).all()
    twice = rows.set_column(5, "x5", rows["x0"])  # five dimensions in six columns
    scaled = fitted("sklearn.decomposition.PCA", twice, n_components=5).predict(twice)
    np.testing.assert_allclose(scaled[:, 0], 0, atol=1e-20)


@pytest.mark.slow
def test_an_autoencoder_restores_what_lies_on_a_curve_which_no_plane_does() -> None:
    t = np.random.default_rng(0).uniform(-3, 3, 600)
    table = pa.table({"x": t, "y": t**2, "z": np.abs(t)})
    loss = {}
    for kind, more in (
        ("refit.learners.networks.autoencoder.Autoencoder", {"epochs": 150, "learning_rate": 0.01}),
        ("sklearn.decomposition.PCA", {}),
    ):
        spec = Spec("it", kind, ("x", "y", "z"), params={"n_components": 1, **more}, task="reduction")
        learner = make(spec)
        learner.fit(table, np.zeros(600, dtype=np.int64))
        loss[kind.rpartition(".")[2]] = float(learner.predict(table)[:, 0].mean())
    assert loss["Autoencoder"] < 0.5 * loss["PCA"]


def test_a_map_of_chance_is_trusted_by_a_half() -> None:
    random, learner = np.random.default_rng(0), fitted("sklearn.decomposition.PCA", n_components=2)
    assert learner.predict(points(seed=3))[:, 1].mean() > 0.99
    learner._placed = random.permutation(learner._placed)
    assert learner.predict(points(seed=3))[:, 1].mean() == pytest.approx(0.5, abs=0.05)


def test_a_missing_value_is_the_mean_and_costs_nothing() -> None:
    rows = points(3).set_column(0, "x0", pa.nulls(3, pa.float64()))
    predicted = fitted("sklearn.decomposition.PCA", n_components=2).predict(rows)
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("refit.learners.networks.autoencoder.Autoencoder", {"epochs": 0}, "epochs is a positive number; found 0"),
        ("sklearn.decomposition.PCA", {"n_components": 20}, "n_components=20 must be between 0 and"),
        (
            "sklearn.decomposition.PCA",
            {"n_components": 6},
            "6 coordinates of 6 columns that vary, which is no reduction",
        ),
        ("sklearn.preprocessing.StandardScaler", {}, "set n_components to 5 at most"),
        ("sklearn.decomposition.NMF", {"n_components": 2}, "Negative values in data"),
        ("sklearn.decomposition.PCAA", {}, "did you mean 'sklearn.decomposition.PCA'"),
        ("sklearn.linear_model.Ridge", {}, "places no rows"),
        ("sklearn.decomposition.PCA", {"scale": "yes"}, "scale is true or false"),
    ],
)
def test_a_reduction_that_cannot_be_is_refused_in_a_line(kind: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        fitted(kind, **params)
    assert "\n" not in str(caught.value)


def test_a_new_row_of_a_map_lies_in_the_midst_of_its_neighbours_and_never_between_groups() -> None:
    learner, new = fitted("sklearn.manifold.TSNE", n_components=2, perplexity=20), points(1, seed=5)
    rows = learner._points(learner._encoding.matrix(new))
    order = np.argsort(((learner._reference - rows) ** 2).sum(axis=1))
    places = np.full_like(learner._placed, 50.0)
    places[order[:7]] = np.arange(14).reshape(7, 2) / 10  # seven of the ten nearest lie together
    places[order[7:10]] = 100.0
    learner._placed = places
    (place,) = learner.coordinates(new)
    assert place.max() < 2
    assert (places == place).all(axis=1).any()


@pytest.mark.filterwarnings("error")
def test_neighbours_are_those_in_the_units_of_the_features_whatever_a_model_scales() -> None:
    rows = points(300)
    units = rows.set_column(0, "x0", pa.array(rows["x0"].to_numpy() * 1000))
    trusted = []
    for scale in (True, False):
        learner = fitted("sklearn.decomposition.PCA", units, n_components=1, scale=scale)
        original = learner._scaling.original
        learner._placed = original(learner._reference.astype(float))[:, 1:2]
        learner._embed = lambda points, original=original: original(points)[:, 1:2]  # one map for both
        trusted.append(learner.predict(units)[:, 1])
    np.testing.assert_allclose(*trusted, atol=0.01)


def test_a_map_stored_before_distances_were_in_the_features_units_gives_the_same_predictions(tmp_path: Path) -> None:
    learner = fitted("sklearn.decomposition.PCA", n_components=1)
    learner._in_features = False
    before, new = learner.predict(points(50, seed=1)), points(50, seed=1)
    learner.save(tmp_path)
    assert "in_features" not in (tmp_path / "model.json").read_text()  # as such a file is
    np.testing.assert_array_equal(load(tmp_path).predict(new), before)


def test_a_champion_stored_before_is_judged_by_the_same_distances_as_a_candidate(tmp_path: Path) -> None:
    rows = points(300)
    units = rows.set_column(0, "x0", pa.array(rows["x0"].to_numpy() * 1000))
    candidate = fitted("sklearn.decomposition.PCA", units, n_components=1)
    candidate._in_features = False
    candidate.save(tmp_path)
    champion = load(tmp_path)
    candidate._in_features = True
    before = champion.predict(units)
    assert not np.array_equal(before, candidate.predict(units))
    np.testing.assert_array_equal(judged_by(champion, candidate.spec).predict(units), candidate.predict(units))
    np.testing.assert_array_equal(champion.predict(units), before)


def test_the_opponent_of_a_map_is_the_principal_components_of_its_width() -> None:
    from sklearn.decomposition import PCA

    rows, new = points(), points(80, seed=1)
    label = np.zeros(200, dtype=np.int64)
    curved = fitted("sklearn.decomposition.KernelPCA", n_components=1)
    naive = Reduction().opponent(curved, label, "reconstruction_error", rows)
    x, y = (np.column_stack([table[name].to_numpy() for name in NAMES]) for table in (rows, new))
    plain = PCA(1).fit(x)
    lost = ((y - plain.inverse_transform(plain.transform(y))) ** 2).mean(axis=1)
    np.testing.assert_allclose(Reduction().guess_for(new, naive)[:, 0], lost, rtol=1e-6)
    of_mean = Reduction().naive(label, "reconstruction_error", rows)
    assert lost.mean() < Reduction().guess_for(new, of_mean)[:, 0].mean()
    linear = fitted("sklearn.decomposition.PCA", n_components=1)
    assert Reduction().opponent(linear, label, "reconstruction_error", rows) == of_mean  # which it cannot beat


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("sklearn.decomposition.IncrementalPCA", {}),
        ("sklearn.decomposition.TruncatedSVD", {}),
        ("sklearn.decomposition.NMF", {"scale": False, "max_iter": 500}),
        ("sklearn.decomposition.FastICA", {}),
        ("sklearn.decomposition.SparsePCA", {"max_iter": 50}),
        ("sklearn.decomposition.KernelPCA", {"kernel": "rbf", "fit_inverse_transform": True}),
        ("sklearn.decomposition.FactorAnalysis", {}),
        ("refit.learners.networks.autoencoder.Autoencoder", {"epochs": 5}),
    ],
)
def test_whatever_restores_rows_linearly_is_compared_with_the_mean(kind: str, params: dict[str, Any]) -> None:
    rows, label = points(), np.zeros(200, dtype=np.int64)
    learner = fitted(kind, n_components=2, **params)
    opponent = Reduction().opponent(learner, label, "reconstruction_error", rows)
    curved = kind.rpartition(".")[2] in ("KernelPCA", "FactorAnalysis", "Autoencoder")  # FactorAnalysis restores none
    assert ("components" in opponent) == curved
    lost = learner.predict(rows)[:, 0].mean()
    principal = fitted("sklearn.decomposition.PCA", n_components=2, scale=False).predict(rows)[:, 0].mean()
    assert curved or lost >= principal * (1 - 1e-9), "principal components lose the least"


def test_one_column_cannot_be_reduced_and_the_error_asks_for_no_fewer_coordinates() -> None:
    rows = points()
    for name in NAMES[1:]:
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(np.ones(200)))
    with pytest.raises(UserError, match=r"1 coordinates of 1 columns that vary, .*: give it two such columns or more"):
        fitted("sklearn.decomposition.PCA", rows, n_components=1)
