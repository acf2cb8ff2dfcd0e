"""Intervals of a candidate: learned on rows that no fit had seen, by residuals or by fits of two quantiles."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit import learners
from refit.config import Params, parse
from refit.errors import UserError
from refit.learners import Spec, make
from refit.learners.prediction_intervals import IntervalLearner
from refit.problems.regression import Regression
from refit.runtime.context import Context, silent
from refit.schemas.warm_start import WarmStart
from tasks.train import from_scratch, warm
from tasks.train.folds import LabelledRows, development
from tasks.train.interval_margins import with_intervals
from tasks.train.specs import make_all
from tasks.train.trial import fitted

ENSEMBLE = "sklearn.ensemble"
KINDS = {
    "boosting": (f"{ENSEMBLE}.HistGradientBoostingRegressor", {"max_iter": 40, "min_samples_leaf": 30}),
    "older boosting": (f"{ENSEMBLE}.GradientBoostingRegressor", {"n_estimators": 40, "min_samples_leaf": 30}),
    "linear": ("sklearn.linear_model.QuantileRegressor", {"alpha": 0.0}),
    "lightgbm": ("lightgbm.LGBMRegressor", {"n_estimators": 40, "num_threads": 1}),
    "xgboost": ("xgboost.XGBRegressor", {"n_estimators": 40, "max_depth": 3, "n_jobs": 1}),
    "network": ("torch_tabular", {"hidden": [32], "max_epochs": 40, "batch_rows": 128, "learning_rate": 0.02}),
    "baseline": ("baseline", {}),
}


def rows(count: int, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Labels that spread the more the larger x is: a third of a unit at 0, four at the end."""
    random = np.random.default_rng(seed)
    x = np.sort(random.uniform(0, 4, count))[random.permutation(count)]
    times = np.datetime64("2024-01-01", "us") + np.arange(count).astype("timedelta64[m]")
    site = np.array(["a", "b"])[random.integers(0, 2, count)]
    table = pa.table({"event_time": times, "x": x, "noise": random.normal(size=count), "site": site})
    return table, 3 * x + random.normal(size=count) * (0.3 + x)


def params_of(kind: str, **train: Any) -> Params:
    raw: dict[str, Any] = {
        "project": {"name": "demo"},
        "ingest": {"sources": {"s": {"kind": "files", "path": "s.csv", "columns": {"id": "integer"}, "key": ["id"]}}},
        "featurize": {"label": {"source": "s", "column": "y", "delay_hours": 0}},
        "train": {"task": "regression", "learners": [{"name": "it", "kind": kind}], **train},
        "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.0}},
    }
    return parse(raw)


def candidate(kind: str, params: dict[str, Any], count: int = 2000, average: int = 1, **train: Any) -> IntervalLearner:
    (table, labels), asked = rows(count), params_of(kind, **train)
    edge = count * 2 // 3
    windows = LabelledRows(table.slice(0, edge), labels[:edge]), LabelledRows(table.slice(edge), labels[edge:])
    found = development(*windows, asked, Regression())
    spec = Spec("it", kind, ("x", "noise"), params=params, metric="mae", task="regression", average=average)
    trial = fitted(spec, found, asked, silent, size_curves=False)
    learner = make(spec)
    learner.fit(found.whole.rows, found.whole.label, iterations=trial.report.iterations)
    ready = with_intervals(learner, trial, found, asked, silent)
    assert isinstance(ready, IntervalLearner)
    return ready


def held(learner: IntervalLearner, where: slice = slice(None)) -> tuple[float, float]:
    """The share of new labels within, and the mean width."""
    table, labels = rows(6000, seed=9)
    order = np.argsort(table["x"].to_numpy())[where]
    band = learner.interval(table.take(order))
    return float(np.mean((band[:, 0] <= labels[order]) & (labels[order] <= band[:, 1]))), float(np.diff(band).mean())


LONG = (
    "boosting",
    "older boosting",
    "network",
    "linear",
    "xgboost",
)  # the contract holds all three families to quantiles
LIGHT = KINDS["lightgbm"]
NARROW, WIDE = slice(0, 1500), slice(4500, 6000)


def test_the_margin_is_learned_from_rows_that_no_fit_had_seen() -> None:
    """A tree that knows every row by heart misses none of them, and would promise intervals without width."""
    learner = candidate("sklearn.tree.DecisionTreeRegressor", {}, intervals={})
    table, labels = rows(2000)
    assert np.abs(learner.predict(table) - labels).max() < 1e-9
    assert held(learner)[0] == pytest.approx(0.9, abs=0.03)
    by_folds = candidate(
        "sklearn.tree.DecisionTreeRegressor", {}, intervals={}, cross_validation={"kind": "kfold", "folds": 4}
    )
    assert (learner.intervals.common.rows, by_folds.intervals.common.rows) == (667, 2000)
    assert held(by_folds)[0] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("kind", [pytest.param(each, marks=[pytest.mark.slow] * (each in LONG)) for each in KINDS])
