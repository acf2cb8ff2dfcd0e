"""The segments that one project finds are a feature of another: point-in-time, through all stages, for ever."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from driving import check_here, drive, states
from points_project import CENTRES, PARAMS, make_project

from flows.session import context_of
from refit.files.artifacts import FEATURE_MODELS, FEATURE_SET, TABLE, read_json
from refit.models import verification
from refit.models.incumbent import fetch_model
from refit.new_project.project_folder import IGNORED, pipeline
from refit.operations.reproduce import reproduce
from refit.runtime import dvc_runner

pytestmark = pytest.mark.slow  # tests/tasks/test_model_features.py and register/test_feature_models.py need no pipeline

GROUPS: dict[str, Any] = {
    "task": "clustering",
    "metric": "silhouette",
    "seed": 0,
    "learners": [
        {"name": "one_cluster", "kind": "baseline"},
        {"name": "k_means", "kind": "sklearn.cluster.KMeans", "params": {"n_init": 2, "n_clusters": 3}},
    ],
}
GATE = {"metric": "negative_log_likelihood", "max_loss": 0.5, "min_gain_over_baseline": 0.1, "min_rows": 100}
FEATURES = {"model": "models:/groups@champion", "columns": ["prediction", "distance"], "inputs": {"x": "east"}}
COLUMNS = {"id": "integer", "at": "timestamp", "east": "number", "y": "number", "worth": "number"}
FIRST, SECOND = datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)  # ends of what they have seen
REGISTRY = "sqlite:///../registry/mlflow.db"


def new_groups(root: Path) -> Path:
    """The project that finds segments, with two champions: of the first three months and of five."""
    (root / "registry").mkdir(parents=True)
    registry = {"trusted_types": [], "tracking_uri": REGISTRY}
    groups = make_project(root, GROUPS, evaluate={"gate": GATE, "permutation_rows": 0}, registry=registry)
    for moment in (FIRST, SECOND):
        summary = drive(groups, as_of=f"{moment:%Y-%m-%d}")
        assert summary["model"]["alias"] == "champion", summary["decision"]["reasons"]
    return groups


def write_months(project: Path, months: range) -> None:
    """Points whose worth depends on the centre that they lie around, and on nothing else."""
    for month in months:
        random = np.random.default_rng(100 + month)
        with (project / f"raw/{month}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for number in range(150):
                group = random.choice(3)
                x, y = CENTRES[group] + random.normal(0, 0.7, 2)
                worth = (10, 40, 20)[group] + random.normal()
                at = datetime(2024, month, 1 + number // 6, number % 24, tzinfo=UTC)
                writer.writerow((1000 * month + number, f"{at:%Y-%m-%d %H:%M}", f"{x:.4f}", f"{y:.4f}", f"{worth:.3f}"))


def new_prices(root: Path, **featurize: Any) -> Path:
    """The project that takes the segments as a feature."""
    project = root / "prices"
    (project / "raw").mkdir(parents=True)
    write_months(project, range(2, 9))
    models = [FEATURES | {"counts_from": "as_of"}]
    learner = {"name": "line", "kind": "sklearn.linear_model.Ridge"}
    params = PARAMS | {
        "project": {"name": "prices", "timezone": "UTC"},
        "ingest": {
            "period": "month",
            "sources": {
                "points": {"kind": "files", "path": "raw/*.csv", "columns": COLUMNS, "key": ["id"], "event_time": "at"}
            },
        },
        "featurize": {
            "label": {"source": "points", "column": "worth", "delay_hours": 0},
            "models": models,
            "windows": {"training": 4},
            **featurize,
        },
        "train": {
            "task": "regression",
            "metric": "rmse",
            "seed": 0,
            "learners": [{"name": "mean", "kind": "baseline"}, learner],
        },
        "evaluate": {
            "permutation_rows": 0,
            "gate": {"max_loss": 1.0, "min_gain_over_baseline": 1.0, "min_rows": 100, "metric": "rmse"},
        },
        "registry": {"trusted_types": [], "tracking_uri": REGISTRY},
    }
    stages = pipeline(("raw",))
    stages["featurize"]["deps"].append(FEATURE_MODELS.as_posix())
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (project / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(project)
    return project


@pytest.fixture(scope="module", autouse=True)
def same_process() -> Any:
    """Stored models are checked in this process; that a fresh one is started is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "in_fresh_process", check_here)
        yield


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both projects after their runs, and the second one once more with nothing new."""
    root = tmp_path_factory.mktemp("segments")
    groups = new_groups(root)
    prices = new_prices(root)
    return {"root": root, "groups": groups, "prices": prices, "first": drive(prices), "again": drive(prices)}


def test_each_row_is_of_the_version_that_was_champion_at_its_prediction(life: dict[str, Any]) -> None:
    assert life["first"]["model"]["alias"] == "champion", life["first"]["decision"]["reasons"]
    table = pq.read_table(life["prices"] / TABLE).to_pandas()
    moments = table["prediction_time"].dt.tz_localize("UTC")
    before = moments < FIRST
    assert before.any()
    assert table.loc[before, ["groups_prediction", "groups_distance"]].isna().all(axis=None)
    assert not table.loc[~before, ["groups_prediction", "groups_distance"]].isna().any(axis=None)
    stored = context_of(life["groups"])
    from refit import learners

    for version, mine in (("1", (moments >= FIRST) & (moments < SECOND)), ("2", moments >= SECOND)):
        assert mine.any()
        learner = learners.load(fetch_model(stored, version))
        import pyarrow as pa

        rows = pa.table({"x": pa.array(table.loc[mine, "east"]), "y": pa.array(table.loc[mine, "y"])})
        expected = learner.predict(rows)
        assert table.loc[mine, "groups_distance"].tolist() == expected[:, 3].tolist()


def test_an_unchanged_champion_recomputes_nothing(life: dict[str, Any]) -> None:
    assert states(life["again"]) == ["unchanged"] * 6


def test_the_versions_used_are_stored_with_the_model(life: dict[str, Any]) -> None:
    folder = fetch_model(context_of(life["prices"]), "1")
    [view] = read_json(folder / FEATURE_SET.name)["definitions"]["feature_set"]["models"]
    assert [each["version"] for each in view["versions"]] == ["1", "2"]
    assert {each.name.rpartition("-")[0] for each in (folder / "feature_models").iterdir()} == {"groups-1", "groups-2"}


def test_a_version_is_made_again_without_the_other_registry(life: dict[str, Any], tmp_path: Path) -> None:
    pairs = reproduce(context_of(life["prices"]), "1")
    assert [pair.what for pair in pairs if not pair.same] == []
