"""Stored drift decisions and answers: what is written is read, and damage is named with its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json, write_json
from refit.schemas.answered_drift import Answer, DataWindow, read_answers, write_answers
from refit.schemas.drift_decision import DriftDecision

WEEK = {"first": "2024-10-07", "end": "2024-10-14"}
PAST: dict[str, Any] = {**WEEK, "skill": 0.25, "lower": None, "upper": None, "estimated_skill": 0.2}
INPUTS: dict[str, Any] = {
    "rows": 21,
    "calibrated": True,
    "reference_windows": 9,
    "columns": [
        {
            "column": "price",
            "kind": "number",
            "effects": {"psi": 0.2, "missing": 0.0},
            "thresholds": {"psi": None, "missing": 0.02},
            "p": None,
            "breached": False,
        }
    ],
    "breached": False,
    "reasons": ["0 of 1 columns moved"],
}
PERFORMANCE: dict[str, Any] = {
    "metric": "roc_auc",
    "rows": 21,
    "labelled": 0,
    **dict.fromkeys(("value", "skill", "lower", "upper", "expected", "spread", "threshold", "estimated")),
    "estimated_skill": None,
    "suspected": False,
    "breached": False,
    "reasons": ["not judged"],
}
STORED: dict[str, Any] = {
    "model": "demo",
    "version": "1",
    "as_of": "2024-10-15T00:00:00Z",
    "verdict": "ok",
    "reasons": ["input: 0 of 1 columns moved"],
    "causes": [],
    "blocked": [],
    "window": WEEK,
    "columns": [],
    "multivariate": {"auc": 0.5, "usual": [0.51, 0.49], "p": None},
    "trained_as_of": "2024-10-01T00:00:00Z",
    "new_labelled": 0,
    "windows": [{**WEEK, "inputs": INPUTS, "performance": PERFORMANCE}],
    "seen_until": "2024-10-01",
    "policy": {"metric": "roc_auc", "confidence": 0.95},
    "backtest": [PAST],
    "distributions": [
        {
            "column": "shop",
            "kind": "category",
            "rows": [900, 21],
            "names": ["north"],
            "then": [1.0],
            "now": [0.9],
            "other": [0.0, 0.0],
            "unseen": [0.0, 0.1],
            "missing": [0.0, 0.0],
        }
    ],
    "report": "reports/drift/report.html",
}


def test_a_decision_is_read_and_written_with_the_same_content(tmp_path: Path) -> None:
    """A policy that lacks a param, because it was added later, has that param's default."""
    path = tmp_path / "decision.json"
    decision = DriftDecision.from_json(STORED, "decision.json")
    decision.write(path)
    content = read_json(path)
    assert DriftDecision.read(path) == decision
    assert {**content, "policy": None} == {**STORED, "policy": None}
    assert content["policy"] == {**decision.policy.model_dump(mode="json"), **STORED["policy"]}


def test_an_effect_without_a_threshold_is_no_drift() -> None:
    [column] = DriftDecision.from_json(STORED, "decision.json").newest_columns
    assert [each.statistic for each in column.comparisons] == ["missing"]
    assert column.severity == 0.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"verdict": "perhaps"}, "verdict"),
        ({"as_of": "yesterday"}, "as_of"),
        ({"backtest": [{**PAST, "lower": "low"}]}, "backtest.0.lower"),
        ({"backtest": [WEEK]}, "backtest.0.skill"),
        ({"windows": [{**WEEK, "inputs": INPUTS}]}, "windows.0.performance"),
        ({"distributions": [{**STORED["distributions"][0], "kind": "colour"}]}, "distributions.0"),
        ({"policy": {**STORED["policy"], "mood": 1}}, "policy.mood"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_decision_is_named_with_its_field_and_what_to_do(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RefitError, match=rf"decision\.json .*DriftDecision: {field}.*; move it away and run again"):
        DriftDecision.from_json(STORED | change, "decision.json")


def test_answers_are_read_and_written_with_the_same_content(tmp_path: Path) -> None:
    path = tmp_path / "answered.json"
    window = {"first": "2024-10-01", "end": "2024-10-08T02:00:00+02:00"}
    stored = {"demo": {"window": window, "flow_run": None, "at": "2024-10-09T00:00:00+00:00"}}
    write_json(path, stored)
    answers = read_answers(path)
    assert answers["demo"] == Answer(window=DataWindow.of(window), flow_run=None, at="2024-10-09T00:00:00+00:00")
    write_answers(path, answers)
    assert read_json(path) == stored
    assert read_answers(tmp_path / "none.json") == {}
    write_json(path, {"demo": {"window": window, "flow_run": None}})
    with pytest.raises(RefitError, match="is not what a retraining writes; delete it"):
        read_answers(path)


@pytest.mark.parametrize("wrong", [None, [], {"first": "2024-10-01", "end": "2024-10-08", "by": "me"}, {"end": 5}])
def test_a_window_with_other_keys_or_types_is_refused_in_one_line(wrong: object) -> None:
    with pytest.raises(UserError, match=r"^window .* is refused: .*; expected `first` and `end`, ISO 8601$"):
        DataWindow.of(wrong)
