"""A project as `evaluate` leaves it: a real scikit-learn model, saved by our learners, with a decision about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import check_here
from snapshots import write_snapshot
from stored_files import features_json, learner_json, training_json

from refit import config, learners
from refit.files import artifacts
from refit.files.artifacts import digest, read_json, write_json
from refit.models import incumbent, verification
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.schemas.evaluation import Evaluation
from refit.schemas.gate_decision import Decision
from registry import relocation, versions
from registry.ledger import Entry, Ledger
from registry.store import Store
from tasks import register

FEATURES = ["distance", "carrier"]
WINDOW = {"start": "2013-12-17T00:00:00Z", "end": "2013-12-21T00:00:00Z"}
RAW = {
    "project": {"name": "toy"},
    "ingest": {"sources": {"rows": {"kind": "files", "path": "rows.csv", "columns": {"id": "text"}, "key": ["id"]}}},
    "featurize": {"label": {"source": "rows", "column": "late"}},
    "train": {"learners": [{"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression"}]},
    "register": {"golden_rows": 20},
}


def decision_of(**told: Any) -> Decision:
    """What `evaluate` writes about a candidate, without comparisons."""
    written = {
        "promote": True,
        "mode": "superiority",
        "metric": "roc_auc",
        "confidence": 0.95,
        "reasons": [],
        "notes": [],
        "checks": [],
        "compared": [],
        "slices": [],
        "difference": None,
        "candidate": "c0ffee",
        "inputs": "1234",
        "comparand": {"model": "toy"},
        "test": {**WINDOW, "rows": 40, "digest": digest(WINDOW)},
        "looks": 0,
        "policy": config.GateParams().model_dump(mode="json"),
        "error_reduction": None,
    }
    return Decision.from_json({**written, **told}, "decision.json")


def evaluation_of(predictions: dict[str, Any]) -> Evaluation:
    """What `evaluate` writes about a candidate that it has hardly measured."""
    latency = {"p50": 0.5, "p95": 0.7, "p99": 0.9, "calls": 20}
    cost = {"cpu_seconds_per_1000": 0.001, "per_1000": 1e-8, "training": 1e-5, "cpu_hour": 0.05, "currency": "USD"}
    seen = {"model_digest": "c0ffee", "seen_until": WINDOW["start"], "split": None}
    candidate = {"learner": "logistic", "kind": "linear", "inputs": "1234", "threshold": 0.5, **seen}
    written = {
        "task": "binary",
        "as_of": "2014-01-01T00:00:00Z",
        "overrides": {},
        "snapshot": "5" * 64,
        "candidate": {**candidate, "features": 2, "model_mb": 0.1},
        "comparand": {"model": "toy"},
        "test": {**WINDOW, "rows": 40, "days": 4, "cluster": "day", "clusters": 4, "effective_clusters": 4.0},
        "metric": "roc_auc",
        "confidence": 0.95,
        "metrics": {"candidate": {"roc_auc": {"value": 0.7, "lower": None, "upper": None}}},
        "gains": {},
        "slices": [],
        "daily": [],
        "learning_metric": "roc_auc",
        "learners": [],
        "importance": {"rows": 0, "features": [], "groups": []},
        "explained": {"rows": 0, "classes": [], "shap": None, "partial_dependence": []},
        "error_reduction": None,
        "decision": decision_of().to_json(),
        "timings": {
            "latency_ms": latency,
            "latency_1000_ms": latency,
            "rows_per_second": 1000,
            "cost": cost,
            "evaluate_seconds": 1.5,
        },
        "predictions": predictions,
    }
    return Evaluation.from_json(written, "evaluation.json")


class Project:
    """The files of one project, and what the registry holds after it was registered."""

    def __init__(self, folder: Path, runs: Path | None = None) -> None:
        """`runs`: where projects lie as whole runs left them; a run that was made once is copied from there."""
        self._runs, self._files = runs, _files(folder)
        self.context = self._plain = Context(
            project=folder,
            params=config.parse(RAW),
            may_promote=True,
            trigger="test",
            now=lambda: datetime(2014, 1, 1, tzinfo=UTC),
        )

    @property
    def folder(self) -> Path:
        return self.context.project

    @property
    def store(self) -> Store:
        return registry_store.store_of(self.folder, self.context.params)

    @property
    def receipt(self) -> dict[str, Any]:
        return read_json(self.folder / artifacts.RECEIPT)

    @property
    def aliases(self) -> dict[str, str]:
        return dict(versions.registered(self.store, "toy").aliases)

    @property
    def ledger(self) -> list[Entry]:
        return Ledger.of(self.store).entries("toy")

    def version(self, number: str) -> versions.Version:
        found = versions.version(self.store, "toy", number)
        assert found is not None
        return found

    @property
    def told(self) -> list[tuple[str, str | None, str]]:
        return [(entry.action, entry.from_version, entry.to_version) for entry in self.ledger]

    def trained(self, seed: int = 0) -> None:
        """`featurize` and `train`: 200 rows, and a model that depends on the seed."""
        generator = np.random.default_rng(seed)
        days = np.datetime64("2013-12-01", "us") + np.arange(200) // 10 * np.timedelta64(1, "D")
        table = pa.table(
            {
                "id": [f"r{row:03d}" for row in range(200)],
                "event_time": pa.array(days),
                "window": ["train"] * 120 + ["validation"] * 40 + ["test"] * 40,
                "label": generator.integers(0, 2, 200),
                "distance": pa.array([None if row % 9 == 0 else float(row) for row in range(200)], pa.float64()),
                "carrier": pa.array([None if row % 11 == 0 else "AB"[row % 2] for row in range(200)], pa.string()),
            }
        )
        (self.folder / artifacts.FEATURES).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, self.folder / artifacts.TABLE)
        held = {"sha256": artifacts.sha256(self.folder / artifacts.TABLE), "rows": table.num_rows}
        described = features_json(FEATURES, ["carrier"], table=held)
        described["windows"]["test"] |= WINDOW
        write_json(self.folder / artifacts.FEATURE_SET, described)
        write_snapshot(self.folder)
        self._fit(table.slice(0, 160), seed)

    def _fit(self, table: pa.Table, seed: int) -> None:
        kind = "sklearn.linear_model.LogisticRegression"
        spec = learners.Spec("logistic", kind, tuple(FEATURES), frozenset(["carrier"]), seed=seed)
        learner = learners.make(spec)
        learner.fit(table, table.column("label").to_numpy())
        candidate = self.folder / artifacts.CANDIDATE
        candidate.mkdir(parents=True, exist_ok=True)
        learner.save(candidate)
        (candidate / "features.json").write_bytes((self.folder / artifacts.FEATURE_SET).read_bytes())
        unseen = table.select(["event_time", "label"]).add_column(1, "prediction", pa.array(np.full(len(table), 0.5)))
        pq.write_table(unseen, candidate / artifacts.UNSEEN)
        artifacts.write_manifest(candidate)
        scores = {"roc_auc": 0.6 + seed / 100}
        curve = [{"iteration": step, "training": 0.5 + step / 10, "validation": 0.5} for step in (1, 2)]
        told = training_json(
            [learner_json("logistic", kind, scores, curve=curve)],
            seed=seed,
            model_digest=learner.digest(),
            seen_until="2013-12-17T00:00:00Z",
            inputs=digest(["inputs", seed]),
        )
        write_json(self.folder / artifacts.TRAINING, told)

    def evaluated(self, *, promote: bool = True, mode: str = "non_inferiority") -> None:
        """`evaluate`: the candidate's predictions, and the decision."""
        against = incumbent.check(self.context)
        test = pq.read_table(self.folder / artifacts.TABLE).slice(160, 40)
        predicted = learners.load(self.folder / artifacts.CANDIDATE).predict(test)
        reports = self.folder / artifacts.REPORTS
        reports.mkdir(exist_ok=True)
        judged = test.select(["id", "event_time", "label"]).append_column("candidate", pa.array(predicted))
        self.predicted(judged)
        (reports / "figures").mkdir(exist_ok=True)
        (reports / "figures" / "roc.svg").write_bytes(b"a picture")
        (reports / "model_card.html").write_text("<p>card</p>")
        write_json(self.folder / artifacts.METRICS, {"roc_auc": 0.7})
        training = read_json(self.folder / artifacts.TRAINING)
        decision_of(
            promote=promote,
            mode=mode,
            reasons=["better than the baseline"] if promote else ["only 12 rows"],
            comparand=against.to_json(),
            candidate=training["model_digest"],
            inputs=training["inputs"],
            looks=against.looks,
        ).write(self.folder / artifacts.DECISION)

    def predicted(self, judged: pa.Table) -> None:
        """The predictions as `evaluate` leaves them, with what it records of them."""
        path = self.folder / artifacts.REPORTS / "predictions.parquet"
        pq.write_table(judged, path)
        held = {"sha256": artifacts.sha256(path), "rows": judged.num_rows}
        evaluation_of(held).write(self.folder / artifacts.EVALUATION)

    def judged(self, seed: int = 0, *, promote: bool = True, mode: str = "non_inferiority") -> None:
        """All that comes before `register`, in the order of a run."""
        self.trained(seed)
        incumbent.refresh(self.context)
        self.evaluated(promote=promote, mode=mode)

    def registered(self, seed: int = 0, *, promote: bool = True, mode: str = "non_inferiority") -> dict[str, Any]:
        """A whole run; its receipt. After the same runs, and nothing else, it is the run that another test made."""
        from mlflow.tracking._tracking_service import utils as mlflow_utils

        after = (
            self._runs / self._named(f"{seed} {promote} {mode}") if self._runs and self._is_as_runs_left_it() else None
        )
        if after and after.is_dir():
            shutil.copytree(after / "project", self.folder, dirs_exist_ok=True)
            relocation.settle(self.store)
            mlflow_utils._artifact_repos_cache.clear()  # keyed by the run: it would lead to another copy's artifacts
        else:
            self.judged(seed, promote=promote, mode=mode)
            register.run(self.context)
            if after:
                shutil.copytree(self.folder, after / "project")
        self._runs, self._files = after, _files(self.folder)
        return self.receipt

    def _named(self, run: str) -> str:
        """The name of a run: where its context is not the plain one, by its clock and params too."""
        if self.context is self._plain:
            return run
        told = [self.context.params.model_dump(mode="json", by_alias=True), self.context.now().isoformat()]
        return f"{run} {digest(told)[:16]}"

    def _is_as_runs_left_it(self) -> bool:
        """Whether no file or setting differs from what it was after the last whole run."""
        same = replace(self.context, params=self._plain.params, now=self._plain.now) == self._plain
        plain = same and verification.in_fresh_process is check_here
        own = self.store.database == self.folder / ".refit/mlflow.db" and "REFIT_SIGNING_KEY" not in os.environ
        return plain and own and self._files == _files(self.folder)

    def without_leave(self) -> Context:
        """The context of a bare `dvc repro`."""
        return replace(self.context, may_promote=False, trigger="dvc")


def _files(folder: Path) -> dict[Path, tuple[int, int, bytes]]:
    """When each file of a folder was written, its size, and how it begins: SQLite counts its transactions there."""
    found: dict[Path, tuple[int, int, bytes]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                found[path] = (path.stat().st_mtime_ns, path.stat().st_size, file.read(32))
    return found


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where projects lie as whole runs left them."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def decision() -> dict[str, Any]:
    """The content of a whole `decision.json`."""
    return decision_of().to_json()


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check stored models in this process: what is checked is the same, and seconds are saved."""
    monkeypatch.setattr(verification, "in_fresh_process", check_here)


@pytest.fixture
def new_project(tmp_path: Path, empty_registry: Path, runs: Path) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        (tmp_path / name / ".refit").mkdir(parents=True)
        (tmp_path / name / ".refit/mlflow.db").write_bytes(empty_registry.read_bytes())
        return Project(tmp_path / name, runs)

    return make


@pytest.fixture
def project(new_project: Callable[[str], Project]) -> Project:
    return new_project("toy")
