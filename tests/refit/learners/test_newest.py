"""The training score is measured on the newest rows; where many are of one moment, on some of all of these."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.learners import Spec, make
from refit.learners.newest import newest

BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
KERAS = """
import keras

def build(shapes, outputs):
    numbers = keras.Input(shapes["numbers"], name="numbers")
    return keras.Model(numbers, keras.layers.Dense(outputs, activation="sigmoid")(numbers))
"""
LEARNERS = {
    "boosting": Spec("it", BOOSTING, ("x",), params={"max_iter": 5}),
    "average": Spec("it", BOOSTING, ("x",), params={"max_iter": 5}, average=2),
    "lightgbm": Spec("it", "lightgbm.LGBMClassifier", ("x",), params={"n_estimators": 5}),
    "network": Spec("it", "mlp", ("x",), params={"hidden": [2], "epochs": 1}),
    "keras": Spec("it", "net.py:build", ("x",), params={"epochs": 1}, source=KERAS),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_of_one_moment_in_order_of_their_class_are_scored_on_both_classes(name: str) -> None:
    """As pictures of one date are, whose keys begin with the name of their folder."""
    if find_spec(name) is None and name in ("lightgbm", "keras"):
        pytest.skip(f"{name} is not installed")
    label, draw = np.repeat([0, 1], 100), np.random.default_rng(0)
    table = pa.table({"x": label + draw.normal(size=200), "event_time": [np.datetime64("2024-01-31", "us")] * 200})
    validation = table.take(np.arange(0, 200, 5)), label[::5]
    learner: Any = make(LEARNERS[name])
    curve = learner.fit(table, label, validation=validation).curve
    assert all(np.isfinite(point.training) for point in curve), "the area under the curve of one class is undefined"
    assert curve


def test_rows_of_several_moments_are_the_last_ones() -> None:
    assert newest(np.array([1, 1, 1, 2]), 2).tolist() == [2, 3]
    assert newest(np.array([1, 1, 1]), 3).tolist() == newest(np.array([1, 1, 1]), 9).tolist() == [0, 1, 2]
    assert newest(np.array([], dtype=int), 2).tolist() == newest(np.array([1, 1]), 0).tolist() == []
    drawn = newest(np.array([0] + [1] * 1000), 100)
    assert drawn.tolist() == newest(np.array([0] + [1] * 1000), 100).tolist(), "the same each time"
    assert len(set(drawn.tolist())) == 100
    assert 0 not in drawn
    assert 350 < drawn.mean() < 650
