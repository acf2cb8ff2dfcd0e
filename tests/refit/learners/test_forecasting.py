"""Learners around another one: changes from a level, and forecasts that go on from themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config import ForecastParams
from refit.errors import UserError
from refit.learners import Learner, Spec, load, make
from refit.learners.quantiles import quantile_of
from refit.learners.recursive import unfit

LAGS = ("sold_1h", "sold_2h", "sold_3h")
RIDGE: dict[str, Any] = {"kind": "sklearn.linear_model.Ridge", "params": {"alpha": 1e-6}}


def rows(horizons: tuple[int, ...] = (1, 2, 5), count: int = 300) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """Short series that begin anywhere, each step of which its last three and the hour of a four-hour day decide."""
    chance = np.random.default_rng(2)
    columns: dict[str, list[float]] = {name: [] for name in (*LAGS, "horizon", "hour")}
    label = []
    for moment in range(count):
        series = list(chance.normal(0, 10, 3))
        for step in range(max(horizons)):
            series.append(0.5 * series[-1] - 0.4 * series[-2] + 0.2 * series[-3] + 3 * ((moment + step) % 4))
        for horizon in horizons:
            for back, name in enumerate(LAGS, start=1):
                columns[name].append(series[3 - back])
            columns["horizon"].append(horizon)
            columns["hour"].append((moment + horizon - 1) % 4)
            label.append(series[2 + horizon])
    return pa.table(columns), np.array(label)


def spec_of(table: pa.Table, family: str, /, **params: Any) -> Spec:
    return Spec("it", family, tuple(table.column_names), params=params, metric="mae", task="regression")


def tree(**params: Any) -> dict[str, Any]:
    return {"kind": "sklearn.tree.DecisionTreeRegressor", "params": params}


def fitted(spec: Spec, table: pa.Table, label: np.ndarray[Any, Any]) -> Learner:
    learner = make(spec)
    learner.fit(table, label)
    return learner


def test_a_recursive_forecast_goes_on_from_its_own_steps() -> None:
    """What the next step follows from is learned exactly, so that five steps ahead are exact as well."""
    table, label = rows()
    spec = spec_of(table, "recursive", lags="sold", cycles={"hour": 4}, **RIDGE)
    assert fitted(spec, table, label).predict(table) == pytest.approx(label, abs=1e-4)
    without = fitted(replace(spec, params={"lags": "sold", **RIDGE}), table, label)
    assert np.abs(without.predict(table) - label).max() > 1, "it sees no more than lags and cycles"


def test_a_row_is_forecast_by_itself_whatever_lies_next_to_it() -> None:
    table, label = rows()
    learner = fitted(spec_of(table, "recursive", lags="sold", cycles={"hour": 4}, **RIDGE), table, label)
    whole = learner.predict(table)
    backwards = table.take(np.arange(table.num_rows)[::-1])
    assert learner.predict(backwards)[::-1] == pytest.approx(whole)
    assert learner.predict(table.slice(17, 1))[0] == pytest.approx(whole[17])


def test_it_is_fitted_to_the_next_step_alone() -> None:
    table, label = rows()
    far = table["horizon"].to_numpy() > 1
    spoilt = np.where(far, 1e6, label)
    spec = spec_of(table, "recursive", lags="sold", cycles={"hour": 4}, **RIDGE)
    assert fitted(spec, table, spoilt).digest() == fitted(spec, table, label).digest()
    with pytest.raises(UserError, match="put 1 among the horizons"):
        fitted(spec, table.filter(far), label[far])


def growing(start: float, count: int = 200) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    chance = np.random.default_rng(4)
    level = start * np.linspace(1, 2, count)
    weekday = chance.integers(0, 7, count)
    table = pa.table({"mean": level, "last": level * 1.1, "weekday": weekday.astype(float)})
    return table, level * (1 + (weekday > 4))


def test_changes_from_a_level_hold_far_above_all_levels_that_were_seen() -> None:
    table, label = growing(100)
    later, came = growing(1000)
    spec = spec_of(table, "relative", level="mean", scaled=["last"], **tree(max_depth=4))
    assert fitted(spec, table, label).predict(later) == pytest.approx(came, rel=0.02)
    plain = fitted(replace(spec, kind=tree()["kind"], params={"max_depth": 4}), table, label)
    assert plain.predict(later).max() <= label.max()


def test_a_quantile_of_changes_is_asked_of_the_inner_learner() -> None:
    table, label = growing(100)
    chance = np.random.default_rng(5)
    noisy = label * chance.uniform(0.5, 1.5, len(label))
    inner = {"kind": "sklearn.ensemble.GradientBoostingRegressor", "params": {"n_estimators": 40, "max_depth": 2}}
    spec = spec_of(table, "relative", level="mean", scaled=["last"], **inner)
    shares = [np.mean(noisy <= fitted(quantile_of(spec, at), table, noisy).predict(table)) for at in (0.1, 0.9)]
    assert shares == pytest.approx([0.1, 0.9], abs=0.05)
    with pytest.raises(UserError, match="cannot be asked for a quantile"):
        quantile_of(spec_of(table, "relative", level="mean", **RIDGE), 0.1)


@pytest.mark.parametrize("asked", [{"metric": "mape"}, {"metric": "mae", "early_stopping_metric": "smape"}])
def test_changes_are_learned_for_a_metric_of_shares(asked: dict[str, Any]) -> None:
    """The change is 0 wherever the label is the level."""
    table, label = growing(100)
    inner = {"kind": "sklearn.ensemble.GradientBoostingRegressor", "params": {"n_estimators": 30}}
    by_mae = spec_of(table, "relative", level="mean", scaled=["last"], **inner)
    learner, unseen = make(replace(by_mae, **asked)), (table.slice(150), label[150:])
    report = learner.fit(table.slice(0, 150), label[:150], validation=unseen)
    assert report == make(by_mae).fit(table.slice(0, 150), label[:150], validation=unseen)
    assert learner.spec.stopping_metric.name == "mae", "reports name what the curve is of"


def test_a_difference_is_for_numbers_below_zero() -> None:
    table, label = growing(100)
    below = pa.table({**{name: table[name] for name in table.column_names}, "mean": table["mean"].to_numpy() - 500})
    spec = spec_of(below, "relative", level="mean", **RIDGE)
    with pytest.raises(UserError, match=r"labels are negative.*set change: difference"):
        fitted(spec, below, label - 500)
    learner = fitted(replace(spec, params={**spec.params, "change": "difference"}), below, label - 500)
    assert np.isfinite(learner.predict(below)).all()


def test_a_row_without_a_level_is_told_by_the_usual_one() -> None:
    table, label = growing(100)
    learner = fitted(spec_of(table, "relative", level="mean", scaled=["last"], **tree(max_depth=4)), table, label)
    usual = float(np.median(table["mean"].to_numpy()))
    without = table.slice(0, 1).set_column(0, "mean", pa.array([None], pa.float64()))
    given = table.slice(0, 1).set_column(0, "mean", pa.array([usual]))
    assert learner.predict(without) == pytest.approx(learner.predict(given), rel=0.01)


@pytest.mark.parametrize("kind", ["relative", "recursive"])
def test_what_is_stored_is_what_was_fitted(kind: str, tmp_path: Path) -> None:
    table, label = rows() if kind == "recursive" else growing(100)
    own = {"lags": "sold", "cycles": {"hour": 4}} if kind == "recursive" else {"level": "mean", "scaled": ["last"]}
    learner = fitted(spec_of(table, kind, **own, **RIDGE), table, label)
    learner.save(tmp_path)
    again = load(tmp_path)
    assert again.digest() == learner.digest()
    assert (again.predict(table) == learner.predict(table)).all()
    assert again.unsafe_reason() is None


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("relative", RIDGE, "needs .*`level`"),
        ("relative", {"level": "sold_1", **RIDGE}, "did you mean 'sold_1h'"),
        ("relative", {"level": "sold_1h", "scaled": ["sald_*"], **RIDGE}, "'sald_\\*' matches no feature"),
        ("relative", {"level": "sold_1h", "change": "percent", **RIDGE}, "change is ratio or difference"),
        ("relative", {"level": "sold_1h"}, "needs `kind`"),
        ("relative", {"level": "sold_1h", "kind": "sklearn.linear_model.Rigde"}, "Rigde' is unknown"),
        ("recursive", {"lags": "slod", **RIDGE}, "did you mean 'sold'"),
        ("recursive", {"lags": "sold", "cycles": {"our": 4}, **RIDGE}, "did you mean 'hour'"),
        ("recursive", {"lags": "sold", "cycle": {}, **RIDGE}, "takes no 'cycle'; did you mean 'cycles'"),
    ],
)
def test_a_mistake_is_one_line_that_helps(kind: str, params: dict[str, Any], said: str) -> None:
    table, _ = rows()
    with pytest.raises(UserError, match=said) as caught:
        make(spec_of(table, kind, **params))
    assert "\n" not in str(caught.value)


def test_a_cycle_that_does_not_count_from_nought_is_refused() -> None:
    table, label = rows()
    from_one = table.set_column(table.column_names.index("hour"), "hour", pa.array(table["hour"].to_numpy() + 1))
    with pytest.raises(UserError, match=r"cycle 'hour' counts from 0 to 3, and the feature is from 1 to 4"):
        fitted(spec_of(from_one, "recursive", lags="sold", cycles={"hour": 4}, **RIDGE), from_one, label)


def test_a_label_a_little_below_zero_has_no_ratio_either() -> None:
    table, label = growing(100)
    with pytest.raises(UserError, match="1 label is negative"):
        fitted(
            spec_of(table, "relative", level="mean", **RIDGE), table, np.where(np.arange(len(label)) == 3, -0.5, label)
        )


def test_a_lag_of_a_day_is_not_taken_for_one_of_an_hour() -> None:
    table, label = rows()
    more = table.append_column("sold_1d", pa.array(np.full(table.num_rows, 1e3)))
    learner = fitted(spec_of(more, "recursive", lags="sold", cycles={"hour": 4}, **RIDGE), more, label)
    assert learner.predict(more) == pytest.approx(label, abs=1e-4)


@pytest.mark.parametrize(
    ("step", "horizons", "said"),
    [
        ("1h", [1, 2], ""),
        ("2h", [1, 2], "there is no feature 'sold_2h'"),
        ("1h", [2, 5], "put 1 among the horizons"),
    ],
)
def test_a_recursive_learner_goes_by_the_steps_of_the_forecasts(step: str, horizons: list[int], said: str) -> None:
    table, _ = rows()
    spec = spec_of(table.drop_columns(["sold_2h"]), "recursive", lags="sold", **RIDGE)
    found = unfit(spec, ForecastParams(of="rows", step=step, horizons=tuple(horizons)))
    assert found.count(said) == 1 if said else not found
