"""A whole replay of a stream whose concept changes: one rule compares all policies, and what it recommends holds."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from points_project import PARAMS

from refit.cli.replays import replay
from refit.files.yaml_files import read_yaml
from refit.new_project.project_folder import IGNORED, pipeline
from refit.operations.replay import policies
from refit.runtime import dvc_runner, run_file
from refit.schemas.replay_result import ReplayResult

pytestmark = pytest.mark.slow

DAILY, WEEKS, CHANGED, HISTORY = 60, 40, 24, 14  # rows a day; weeks in all, before the change, before the replay
START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
COLUMNS = {"id": "integer", "at": "timestamp", "x1": "number", "x2": "number", "x3": "number", "y": "integer"}
ALL = "never,schedule:retrain_every_days=55,performance,always"
EFFECT = 0.3  # of PSI


@pytest.fixture(scope="module")
def sea(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SEA (Street and Kim 2001): x1 + x2 <= theta, a tenth of the labels turned; theta falls from 9.5 to 6."""
    project = tmp_path_factory.mktemp("sea")
    (project / "raw").mkdir()
    random = np.random.default_rng(5)
    for week in range(WEEKS):
        with (project / f"raw/{week:02}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            theta = 9.5 if week < CHANGED else 6.0
            for place in range(7 * DAILY):
                x = random.uniform(0, 10, 3)
                y = (x[0] + x[1] <= theta) != (random.random() < 0.1)
                at = START + timedelta(weeks=week, days=place / DAILY)
                number = week * 7 * DAILY + place
                writer.writerow([number, f"{at:%Y-%m-%d %H:%M}", *(f"{each:.3f}" for each in x), int(y)])
    source = {"kind": "files", "path": "raw/*.csv", "columns": COLUMNS, "key": ["id"], "event_time": "at"}
    params: dict[str, Any] = PARAMS | {
        "project": {"name": "sea", "timezone": "UTC"},
        "ingest": {"period": "week", "sources": {"points": source}},
        "featurize": {
            "label": {"source": "points", "column": "y", "delay_hours": 0},
            "windows": {"test": 2, "validation": 4, "training": 8},
        },
        "train": {
            "task": "binary",
            "metric": "brier",
            "seed": 0,
            "threshold": {"by": "share", "share": 0.4},  # right until the change, far off after it
            "learners": [
                {
                    "name": "tree",
                    "kind": "sklearn.tree.DecisionTreeClassifier",
                    "params": {"max_leaf_nodes": 32, "min_samples_leaf": 15},
                }
            ],
        },
        "evaluate": {
            "permutation_rows": 0,
            "gate": {
                "metric": "brier",
                "max_loss": 0.1,
                "min_rows": 100,
                "min_clusters": 7,
                "min_gain_over_baseline": 0.0,
            },
        },
        "drift": {
            "min_labelled_rows": 200,
            "min_new_labelled_rows": 200,
            "min_reference_windows": 5,
            "min_effect": {"missing": 0.5},
            "retrain_on": ["input"],
        },
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (project / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(project)
    return project


def replayed(project: Path, **changed: Any) -> ReplayResult:
    asked: dict[str, Any] = {
        "start": f"{START + timedelta(weeks=HISTORY):%Y-%m-%d}",
        "end": f"{START + timedelta(weeks=WEEKS):%Y-%m-%d}",
        "every": "week",
        "policies": ALL,
        "metric": "accuracy",
        "budget": None,
        "random": 0,
        "overrides": {},
        "wait_seconds": 0,
        "quiet": True,
    }
    return replay(project, **{**asked, **changed})


def ranked(result: ReplayResult, sign: int) -> list[str]:
    return sorted(result.policies, key=lambda name: sign * (result.policies[name].score or 0.0))


def test_policies_rank_by_accuracy_as_by_a_proper_score_whatever_threshold_each_model_brings(sea: Path) -> None:
    by_accuracy, by_brier = replayed(sea), replayed(sea, metric="brier")
    assert by_accuracy.metric == "accuracy_at_half"
    assert ranked(by_accuracy, 1) == ranked(by_brier, -1)
    at_own = {name: each.at_own_threshold or 0.0 for name, each in by_accuracy.policies.items()}
    assert sorted(at_own, key=lambda name: at_own[name]) != ranked(by_brier, -1), (
        "which the thresholds of models turn round"
    )
    assert all(each.at_own_threshold is None for each in by_brier.policies.values())


def test_the_recommended_policy_is_written_and_reproduces_its_figures(sea: Path) -> None:
    before = read_yaml(sea / "params.yaml")
    found = replayed(sea, recommend=True, overrides={"drift.min_effect.psi": EFFECT})
    assert found.knee is not None
    after = read_yaml(sea / "params.yaml")
    [policy] = policies.parse(found.knee, run_file.params_of(sea).drift)
    assert after["drift"]["min_effect"] == {"missing": 0.5, "psi": EFFECT}
    assert tuple(after["drift"]["retrain_on"]) == policy.drift.retrain_on
    assert {key: value for key, value in after.items() if key != "drift"} == {
        key: value for key, value in before.items() if key != "drift"
    }
    again = replayed(sea, policies="configured")
    assert again.trained_now == 0
    recommended, configured = found.policies[found.knee], again.policies["configured"]
    assert (configured.score, configured.trainings) == (recommended.score, recommended.trainings)
    assert [step.retrain for step in configured.steps] == [step.retrain for step in recommended.steps]
