"""Partial dependence: the mean prediction at each value of a feature, of any learner, in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.explanations.partial import MOST_POINTS, partial_dependence
from refit.learners.encoding import Encoding

Fit = Callable[..., Any]


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("binary", "sklearn.ensemble.HistGradientBoostingClassifier"),
        ("multiclass", "sklearn.linear_model.LogisticRegression"),
        ("regression", "sklearn.tree.DecisionTreeRegressor"),
    ],
)
def test_it_is_the_mean_prediction_of_rows_with_one_value(rows: pa.Table, fitted: Fit, task: str, kind: str) -> None:
    table, learner = rows, fitted(task, kind)
    found = {each.name: each for each in partial_dependence(learner, table, table.column_names)}
    assert found["strength"].kind == "number"
    assert len(found["strength"].values) == MOST_POINTS
    assert found["visits"].values == (0, 1, 2, 3)
    assert found["colour"].values == ("red", "green", "blue")
    for name, each in found.items():
        for value, mean in zip(each.values, each.mean, strict=True):
            place = table.column_names.index(name)
            one = pa.array([value] * len(table), table.schema.field(name).type)
            expected = learner.predict(table.set_column(place, name, one)).mean(axis=0)
            assert np.asarray(mean) == pytest.approx(expected, abs=1e-9), (name, value)


def test_a_line_of_a_linear_model_has_its_slope_and_all_is_one_call(
    rows: pa.Table, fitted: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = fitted("regression", "sklearn.linear_model.LinearRegression")
    calls: list[int] = []
    encoded = Encoding.matrix
    monkeypatch.setattr(Encoding, "matrix", lambda self, table: calls.append(table.num_rows) or encoded(self, table))
    strength, visits = partial_dependence(learner, rows, ("strength", "visits"))
    assert len(calls) == 1
    for line in (strength, visits):
        slopes = np.diff(line.mean) / np.diff(line.values)
        assert slopes == pytest.approx(slopes[0], abs=1e-6)


def test_a_number_that_is_mostly_zero_still_has_points_where_it_is_not(rows: pa.Table, fitted: Fit) -> None:
    rain = pa.array(np.where(np.arange(400) % 20 == 0, np.arange(400) / 100, 0.0))
    table = rows.set_column(rows.column_names.index("visits"), "visits", rain)
    (found,) = partial_dependence(fitted("regression", "sklearn.linear_model.LinearRegression"), table, ("visits",))
    assert len(found.values) == MOST_POINTS
    assert found.values[-1] == 3.8


def test_a_feature_of_one_value_or_none_is_not_told(rows: pa.Table, fitted: Fit) -> None:
    place = rows.column_names.index("noise")
    table = rows.set_column(place, "noise", pa.nulls(len(rows), pa.float64()))
    learner = fitted("binary", "sklearn.ensemble.HistGradientBoostingClassifier", max_iter=3)
    found = partial_dependence(learner, table, ("same", "strength", "noise"))
    assert [each.name for each in found] == ["strength"]
    assert partial_dependence(learner, table, ("same",)) == ()
