"""The reference project on the real flights: from CSV to a champion, as good as it should be and no better."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from driving import drive, states

from refit.runtime import dvc_runner

# Test AUC of a hand-written script with such features; .03 above it would smell of leakage, were it not explained
# (docs/flights.md: October gains from the day's own departures, which the script did not use).
AUGUST, NOVEMBER, JANUARY = ("2013-08-03", 0.767, 0.03), ("2013-11-03", 0.707, 0.045), ("2014-01-03", 0.724, 0.03)
BOOSTING_ALONE = {"train.learners.logistic.enabled": False, "evaluate.permutation_rows": 0}
FEW_TREES = BOOSTING_ALONE | {
    "train.learners.boosting.params.max_iter": 60,
    "train.learners.boosting.params.learning_rate": 0.3,
    "evaluate.explain.rows": 0,
}


@pytest.fixture(scope="module")
def flights(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference project's files and the code that its stages depend on, at a path of their own."""
    project = tmp_path_factory.mktemp("reference") / "flights"
    for folder in ("refit", "tasks", "feature_store", "registry"):
        shutil.copytree(root / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "constraints.txt", ".dvcignore"):
        shutil.copy(root / name, project / name)
    dvc_runner.initialise(project)
    return project


def reached(project: Path, as_of: str, overrides: dict[str, object]) -> float:
    told = drive(project, as_of=as_of, overrides=overrides)
    rows = told["rows"]
    assert rows["read"] == rows["accepted"] + rows["quarantined"] + rows["pending"] == 336_776 + 26_115 + 3_322
    assert told["model"]["name"] == "flight_delays"
    return float(told["metrics"]["roc_auc"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("as_of", "by_hand", "most", "overrides"),
    [
        (*AUGUST, FEW_TREES),
        *((*month, BOOSTING_ALONE) for month in (AUGUST, NOVEMBER, JANUARY)),
    ],
    ids=["july, few trees", "july", "october", "december"],
)
def test_a_month_is_predicted_as_well_as_by_hand_and_again_is_unchanged(
    flights: Path, as_of: str, by_hand: float, most: float, overrides: dict[str, object]
) -> None:
    assert by_hand - 0.005 <= reached(flights, as_of, overrides) <= by_hand + most
    assert states(drive(flights, as_of=as_of, overrides=overrides)) == ["unchanged"] * 6
