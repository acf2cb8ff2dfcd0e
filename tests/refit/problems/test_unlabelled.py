"""A kind of problem without labels, added by an installed package, goes through all six stages and the gate."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from driving import drive, states

from refit import problems
from refit.config import parse
from refit.errors import RefitError, UserError
from refit.files.artifacts import DECISION, FEATURE_SET, TRAINING, read_json
from refit.new_project.project_folder import IGNORED, pipeline
from refit.runtime import dvc_runner

TOY = Path(__file__).parent / "toy"
CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
PARAMS: dict[str, Any] = {
    "project": {"name": "groups", "timezone": "UTC"},
    "ingest": {
        "period": "month",
        "sources": {
            "points": {
                "kind": "files",
                "path": "raw/*.csv",
                "columns": {"id": "integer", "at": "timestamp", "x": "number", "y": "number"},
                "key": ["id"],
                "event_time": "at",
            }
        },
    },
    "featurize": {"label": {"source": "points", "delay_hours": 0}},
    "train": {
        "task": "clusters",
        "seed": 0,
        "learners": [
            {"name": "one_cluster", "kind": "baseline"},
            {"name": "three", "kind": "k_means.py:KMeans", "params": {"clusters": 3}},
            {"name": "two", "kind": "k_means.py:KMeans", "params": {"clusters": 2}},
        ],
    },
    "evaluate": {"gate": {"max_loss": 0.02, "min_gain_over_baseline": 0.1, "min_rows": 100}},
    "validate": {},
    "register": {},
    "cost": {},
    "registry": {"trusted_types": ["k_means.py:KMeans"]},
}


@pytest.fixture
def toy_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is installed here and in the processes that are started."""
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setenv("PYTHONPATH", str(TOY))
    caches = (problems._plugins, problems._metrics)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def project_of(folder: Path, **train: Any) -> Path:
    project = folder / "groups"
    (project / "raw").mkdir(parents=True)
    random, start = np.random.default_rng(0), datetime(2024, 1, 1, tzinfo=UTC)
    with (project / "raw/points.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "at", "x", "y"))
        for number in range(1200):
            x, y = CENTRES[random.integers(3)] + random.normal(0, 0.7, 2)
            writer.writerow((number, f"{start + timedelta(hours=3 * number):%Y-%m-%d %H:%M}", f"{x:.4f}", f"{y:.4f}"))
    shutil.copyfile(TOY / "k_means.py", project / "k_means.py")
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"train": PARAMS["train"] | train}))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (project / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(project)
    return project


@pytest.mark.ci
def test_clusters_of_rows_without_labels_go_through_all_stages_and_the_gate(tmp_path: Path, toy_package: None) -> None:
    project = project_of(tmp_path)
    summary = drive(project)
    features, training = read_json(project / FEATURE_SET), read_json(project / TRAINING)
    assert features["features"] == ["x", "y"]
    assert features["labels"]["none"] == features["labels"]["pending"] == 0
    assert training["learner"] == "three"
    assert summary["model"]["alias"] == "champion"
    assert summary["labels"] is None, "rows of a problem without labels are not counted as labelled"
    decision = read_json(project / DECISION)
    assert decision["metric"] == "surprise"
    assert decision["promote"] is True
    assert states(drive(project)) == ["unchanged"] * 6

    worse = PARAMS["train"] | {"learners": [PARAMS["train"]["learners"][index] for index in (0, 2)]}
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"train": worse}))
    refused = drive(project)
    assert read_json(project / TRAINING)["learner"] == "two"
    assert refused["model"]["alias"] != "champion"
    assert any("mean surprise against the champion" in reason for reason in read_json(project / DECISION)["reasons"])


def test_a_column_for_labels_is_refused_where_there_are_none_and_required_where_there_are(toy_package: None) -> None:
    label = {"source": "points", "column": "x"}
    binary = PARAMS["train"] | {"task": "binary"}
    with pytest.raises(UserError, match=r"featurize.label.column: task 'clusters' has none: leave it out"):
        parse(PARAMS | {"featurize": {"label": label}})
    with pytest.raises(UserError, match=r"featurize.label.column: is missing"):
        parse(PARAMS | {"train": binary})
    with pytest.raises(UserError, match=r"featurize.label.column: task 'binary' has labels: name the column"):
        parse(
            PARAMS | {"train": PARAMS["train"] | {"task": "binary"}, "featurize": {"label": label | {"column": None}}}
        )


def test_a_kind_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"train.task: there is no task 'clusters'; there are binary, .*, forecast"):
        parse(PARAMS)


@pytest.mark.parametrize("task", ["anomaly", "clustering", "reduction", "association"])
def test_a_naive_guess_of_features_without_its_rows_is_an_error_in_a_line(task: str) -> None:
    problem = problems.problem_of(task)
    with pytest.raises(RefitError, match="is made from the features of its rows"):
        problem.naive(np.zeros(3), problem.default_metric)
    with pytest.raises(RefitError, match="is made from the features of its rows"):
        problem.guess({}, 3)
