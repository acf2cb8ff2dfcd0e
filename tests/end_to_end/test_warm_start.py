"""A warm start through the whole pipeline: the champion goes on with what is new to it, under the same gate."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import drive, states

from refit.errors import UserError
from refit.files.artifacts import TRAINING, WARM_START, read_json

BOOSTING = {
    "name": "boosting",
    "kind": "sklearn.ensemble.HistGradientBoostingClassifier",
    "params": {"max_iter": 40, "min_samples_leaf": 20},
}


@pytest.mark.slow
def test_champion_goes_on_with_the_rows_that_it_has_not_seen(project: Path) -> None:
    for name in ("mlflow.db", "ledger.db"):  # there is no champion yet
        (project / ".refit" / name).unlink()
    settings = {"train.learners": [{"name": "base_rate", "kind": "baseline"}, BOOSTING], "train.seed": 7}
    first = drive(project, as_of="2024-08-01", overrides=settings)
    assert read_json(project / WARM_START) == {"version": None}
    champion = first["model"]["version"]
    if first["model"]["alias"] != "champion":
        pytest.fail(f"the first model was not promoted: {first['decision']['reasons']}")
    warm = {**settings, "train.warm_start": "champion"}
    second = drive(project, as_of="2024-10-01", overrides=warm)
    training = read_json(project / TRAINING)
    assert training["started_from"]["version"] == champion
    assert 0 < training["refit_rows"] < training["rows"]["train"]
    assert [tried["name"] for tried in training["learners"]] == ["boosting"]
    assert second["decision"]["comparand"]["version"] == champion
    again = drive(project, as_of="2024-10-01", overrides=warm)
    assert states(again) == ["unchanged"] * 6


@pytest.mark.slow
def test_learner_that_cannot_go_on_is_refused_and_nobody_loses_charge(project: Path) -> None:
    with pytest.raises(UserError, match=r"cannot go on from what it has learned|needs 20 new rows"):
        drive(project, as_of="2024-11-01", overrides={"train.warm_start": "champion", "train.seed": 3})
