"""A project whose learners are tuned on folds: through the stages, in MLflow, and judged by outer folds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from driving import copy_project, drive, states

from flows.run_options import RunOptions
from refit import learners
from refit.cli.cross_validate import cross_validate
from refit.files import artifacts
from refit.files.artifacts import read_json, write_json
from refit.runtime.context import Context
from refit.runtime.registry_store import store_of
from refit.runtime.run_file import params_of
from refit.schemas.cross_validation import CrossValidation
from tasks import train
from tasks.train.stored_trials import STORAGE

FOLDS = {"kind": "stratified", "folds": 3}
LEARNERS = [
    {"name": "base_rate", "kind": "baseline"},
    {
        "name": "logistic",
        "kind": "sklearn.linear_model.LogisticRegression",
        "params": {"max_iter": 300},
        "search": {"C": {"low": 0.01, "high": 10.0, "log": True}},
    },
]
TUNED = {
    "cross_validation": FOLDS,
    "tuning": {"trials": 4},
    "calibration": "sigmoid",
    "threshold": {"by": "cost", "false_negative": 5},
    "learners": LEARNERS,
}


@pytest.fixture(scope="module")
def tuned(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated project, its learners tuned on folds, after a run."""
    project = copy_project(finished, tmp_path_factory.mktemp("tuned") / "demo")
    raw = yaml.safe_load((project / "params.yaml").read_text())
    raw["train"] |= TUNED
    raw["evaluate"]["cross_validation"] = FOLDS
    (project / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert states(drive(project))[3:] == ["executed"] * 3
    return project


@pytest.mark.slow
def test_a_tuned_model_takes_its_way_through_all_stages_and_shows_every_trial(tuned: Path) -> None:
    from mlflow import MlflowClient

    assert states(drive(tuned)) == ["unchanged"] * 6
    training = read_json(tuned / artifacts.TRAINING)
    logistic = training["learners"][1]
    assert len(logistic["tuning"]["trials"]) == 4
    assert logistic["params"]["C"] == logistic["tuning"]["trials"][logistic["tuning"]["best"]]["params"]["C"]
    assert [fold["roc_auc"] for fold in logistic["folds"]] == pytest.approx(
        logistic["tuning"]["trials"][logistic["tuning"]["best"]]["steps"], abs=0.1
    )
    model = learners.load(tuned / artifacts.CANDIDATE)
    assert model.digest() == training["model_digest"]
    client = MlflowClient(store_of(tuned, params_of(tuned)).uri)
    found = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.`refit.role` = 'trial'")
    assert sorted(run.info.run_name.split()[1] for run in found) == ["0", "1", "2", "3"]
    parents = {client.get_run(run.data.tags["mlflow.parentRunId"]).data.tags["refit.learner"] for run in found}
    assert parents == {"logistic"}
    metrics = {
        "fit/rows_per_second",
        "cost/training",
        "cost/per_1000",
        "serving/latency_ms_p95",
        "serving/latency_1000_ms_p95",
    }
    assert all(metrics < set(run.data.metrics) for run in found)
    against = {run.data.metrics["value"]: run.data.metrics["validation/error_reduction_percent"] for run in found}
    assert max(against) == max(against, key=against.__getitem__)  # the better the score, the fewer errors are left
    assert all(run.data.metrics["cost/training"] > 0 for run in found)
    (run,) = client.search_runs(
        [found[0].info.experiment_id],
        f"tags.`refit.candidate` = '{training['inputs']}' and tags.`refit.role` = 'candidate'",
    )
    assert metrics | {"fit/peak_memory_mb", "validation/error_reduction_percent"} < set(run.data.metrics)
    assert "test/error_reduction_percent" in run.data.metrics
    assert run.data.tags["compared_with"] == "version 1"
    assert {json.dumps(run.data.metrics["value"]) for run in found} == {
        json.dumps(trial["value"]) for trial in logistic["tuning"]["trials"]
    }


@pytest.mark.ci
def test_neither_tuning_nor_calibration_nor_threshold_sees_the_test_rows(tuned: Path, tmp_path: Path) -> None:
    for kept in ("params.yaml", "run.yaml", "data/features", "models", "warm_start.json"):
        (shutil.copytree if (tuned / kept).is_dir() else shutil.copyfile)(tuned / kept, tmp_path / kept)
    tuned = tmp_path  # without the finished trials of the study
    before = read_json(tuned / artifacts.TRAINING)["model_digest"]
    table = pq.read_table(tuned / artifacts.TABLE)
    test = table["window"].to_numpy(zero_copy_only=False) == "test"
    flipped = np.where(test, 1 - table["label"].to_numpy(), table["label"].to_numpy())
    place = table.column_names.index("label")
    pq.write_table(table.set_column(place, "label", pa.array(flipped)), tuned / artifacts.TABLE)
    features: dict[str, Any] = read_json(tuned / artifacts.FEATURE_SET)
    features["table"]["sha256"] = artifacts.sha256(tuned / artifacts.TABLE)
    write_json(tuned / artifacts.FEATURE_SET, features)
    assert test.any()
    train.run(Context(tuned, params_of(tuned)))
    assert read_json(tuned / artifacts.TRAINING)["model_digest"] == before


@pytest.mark.slow
def test_outer_folds_judge_the_whole_way_from_rows_to_model(tuned: Path) -> None:
    studies = f"sqlite:///{tuned / STORAGE}"
    before = len(optuna.get_all_study_names(studies))
    told = cross_validate(tuned, RunOptions(), quiet=True)
    assert told == CrossValidation.read(tuned / told.file)
    assert sum(fold.scored for fold in told.folds) == told.rows
    assert all(fold.rows + fold.scored == told.rows for fold in told.folds)
    aucs = [fold.scores["roc_auc"] for fold in told.folds]
    assert told.mean["roc_auc"] == pytest.approx(np.mean(aucs))
    assert told.deviation["roc_auc"] == pytest.approx(np.std(aucs, ddof=1))
    assert (told.mean["roc_auc"] or 0) > 0.5 == told.baseline["roc_auc"]
    assert len(optuna.get_all_study_names(studies)) == before + 3  # each outer fold was tuned by itself
    assert (told.pooled["calibration_error"] or 1) < 0.1
    again = cross_validate(tuned, RunOptions(), quiet=True)
    assert again.mean == told.mean
