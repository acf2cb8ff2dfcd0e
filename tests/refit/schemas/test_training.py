"""`training.json` and `warm_start.json`: what only some trainings have keeps its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stored_files import learner_json, training_json

from refit.errors import RefitError
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart

LEARNER = learner_json("forest", "RandomForest", {"roc_auc": 0.75, "f1": 1})
COST = {
    name: LEARNER[name]
    for name in (
        "seconds",
        "rows_per_second",
        "peak_memory_mb",
        "latency_ms",
        "latency_1000_ms",
        "cpu_seconds_per_1000",
    )
}
TRIAL = {"params": {"depth": 3, "rate": 0.5}, "state": "complete", "value": 0.75, "steps": [0.5, 0.75], "seconds": 1.5}
FAILED = {**TRIAL, "state": "failed", "value": None, "steps": [], "problem": "depth is too large", "took": {}}
TUNING = {
    "seconds": 2.0,
    "best": 0,
    "importance": {"depth": 0.9},
    "trials": [{**TRIAL, "problem": "", "took": COST}, FAILED],
}
MARGIN = {"value": 1.5, "rows": 60}
INTERVALS = {"level": 0.9, "by": "residuals", "within": None, "rate": None, "common": MARGIN, "groups": {"a": MARGIN}}
START = {"version": "3", "model_digest": "ab", "seen_until": "2024-03-01T00:00:00Z", "folder": ".refit/models/3-ab"}


@pytest.mark.parametrize(
    ("of_learner", "more"),
    [
        ({}, {}),
        ({"tuning": TUNING}, {}),
        ({"validation": {"roc_auc": None}, "folds": [{"roc_auc": 0.5}, {"roc_auc": None}]}, {}),
        ({"calibration": {"kind": "sigmoid", "slope": 1.5, "intercept": 0.0}}, {}),
        ({"calibration": {"kind": "isotonic", "x": [0.0, 1.0], "y": [0.25, 0.75]}}, {}),
        ({"calibration": {"kind": "temperature", "power": 0.5}}, {}),
        ({"calibration": {"kind": "isotonic by class", "x": [[0.0], [1.0]], "y": [[0.0], [1.0]]}}, {}),
        ({"seeds": {"values": [0.5, 0.75], "mean": 0.625, "deviation": 0.125}, "peak_memory_mb": None}, {}),
        ({"curve": [{"iteration": 1, "training": 0.5, "validation": 1}], "not_chosen": "no safe format"}, {}),
        ({}, {"intervals": {**INTERVALS, "missing": "(missing)"}, "baseline": {"value": 2.5}}),
        ({}, {"intervals": INTERVALS, "baseline": {"shares": {"a": 0.5}}}),
        ({}, {"started_from": START}),
    ],
)
def test_what_is_read_is_written_with_the_same_keys(of_learner: dict[str, Any], more: dict[str, Any]) -> None:
    stored = training_json([{**LEARNER, **of_learner}], **more)
    training = Training.from_json(stored, "training.json")
    assert json.dumps(training.to_json(), sort_keys=True) == json.dumps(stored, sort_keys=True)  # 1 is not 1.0
    assert Training.from_json(training.to_json(), "training.json") == training
    assert training.chosen.name == "forest"


def test_the_work_of_a_learner_counts_every_trial_of_its_search() -> None:
    training = Training.from_json(training_json([{**LEARNER, "tuning": TUNING}]), "training.json")
    assert training.chosen.work_seconds == 0.5 + 1.5 + 1.5


def test_a_warm_start_names_a_whole_version_or_none() -> None:
    assert WarmStart.from_json(START, "w").to_json() == START
    assert WarmStart.from_json({"version": None}, "w").to_json() == {"version": None}
    with pytest.raises(RefitError, match=r"w is damaged .*a version needs model_digest, seen_until and folder"):
        WarmStart.from_json({**START, "folder": None}, "w")