def test_every_learner_that_can_be_asked_for_quantiles_is_wide_where_labels_spread(kind: str, tmp_path: Path) -> None:
    learner = candidate(*KINDS[kind], intervals={"by": "quantiles"})
    share, width = held(learner)
    assert share == pytest.approx(0.9, abs=0.03)
    if kind != "baseline":
        assert held(learner, WIDE)[1] > 2 * held(learner, NARROW)[1]
        assert min(held(learner, WIDE)[0], held(learner, NARROW)[0]) > 0.8
    learner.save(tmp_path)
    again = learners.load(tmp_path)
    assert isinstance(again, IntervalLearner)
    assert (again.digest(), held(again)) == (learner.digest(), (share, width))


@pytest.mark.slow
def test_quantiles_hold_everywhere_what_residuals_hold_on_the_whole() -> None:
    plain, varied = (candidate(*LIGHT, intervals={"by": by}) for by in ("residuals", "quantiles"))
    assert held(plain, NARROW)[0] > 0.97 > 0.85 > held(plain, WIDE)[0]
    assert held(varied)[1] < held(plain)[1]
    assert varied.predict(rows(50)[0]).tolist() == plain.predict(rows(50)[0]).tolist()


@pytest.mark.slow
def test_an_average_of_seeds_has_ends_that_are_averages(tmp_path: Path) -> None:
    learner = candidate(LIGHT[0], {**LIGHT[1], "feature_fraction": 0.5}, average=2, intervals={"by": "quantiles"})
    assert learner.ends is not None
    assert [end.spec.average for end in learner.ends] == [2, 2]
    assert held(learner)[0] == pytest.approx(0.9, abs=0.03)
    learner.save(tmp_path)
    assert learners.load(tmp_path).digest() == learner.digest()


def test_a_learner_that_cannot_be_asked_for_a_quantile_is_told_with_those_that_can() -> None:
    spec = Spec("it", "sklearn.svm.SVR", ("x",), task="regression", metric="mae")
    params = params_of("sklearn.svm.SVR", intervals={"by": "quantiles"})
    said = r"learner 'sklearn.svm.SVR' cannot be asked for a quantile; HistGradientBoostingRegressor, .*torch_tabular"
    with pytest.raises(UserError, match=rf"{said} can, .* set train.intervals.by: residuals \(.*learners\[0\].kind\)$"):
        make_all([spec], params)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"within": "sight"}, "train.intervals.within: no column 'sight'; did you mean 'site'?"),
        ({"level": 0.999}, "train.intervals.level 0.999 needs 999 rows that no fit has seen, there are 667; take"),
    ],
)
def test_what_would_stop_the_intervals_is_told_before_anything_is_fitted(
    asked: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, labels = rows(2000)
    monkeypatch.setattr("tasks.train.fitted", lambda *_, **__: pytest.fail("a fit began"))
    windows = LabelledRows(table.slice(0, 1333), labels[:1333]), LabelledRows(table.slice(1333), labels[1333:])
    context = Context(Path(), params_of("baseline", intervals=asked))
    spec = Spec("it", "baseline", ("x",), task="regression", metric="mae")
    with pytest.raises(UserError) as told:
        from_scratch([spec], *windows, context)
    assert said in str(told.value)


def test_a_warm_start_goes_on_from_a_learner_with_intervals_and_learns_new_ones(tmp_path: Path) -> None:
    kind, params = "sklearn.linear_model.SGDRegressor", {"max_iter": 20, "tol": None}
    before = candidate(kind, params, intervals={})
    (tmp_path / "before").mkdir()
    before.save(tmp_path / "before")
    table, labels = rows(3000)
    seen_until = table["event_time"][2000].as_py().replace(tzinfo=UTC)
    start = WarmStart(version="1", folder="before", model_digest="", seen_until=seen_until)
    context = Context(tmp_path, params_of(kind, intervals={}, warm_start="champion"))
    windows = LabelledRows(table.slice(0, 2500), labels[:2500]), LabelledRows(table.slice(2500), labels[2500:])
    trained = warm.go_on(context, [before.spec], start, *windows, opens=None)
    assert isinstance(trained.learner, IntervalLearner)
    assert trained.learner.intervals.common.rows == 200, "the newest fifth of the new rows"
    assert held(trained.learner)[0] == pytest.approx(0.9, abs=0.04)
