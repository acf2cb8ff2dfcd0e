"""A small project as featurize leaves it, made in a moment, and learners that take no longer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from stored_files import features_json

from refit.config import override, parse
from refit.files import artifacts
from refit.runtime.context import Context
from tasks import train

BASE_RATE = {"name": "base_rate", "kind": "baseline"}
LOGISTIC = {"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression"}
BOOSTING = {
    "name": "boosting",
    "kind": "sklearn.ensemble.HistGradientBoostingClassifier",
    "params": {"max_iter": 40, "min_samples_leaf": 5, "max_leaf_nodes": 7},
}
WINDOWS = {"train": 600, "validation": 150, "test": 150}
ENDS = {"train": "2024-03-01T00:00:00Z", "validation": "2024-04-01T00:00:00Z", "test": "2024-05-01T00:00:00Z"}
FEATURES = ["strength", "noise", "colour"]


@dataclass(frozen=True)
class SmallProject:
    """A folder with features; `run` trains in it."""

    folder: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def candidate(self) -> Path:
        return self.folder / artifacts.CANDIDATE

    @property
    def table(self) -> pa.Table:
        return pq.read_table(self.folder / artifacts.TABLE)

    def rows(self, window: str) -> pa.Table:
        return self.table.filter(pc.equal(self.table["window"], window))

    def write(self, table: pa.Table) -> None:
        """Leave a table as featurize does."""
        (self.folder / artifacts.FEATURES).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, self.folder / artifacts.TABLE)
        sha256 = artifacts.sha256(self.folder / artifacts.TABLE)
        described = features_json(FEATURES, FEATURES[2:], table={"sha256": sha256, "rows": table.num_rows})
        for name, end in ENDS.items():
            described["windows"][name]["end"] = end
        artifacts.write_json(self.folder / artifacts.FEATURE_SET, described)
        artifacts.write_json(self.folder / artifacts.PROFILE, {})
        (self.folder / artifacts.PROFILE_COUNTS).write_bytes(b"")

    def params(self, **changes: Any) -> dict[str, Any]:
        """Raw params; a double underscore in a name stands for the dot."""
        columns = {"kind": "files", "path": "*.csv", "columns": {"id": "text"}, "key": ["id"]}
        raw = {
            "project": {"name": "demo"},
            "ingest": {"sources": {"rows": columns}},
            "featurize": {"label": {"source": "rows", "column": "label"}},
            "train": {"learners": [BASE_RATE, LOGISTIC, BOOSTING]},
        }
        return override(raw, {path.replace("__", "."): value for path, value in changes.items()})

    def run(self, said: list[str] | None = None, **changes: Any) -> dict[str, Any]:
        """Train, collecting what the progress said; returns `training.json`."""
        notes = [] if said is None else said

        def note(what: str, done: float = 0, total: float | None = None) -> None:
            notes.append(what)

        train.run(Context(project=self.folder, params=parse(self.params(**changes)), progress=note))
        training: dict[str, Any] = artifacts.read_json(self.folder / artifacts.TRAINING)
        return training


def small_project(folder: Path) -> SmallProject:
    """Rows whose label depends on `strength` and `colour`."""
    random = np.random.default_rng(0)
    count = sum(WINDOWS.values())
    strength, colour = random.normal(size=count), random.integers(0, 3, count)
    label = (strength + 0.9 * (colour == 1) + random.normal(size=count) > 0.5).astype(np.int64)
    minutes = np.arange(count) // 2  # two rows a minute: the key decides their order
    project = SmallProject(folder)
    project.write(
        pa.table(
            {
                "id": [f"row {n:04d}" for n in range(count)],
                "event_time": pa.array(np.datetime64("2024-01-01T00:00", "us") + minutes.astype("timedelta64[m]")),
                "window": np.repeat(list(WINDOWS), list(WINDOWS.values())),
                "label": label,
                "strength": strength,
                "noise": pa.array(random.normal(size=count), mask=random.random(count) < 0.1),
                "colour": pa.array(["red", "green", "blue"]).take(pa.array(colour)),
            }
        )
    )
    return project


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a training shows in MLflow is tested elsewhere."""
    monkeypatch.setattr("refit.models.run_logging.log_training", lambda context: None)
    monkeypatch.setattr("refit.models.live_logging.epochs_logged", lambda context, inputs: nullcontext())


@pytest.fixture
def new_project() -> Callable[[Path], SmallProject]:
    return small_project


@pytest.fixture
def project(tmp_path: Path) -> SmallProject:
    return small_project(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallProject, dict[str, Any]]:
    """One run of the default learners, only to be looked at."""
    project = small_project(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refit.models.run_logging.log_training", lambda context: None)
        return project, project.run()


@pytest.fixture
def learners() -> dict[str, dict[str, Any]]:
    """The default learners by name, as params have them."""
    return {"base_rate": dict(BASE_RATE), "logistic": dict(LOGISTIC), "boosting": dict(BOOSTING)}
