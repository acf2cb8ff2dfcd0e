"""A replay of anomalies learns from rows without a label, as the stages do: there a label only judges."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml
from points_project import PARAMS

from flows.session import context_of, prepare
from refit.config import DriftParams
from refit.files import artifacts
from refit.new_project.project_folder import IGNORED, pipeline
from refit.operations.replay.fits import Fit, Fits
from refit.operations.replay.history import History, history
from refit.operations.replay.policies import RetrainingPolicy
from refit.operations.replay.scoring import scores_of, spans_of
from refit.operations.replay.simulation import Simulation, Step
from refit.runtime import dvc_runner
from refit.runtime.run_file import RunFile
from refit.schemas.training import Training
from tasks import featurize, ingest, train, validate

COLUMNS = {"id": "integer", "at": "timestamp", "x": "number", "y": "number", "judged": "timestamp", "odd": "integer"}
EVENTS = {
    "measured": {"available_at": "event_time", "columns": {"x": "x", "y": "y"}},
    "inspections": {"available_at": "judged", "columns": {"odd": "odd"}},
}
AS_OF, END = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 31, tzinfo=UTC)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five months of measurements; one in five is ever inspected, some of them only after months."""
    folder = tmp_path_factory.mktemp("replayed") / "machines"
    (folder / "raw").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "raw/all.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(750):
            at, odd = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=4.8 * number), int(random.random() < 0.1)
            point = [f"{value:.4f}" for value in random.normal(4 * odd, 1, 2)]
            judged = at + timedelta(days=int(random.choice([1, 90])))
            inspected = (f"{judged:%Y-%m-%d %H:%M}", odd) if random.random() < 0.2 else ("", "")
            writer.writerow((number, f"{at:%Y-%m-%d %H:%M}", *point, *inspected))
    source = {"kind": "files", "path": "raw/*.csv", "columns": COLUMNS, "key": ["id"], "event_time": "at"}
    params = PARAMS | {
        "project": {"name": "machines", "timezone": "UTC"},
        "ingest": {"period": "month", "sources": {"machines": source | {"events": EVENTS}}},
        "featurize": {
            "definitions": "features.py",
            "label": {"source": "inspections", "column": "odd", "delay_hours": 0},
            "windows": {"test": 1, "validation": 1, "training": None},
        },
        "train": {
            "task": "anomaly",
            "metric": "log_volume",
            "seed": 0,
            "learners": [
                {"name": "forest", "kind": "sklearn.ensemble.IsolationForest", "params": {"n_estimators": 20}}
            ],
        },
        "evaluate": {"gate": {"min_rows": 20, "max_loss": 0.5, "min_gain_over_baseline": 0}},
    }
    (folder / "features.py").write_text(
        "from feature_store import Expression, FeatureSet, Spine\nFEATURES = FeatureSet(spine=Spine(source='measured', "
        "key='id', features=[Expression(name=each, sql=each) for each in 'xy']))\n"
    )
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (folder / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(folder)
    return folder


@pytest.fixture(scope="module")
def replayed(project: Path) -> tuple[Training, History, Fit]:
    """What the stages trained, and the past of the same project with its model of the same moment."""
    prepare(project, RunFile(as_of=AS_OF.date().isoformat()))
    context = context_of(project)
    for stage in (ingest, validate, featurize, train):
        stage.run(context)
    past = history(context, END, AS_OF + timedelta(days=120))
    return Training.read(context.path(artifacts.TRAINING)), past, Fits(context, past).at(AS_OF, None)


@pytest.mark.slow
def test_a_replay_learns_from_rows_without_a_label_as_the_stages_do(replayed: tuple[Training, History, Fit]) -> None:
    trained, _, fit = replayed
    assert fit.record.model_digest == trained.model_digest
    assert len(fit.learned) == trained.rows.train + trained.rows.validation


@pytest.mark.slow
def test_a_replay_judges_by_the_labels_of_that_moment(replayed: tuple[Training, History, Fit]) -> None:
    _, past, fit = replayed
    labels = past.labels_at(fit.tested, AS_OF)
    later = past.known_at[fit.tested] > np.datetime64(AS_OF.replace(tzinfo=None))
    assert later.any()
    assert np.isnan(labels[later]).all()
    assert 0 < (~np.isnan(labels)).sum() < len(labels)


@pytest.mark.ci
def test_rows_without_a_label_count_by_metrics_that_need_none(replayed: tuple[Training, History, Fit]) -> None:
    _, past, fit = replayed
    simulation = Simulation(
        RetrainingPolicy("always", "always", DriftParams()), [Step(AS_OF, True, (), fit, in_charge=fit)]
    )
    spans = spans_of(past, (AS_OF, END), ZoneInfo("UTC"))
    by_volume, by_label = (scores_of(past, simulation, spans, metric) for metric in ("log_volume", "roc_auc"))
    assert by_volume.labelled == by_volume.rows
    assert 0 < by_label.labelled[0] < by_label.rows[0]
    assert np.isfinite([by_volume.value, by_label.value]).all()
