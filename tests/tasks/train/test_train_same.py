"""The same inputs give the same model, whatever surrounds the run and whatever kills it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from refit.files import artifacts
from refit.learners import load


def test_rows_in_another_order_in_the_file_give_the_same_model(project: Any, trained: Any) -> None:
    table = project.table
    project.write(table.take(np.random.default_rng(1).permutation(table.num_rows)))
    training = project.run()
    assert training["model_digest"] == trained[1]["model_digest"]
    assert training["inputs"] != trained[1]["inputs"]


def test_the_test_window_has_no_say(project: Any, trained: Any) -> None:
    table = project.table
    project.write(table.filter(pc.not_equal(table["window"], "test")))
    assert project.run()["model_digest"] == trained[1]["model_digest"]


def test_the_inputs_name_the_candidate(project: Any, trained: Any) -> None:
    assert project.run()["inputs"] == trained[1]["inputs"]
    assert project.run(train__seed=1)["inputs"] != trained[1]["inputs"]


TRAIN = """
import json, locale, sys
from pathlib import Path
import refit.models.run_logging
from tasks import train
from refit.runtime.context import Context
from refit.config import parse
locale.setlocale(locale.LC_ALL, "")
refit.models.run_logging.log_training = lambda context: None
for project, params in json.loads(sys.argv[1]):
    train.run(Context(project=Path(project), params=parse(params)))
"""


def start(cwd: Path, script: str, runs: list[tuple[str, dict[str, Any]]], **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, json.dumps(runs)]
    return subprocess.Popen(command, cwd=cwd, env=os.environ | env, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_directory_time_zone_locale_hash_seed_and_threads_do_not_change_the_model(
    tmp_path: Path, new_project: Callable[[Path], Any], learners: Any
) -> None:
    several = [
        learners["logistic"],
        learners["boosting"],
        {"name": "forest", "kind": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 10}},
        {"name": "network", "kind": "torch_tabular", "params": {"hidden": [16], "max_epochs": 3}},
    ]
    surroundings = [
        {"TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
        {"TZ": "America/New_York", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "3"},
    ]
    processes = []
    for place, env in enumerate(surroundings):
        projects = [new_project(tmp_path / f"{place}" / learner["name"]) for learner in several]
        runs = [
            (str(project.folder), project.params(train__learners=[learner]))
            for project, learner in zip(projects, several, strict=True)
        ]
        processes.append(start(tmp_path / f"{place}", TRAIN, runs, **env))
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said
    one, other = (
        {path.parent.parent.name: artifacts.read_json(path)["model_digest"] for path in folder.glob("*/models/*.json")}
        for folder in (tmp_path / "0", tmp_path / "1")
    )
    assert one == other
    assert len(set(one.values())) == len(several)


DIES = """
import os, signal
from pathlib import Path
from tasks import train
from refit.learners.sklearn_estimator import SklearnEstimator
def dies_in(owner, name, where=""):
    before = getattr(owner, name)
    def die(self, *arguments):
        if where in str(self):
            os.kill(os.getpid(), signal.SIGKILL)
        return before(self, *arguments)
    setattr(owner, name, die)
"""


@pytest.mark.ci
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("SklearnEstimator, 'save'", marks=pytest.mark.slow),
        pytest.param("train, 'write_manifest'", marks=pytest.mark.slow),
        pytest.param("Path, 'replace', '.candidate.'", marks=pytest.mark.slow),
        "Path, 'replace', '.training.json.'",
    ],
)
def test_a_killed_training_leaves_nothing_half_done_and_the_next_run_clears_up(
    project: Any, learners: Any, moment: str
) -> None:
    project.run(train__learners=[learners["base_rate"]])
    script = f"{DIES}\ndies_in({moment})\n{TRAIN}"
    process = start(project.folder, script, [(str(project.folder), project.params())])
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    if project.candidate.exists():
        artifacts.check_manifest(project.candidate)
    if (project.folder / artifacts.TRAINING).exists():
        training = artifacts.read_json(project.folder / artifacts.TRAINING)
        assert load(project.candidate).digest() == training["model_digest"]
    training = project.run()
    assert load(project.candidate).digest() == training["model_digest"]
    assert [path.name for path in project.models.iterdir() if path.is_dir()] == ["candidate"]
