"""A small project as `featurize` and `train` leave it, made in a moment, for the tests of `evaluate`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from stored_files import learner_json, training_json

from refit.config import override, parse
from refit.files import artifacts
from refit.learners import Learner, Spec, make
from refit.models import incumbent, run_logging
from refit.reports.model_card import charts
from refit.runtime.context import Context
from refit.schemas.feature_definitions import Definitions
from refit.schemas.incumbent import Incumbent
from tasks import evaluate

DAYS = {"train": 40, "validation": 20, "test": 30}
ROWS_A_DAY = 60
FIRST = datetime(2024, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone
NOBODY = {"model": "demo", "version": None, "model_digest": None, "seen_until": None, "anchor": None, "looks": 0}
NUMERIC, CATEGORICAL = ("strength", "echo", "noise", "hour"), ("colour",)

PARAMS: dict[str, Any] = {
    "project": {"name": "demo"},
    "ingest": {"sources": {"rows": {"kind": "files", "path": "*.csv", "columns": {"id": "text"}, "key": ["id"]}}},
    "featurize": {"label": {"source": "rows", "column": "label"}},
    "train": {"learners": [{"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression"}]},
    "evaluate": {"slices": ["colour", "hour"], "permutation_rows": 600, "gate": {"min_rows": 1000}},
}
FEATURES = {
    "feature_set": {
        "spine": {
            "source": "rows",
            "key": "id",
            "features": [{"name": name, "sql": name, "description": f"the {name}"} for name in ("hour", "colour")],
        },
        "views": [
            {
                "name": "past",
                "source": "rows",
                "entity": ["colour"],
                "features": [
                    {"kind": "latest", "name": name, "column": name} for name in ("strength", "echo", "noise")
                ],
            }
        ],
    },
    "sources": {"rows": {"table": "rows", "columns": {"id": "id"}}},
}


def held(path: Path, table: pa.Table) -> dict[str, Any]:
    """What `features.json` says of the table."""
    return {"sha256": artifacts.sha256(path), "rows": table.num_rows}


@dataclass(frozen=True)
class SmallProject:
    """A scratch project with features, a candidate, and no champion until `make_champion`."""

    context: Context
    charge: dict[str, Any]  # what the stand-in for the registry says

    def path(self, relative: Path | str) -> Path:
        return self.context.path(relative)

    def with_params(self, **changes: Any) -> Context:
        raw = override(PARAMS, {path.replace("__", "."): value for path, value in changes.items()})
        return Context(project=self.context.project, params=parse(raw), progress=self.context.progress)

    def write_table(self, table: pa.Table) -> None:
        """Another feature table, as `featurize` leaves it."""
        pq.write_table(table, self.path(artifacts.TABLE))
        described = read(self.path(artifacts.FEATURE_SET)) | {"table": held(self.path(artifacts.TABLE), table)}
        artifacts.write_json(self.path(artifacts.FEATURE_SET), described)

    def train(self, *features: str, smoothing: float = 1.0) -> Learner:
        """Fit a logistic regression on some of the features and leave it as the candidate."""
        table = pq.read_table(self.path(artifacts.TABLE))
        rows = table.filter(pc.not_equal(table["window"], "test"))
        named = features or (*NUMERIC, *CATEGORICAL)
        spec = Spec(
            "logistic",
            "sklearn.linear_model.LogisticRegression",
            features=named,
            categorical=frozenset(CATEGORICAL) & set(named),
            params={"C": smoothing},
        )
        learner = make(spec)
        labels = rows["label"].to_numpy().astype(np.int64)
        learner.fit(rows, labels)
        learner.threshold = 0.4
        self.store(learner, float(labels.mean()))
        return learner

    def store(self, learner: Learner, rate: float) -> None:
        folder = self.path(artifacts.CANDIDATE)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        learner.save(folder)
        shutil.copyfile(self.path(artifacts.FEATURE_SET), folder / "features.json")
        artifacts.write_manifest(folder)
        scores = {"roc_auc": 0.75, "log_loss": 0.5}
        curve = [{"iteration": i, "training": 0.7 + i / 50, "validation": 0.7 + i / 80} for i in (1, 2, 3)]
        told = learner_json(
            learner.spec.name,
            learner.spec.kind,
            scores,
            params=dict(learner.spec.params),
            curve=curve,
            size_curve=[{"rows": 400 * i, "training": 0.8, "validation": 0.7 + i / 50} for i in (1, 2, 3)],
            verdict="fits well: training and validation agree",
        )
        training = training_json(
            [told],
            model_digest=learner.digest(),
            seen_until=read(self.path(artifacts.FEATURE_SET))["windows"]["validation"]["end"],
            inputs=artifacts.digest(learner.digest()),
            baseline={"rate": rate},
            refit_rows=3600,
        )
        artifacts.write_json(self.path(artifacts.TRAINING), training)

    def make_champion(self, version: str = "3", **told: Any) -> None:
        """Take the candidate out of the way and into charge; the next one is judged against it."""
        training = read(self.path(artifacts.TRAINING))
        folder = self.path(f"registered/{version}")
        shutil.copytree(self.path(artifacts.CANDIDATE), folder)
        entry = {"version": version, "model_digest": training["model_digest"], "seen_until": training["seen_until"]}
        self.charge.update({**entry, **told})
        artifacts.write_json(self.path(artifacts.COMPARAND), self.charge)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def small_table(days: dict[str, int], seed: int = 0) -> pa.Table:
    """Rows whose label follows `strength`, luck shared by the rows of a day; `echo` repeats it, `noise` is none."""
    random = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("id", "event_time", "window", "label", *NUMERIC, *CATEGORICAL)
    }
    day = 0
    for window, count in days.items():
        for _ in range(count):
            luck = random.normal(0, 0.3)
            for row in range(ROWS_A_DAY):
                strength = random.normal()
                late = random.random() < 1 / (1 + np.exp(-(1.2 * strength + luck - 0.7)))
                hour = int(random.integers(0, 24))
                columns["id"].append(f"{day:03d}-{row:03d}")
                columns["event_time"].append(FIRST + timedelta(days=day, hours=hour, minutes=row))
                columns["window"].append(window)
                columns["label"].append(int(late))
                columns["strength"].append(strength)
                columns["echo"].append(strength + random.normal(0, 0.5))
                columns["noise"].append(random.normal() if random.random() > 0.1 else None)
                columns["hour"].append(float(hour))
                columns["colour"].append(str(random.choice(["red", "green", "blue", "rare"], p=[0.4, 0.3, 0.29, 0.01])))
            day += 1
    table = pa.table(columns)
    table = table.append_column("prediction_time", table["event_time"])
    return table.sort_by([("event_time", "ascending"), ("id", "ascending")])


@pytest.fixture(scope="session")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("evaluate")
    table = small_table(DAYS)
    ends = np.cumsum(list(DAYS.values()))
    moments = [f"{FIRST + timedelta(days=int(day)):%Y-%m-%dT%H:%M:%SZ}" for day in (0, *ends)]
    (folder / artifacts.FEATURES).mkdir(parents=True)
    pq.write_table(table, folder / artifacts.TABLE)
    definitions = Definitions.model_validate_json(json.dumps(FEATURES)).to_json()
    windows = {
        name: {"start": start, "end": end, "rows": DAYS[name] * ROWS_A_DAY, "positive": 0}
        for name, start, end in zip(DAYS, moments[:-1], moments[1:], strict=True)
    }
    artifacts.write_json(
        folder / artifacts.FEATURE_SET,
        {
            "key": "id",
            "table": held(folder / artifacts.TABLE, table),
            "task": "binary",
            "classes": [],
            "definitions": definitions,
            "definitions_digest": artifacts.digest(definitions),
            "features": [*NUMERIC, *CATEGORICAL],
            "numeric": list(NUMERIC),
            "categorical": list(CATEGORICAL),
            "kept": [],
            "split": None,
            "windows": windows,
            "labels": {"known": len(table), "pending": 3, "none": 2},
            "snapshot": "5" * 64,
            "as_of": moments[-1],
        },
    )
    artifacts.write_json(folder / artifacts.COMPARAND, NOBODY)
    SmallProject(Context(project=folder, params=parse(PARAMS)), {}).train()
    return folder


@pytest.fixture
def small_project(made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallProject:
    """The project, and a stand-in for the registry: `charge` says which is champion, `registered/` holds the models."""
    folder, charge = tmp_path / "project", dict(NOBODY)
    shutil.copytree(made_project, folder)
    monkeypatch.setattr(incumbent, "check", lambda context: Incumbent.read(context.path(artifacts.COMPARAND)))
    monkeypatch.setattr(incumbent, "fetch_model", lambda context, version: folder / "registered" / version)
    monkeypatch.setattr(run_logging, "log_evaluation", lambda context, **more: None)
    return SmallProject(Context(project=folder, params=parse(PARAMS)), charge)


@pytest.fixture
def evaluated(drawn: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The same without charts, which take most of the stage's time."""
    monkeypatch.setattr(charts, "charts_of", lambda task: ())
    return drawn


@pytest.fixture
def drawn(small_project: SmallProject) -> Callable[..., dict[str, Any]]:
    """Run the stage, with params changed, and give back `evaluation.json`."""

    def run(**changes: Any) -> dict[str, Any]:
        evaluate.run(small_project.with_params(**changes))
        found: dict[str, Any] = read(small_project.path(artifacts.EVALUATION))
        return found

    return run
