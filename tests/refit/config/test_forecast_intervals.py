"""Intervals of forecasts follow the labels unless params say otherwise."""

from __future__ import annotations

import json

import pytest

from refit.config.train import TrainParams

LEARNERS = [{"name": "naive", "kind": "baseline"}]


@pytest.mark.parametrize(
    ("task", "intervals", "adaptive"),
    [
        ("forecast", {"level": 0.9}, True),
        ("forecast", {"adaptive": False}, False),
        ("regression", {"level": 0.9}, False),
        ("regression", {"adaptive": True}, True),
    ],
)
def test_intervals_of_forecasts_are_adaptive_by_default(
    task: str, intervals: dict[str, object], adaptive: bool
) -> None:
    params = TrainParams.model_validate_json(json.dumps({"task": task, "learners": LEARNERS, "intervals": intervals}))
    assert params.intervals is not None
    assert params.intervals.adaptive is adaptive
