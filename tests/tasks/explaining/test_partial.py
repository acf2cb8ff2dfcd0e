"""Partial dependence: the mean prediction at each value of a feature, of any learner, in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.explaining.partial import MOST_POINTS, partial_dependence
from tasks.learners import Spec, make
from tasks.learners.encoding import Encoding


def rows(count: int = 400) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table(
        {
            "strength": random.normal(size=count),
            "visits": random.integers(0, 4, count),
            "noise": [None if value > 1 else value for value in random.normal(size=count)],
            "colour": random.choice(["red", "green", "blue"], count, p=[0.5, 0.3, 0.2]),
        }
    )


def fitted(table: pa.Table, task: str, kind: str, **params: Any) -> Any:
    strength = table["strength"].to_numpy()
    score = strength + (np.array(table["colour"].to_pylist()) == "red")
    label = {"regression": score, "binary": (score > 0).astype(int), "multiclass": np.digitize(score, (-0.5, 0.8))}
    classes = ("a", "b", "c") if task == "multiclass" else ()
    spec = Spec(
        "one", kind, tuple(table.column_names), frozenset({"colour"}), params, task=task, metric="mae", classes=classes
    )
    learner = make(spec)
    learner.fit(table, label[task])
    return learner


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("binary", "sklearn.ensemble.HistGradientBoostingClassifier"),
        ("multiclass", "sklearn.linear_model.LogisticRegression"),
        ("regression", "sklearn.tree.DecisionTreeRegressor"),
    ],
)
def test_it_is_the_mean_prediction_of_rows_with_one_value(task: str, kind: str) -> None:
    table = rows()
    learner = fitted(table, task, kind)
    found = {each["name"]: each for each in partial_dependence(learner, table, table.column_names)}
    assert found["strength"]["kind"] == "number"
    assert len(found["strength"]["values"]) == MOST_POINTS
    assert found["visits"]["values"] == [0, 1, 2, 3]
    assert found["colour"]["values"] == ["red", "green", "blue"]
    for name, each in found.items():
        for value, mean in zip(each["values"], each["mean"], strict=True):
            place = table.column_names.index(name)
            one = pa.array([value] * len(table), table.schema.field(name).type)
            expected = learner.predict(table.set_column(place, name, one)).mean(axis=0)
            assert np.asarray(mean) == pytest.approx(expected, abs=1e-9), (name, value)


def test_a_line_of_a_linear_model_has_its_slope_and_all_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows()
    learner = fitted(table, "regression", "sklearn.linear_model.LinearRegression")
    calls: list[int] = []
    encoded = Encoding.matrix
    monkeypatch.setattr(Encoding, "matrix", lambda self, table: calls.append(table.num_rows) or encoded(self, table))
    strength, noise = partial_dependence(learner, table, ("strength", "noise"))
    assert len(calls) == 1
    assert np.diff(strength["mean"]) / np.diff(strength["values"]) == pytest.approx(1.0, abs=1e-6)
    assert np.diff(noise["mean"]) == pytest.approx(0.0, abs=1e-6)


def test_a_number_that_is_mostly_zero_still_has_points_where_it_is_not() -> None:
    rain = np.where(np.arange(400) % 20 == 0, np.arange(400) / 100, 0.0)
    table = rows().append_column("rain", pa.array(rain))
    learner = fitted(table, "regression", "sklearn.linear_model.LinearRegression")
    (found,) = partial_dependence(learner, table, ("rain",))
    assert len(found["values"]) == MOST_POINTS
    assert found["values"][-1] == 3.8


def test_a_feature_of_one_value_or_none_is_not_told() -> None:
    table = rows()
    table = table.append_column("same", pa.array([1.0] * len(table))).append_column("empty", pa.nulls(len(table)))
    learner = fitted(table, "binary", "sklearn.ensemble.HistGradientBoostingClassifier", max_iter=3)
    assert [each["name"] for each in partial_dependence(learner, table, ("same", "strength", "empty"))] == ["strength"]
    assert partial_dependence(learner, table, ("same",)) == []
