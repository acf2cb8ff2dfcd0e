"""A replay of a stream trains what the stages would have trained: late rows are learned once, in their place."""

from __future__ import annotations

import csv
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from points_project import PARAMS

from flows.session import context_of, prepare
from refit import learners
from refit.errors import UserError
from refit.files import artifacts
from refit.learners.online.learner import Online
from refit.new_project.project_folder import IGNORED, pipeline
from refit.operations.replay.fits import Fit, Fits
from refit.operations.replay.history import history
from refit.runtime import dvc_runner
from refit.runtime.context import Context
from refit.runtime.run_file import RunFile
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart
from tasks import featurize, ingest, train, validate

COLUMNS = {"id": "integer", "at": "timestamp", "x": "number", "answered": "timestamp", "y": "integer"}
FIRST, SECOND = "2024-05-03", "2024-07-03"
EVENTS = {
    "asked": {"available_at": "event_time", "columns": {"x": "x"}},
    "answers": {"available_at": "answered", "columns": {"y": "y"}},
}


def new_project(folder: Path, **label: Any) -> Path:
    """Six months of questions; most answers come within three days, some after weeks."""
    (folder / "raw").mkdir(parents=True)
    random = np.random.default_rng(0)
    for month in range(1, 7):
        with (folder / f"raw/{month}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for number in range(150):
                at = datetime(2024, month, 1, tzinfo=UTC) + timedelta(hours=4.6 * number)
                x = random.normal()
                hours = random.uniform(1, 70) if random.random() < 0.8 else random.uniform(200, 900)
                answered = at + timedelta(hours=hours)
                y = int(random.random() < 1 / (1 + np.exp(-2 * x)))
                writer.writerow(
                    (1000 * month + number, f"{at:%Y-%m-%d %H:%M}", f"{x:.4f}", f"{answered:%Y-%m-%d %H:%M}", y)
                )
    source = {"kind": "files", "path": "raw/*.csv", "columns": COLUMNS, "key": ["id"], "event_time": "at"}
    params = PARAMS | {
        "project": {"name": "stream", "timezone": "UTC"},
        "ingest": {"period": "month", "sources": {"questions": source | {"events": EVENTS}}},
        "featurize": {
            "definitions": "features.py",
            "label": {"source": "answers", "column": "y", "delay_hours": 48, "keep_late": True, **label},
        },
        "train": {
            "task": "binary",
            "metric": "log_loss",
            "seed": 0,
            "warm_start": "champion",
            "learners": [{"name": "stream", "kind": "online"}],
        },
        "evaluate": {"gate": {}},
    }
    (folder / "features.py").write_text(
        "from feature_store import Expression, FeatureSet, Spine\n"
        "FEATURES = FeatureSet(spine=Spine(source='asked', key='id', features=[Expression(name='x', sql='x')]))\n"
    )
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (folder / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(folder)
    return folder


def trained(project: Path, as_of: str, start: WarmStart) -> Training:
    """What the stages leave as of a moment."""
    prepare(project, RunFile(as_of=as_of))
    context = context_of(project)
    start.write(context.path(artifacts.WARM_START))
    for stage in (ingest, validate, featurize, train):
        stage.run(context)
    return Training.read(context.path(artifacts.TRAINING))


def moment(as_of: str) -> datetime:
    return datetime.fromisoformat(as_of).replace(tzinfo=UTC)


def replayed(context: Context) -> list[Fit]:
    """What a replay trains as of both moments, the second from the first."""
    end = moment(SECOND)
    fits = Fits(context, history(context, end, end))
    first = fits.at(moment(FIRST), None)
    return [first, fits.at(end, first)]


@pytest.mark.slow
def test_a_replay_trains_the_streams_that_the_stages_train(tmp_path: Path) -> None:
    project = new_project(tmp_path / "stream")
    first = trained(project, FIRST, WarmStart())
    shutil.copytree(project / artifacts.CANDIDATE, project / "before")
    start = {"version": "1", "model_digest": first.model_digest, "seen_until": first.seen_until, "folder": "before"}
    second = trained(project, SECOND, WarmStart(**start))
    fits = replayed(context_of(project))
    assert [fit.record.model_digest for fit in fits] == [first.model_digest, second.model_digest]
    assert [fit.record.rows for fit in fits] == [first.refit_rows, second.refit_rows]
    streams = [learners.load(fit.folder / "model") for fit in fits]
    assert isinstance(streams[1], Online)
    assert streams[1].position.steps == first.refit_rows + second.refit_rows, "each row once"
    assert first.refit_rows > first.rows.train + first.rows.validation, "some were late"
    for fit in fits:
        assert len(fit.held_back) == len(fit.unseen)
        assert set(fit.held_back) <= set(fit.learned)
        assert fit.learned.max() < fit.start


@pytest.mark.slow
def test_a_window_that_begins_after_the_end_of_a_stream_is_refused_as_rows_between_would_be_lost(
    tmp_path: Path,
) -> None:
    """A champion of May that stays, as candidates are refused: the window of four months on begins after its end."""
    project = new_project(tmp_path / "stream")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["featurize"]["windows"] = {"training": 1}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    first = trained(project, FIRST, WarmStart())
    shutil.copytree(project / artifacts.CANDIDATE, project / "before")
    start = {"version": "1", "model_digest": first.model_digest, "seen_until": first.seen_until, "folder": "before"}
    lost = (
        r"has read its stream up to 2024-03-.* the training window begins at 2024-04-01.* lengthen featurize\.windows"
    )
    with pytest.raises(UserError, match=lost):
        trained(project, SECOND, WarmStart(**start))
    with pytest.raises(UserError, match=lost):
        replayed(context_of(project))
    params["featurize"]["windows"] = {"training": 2}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert trained(project, SECOND, WarmStart(**start)).refit_rows > 200


def test_without_late_rows_a_replay_says_what_a_run_says(tmp_path: Path) -> None:
    project = new_project(tmp_path / "stream", keep_late=False)
    with pytest.raises(UserError, match=r"would never learn those whose labels came after .*keep_late: true"):
        replayed(context_of(project))
