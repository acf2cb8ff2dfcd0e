"""Drift and replay of forecasts: each horizon's label comes with its own delay, and a run learns from some of them."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import yaml

from flows.session import context_of, prepare
from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.files import artifacts
from refit.new_project.project_folder import IGNORED, pipeline
from refit.operations.replay.drift_checks import Watch
from refit.operations.replay.fits import Fit, Fits
from refit.operations.replay.history import History, history
from refit.operations.replay.policies import RetrainingPolicy
from refit.operations.replay.simulation import Parts, Simulator
from refit.runtime import dvc_runner
from refit.runtime.context import Context
from refit.runtime.run_file import RunFile
from refit.schemas.feature_table import FeatureTable
from refit.schemas.training import Training
from tasks import featurize, ingest, train, validate
from tasks.drift import observations
from tasks.score.champion_model import Champion
from tasks.score.data_as_of import validated_data_at

pytestmark = pytest.mark.ci

HORIZONS, SERIES, MAX_ROWS = (1, 3, 9), 2, 100
AS_OF, END = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
COLUMNS = {"shop": "text", "day": "date", "sold": "number"}
EVENTS = {"sales": {"available_at": "event_time + interval 1 day", "columns": {"shop": "shop", "sold": "sold"}}}


class Past(NamedTuple):
    context: Context
    training: Training
    rows: History
    fit: Fit
    fits: Fits


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """What the stages trained of four months of sales, and a replay's past with the model of the same moment."""
    folder = tmp_path_factory.mktemp("replayed") / "sales"
    (folder / "raw").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "raw/all.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for day in range((END - datetime(2024, 1, 1, tzinfo=UTC)).days):
            for shop in ("north", "south"):
                writer.writerow((shop, date(2024, 1, 1) + timedelta(days=day), f"{random.normal(day % 7, 1):.3f}"))
    source = {"kind": "files", "path": "raw/*.csv", "columns": COLUMNS, "key": ["shop", "day"], "event_time": "day"}
    forecast = {"of": "days", "series": {"shop": "text"}, "step": "1d", "horizons": list(HORIZONS), "season": 7}
    sources = {
        "days": source | {"events": EVENTS},
        "forecasts": {"kind": "forecasts", "forecast": forecast | {"learn": 2}},
    }
    learner = {"name": "ridge", "kind": "sklearn.linear_model.Ridge"}
    params: dict[str, Any] = {
        "project": {"name": "sales", "timezone": "UTC"},
        "ingest": {"period": "month", "sources": sources},
        "validate": {},
        "register": {},
        "registry": {"tracking_uri": None, "trusted_types": []},
        "cost": {},
        "featurize": {
            "label": {"source": "sales", "column": "sold", "delay_hours": 0},
            "windows": {"test": 1, "validation": 1, "training": None},
        },
        "train": {"task": "forecast", "metric": "mae", "seed": 0, "max_rows": MAX_ROWS, "learners": [learner]},
        "drift": {"min_labelled_rows": 10, "min_reference_windows": 2},
        "evaluate": {"gate": {"min_rows": 20, "max_loss": 0.5, "min_gain_over_baseline": 0}},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (folder / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(folder)
    prepare(folder, RunFile(as_of=AS_OF.date().isoformat()))
    context = context_of(folder)
    for stage in (ingest, validate, featurize, train):
        stage.run(context)
    rows = history(context, END, END)
    fits = Fits(context, rows)
    return Past(context, Training.read(context.path(artifacts.TRAINING)), rows, fits.at(AS_OF, None), fits)


@pytest.mark.slow
def test_a_replay_learns_from_the_rows_and_horizons_that_a_run_learns_from(past: Past) -> None:
    table = FeatureTable.read(past.context.path(artifacts.FEATURE_SET))
    assert past.training.rows.train == MAX_ROWS < table.windows.train.rows
    assert past.fit.record.model_digest == past.training.model_digest
    assert len(past.fit.learned) == table.windows.train.rows + table.windows.validation.rows
    learned = np.flatnonzero(past.rows.between(None, past.fit.opened[0]))
    per_forecast = len(HORIZONS) * np.isin(learned, past.fit.learned).mean()
    assert 1.8 < per_forecast <= 2
    held_back = past.rows.table["event_time"].take(past.fit.held_back).to_numpy()
    assert held_back.min() >= np.datetime64("2024-03-01")


def test_drift_counts_no_label_of_a_time_of_which_longer_horizons_wait_for_theirs(past: Past) -> None:
    champion = cast("Champion", SimpleNamespace(key="row_key"))
    validated = validated_data_at(past.context, "latest")
    arrived = observations.labels(past.context, champion, validated)
    labels = observations.ripe(arrived, validated.as_of, past.context.params).to_pylist()
    assert arrived.num_rows > len(labels), "shorter horizons of later times have theirs"
    horizons: dict[datetime, int] = {}
    for row in labels:
        horizons[row["event_time"]] = horizons.get(row["event_time"], 0) + 1
    assert max(horizons) == datetime(2024, 6, 21)  # noqa: DTZ001
    assert set(horizons.values()) == {len(HORIZONS) * SERIES}


def test_a_replay_judges_drift_by_whole_forecasts_in_the_newest_windows_and_in_the_backtest(past: Past) -> None:
    drift = past.context.params.drift
    evidence = Watch(past.context, past.rows).gathered(past.fit, END, AS_OF, [], drift)
    labelled = {str(window.first): each.labelled for window, each in evidence.dated_performance}
    whole_day = len(HORIZONS) * SERIES
    assert labelled["2024-06-10"] == 7 * whole_day
    assert labelled["2024-06-17"] == 5 * whole_day  # the 22nd is 9 days before the 1st of July
    assert labelled["2024-06-24"] == 0
    assert evidence.new_labelled == 61 * whole_day
    backtest = Watch(past.context, past.rows)._backtest(past.fit, Watch(past.context, past.rows)._policy(drift))
    weeks = [f"{window.first:%m-%d}" for window in backtest.windows]
    assert weeks == ["03-05", "03-12", "03-19", "04-02", "04-09", "04-16"]
    assert backtest.rows == (5 * 7 + 5) * whole_day / 6  # from 24 March on some labels came in April only


@pytest.mark.parametrize(("horizon", "count"), [(1, 8), (40, 9), (90, 16)])
def test_there_are_as_many_windows_as_the_decision_needs_with_every_label(past: Past, horizon: int, count: int) -> None:
    params = past.context.params
    forecasts = params.ingest.sources["forecasts"]
    assert forecasts.forecast is not None
    longer = forecasts.model_copy(update={"forecast": forecasts.forecast.model_copy(update={"horizons": (horizon,)})})
    ingest_params = params.ingest.model_copy(update={"sources": {**params.ingest.sources, "forecasts": longer}})
    changed = params.model_copy(update={"ingest": ingest_params})
    windows = observations.windows(datetime(2024, 7, 1, tzinfo=UTC), date(2023, 1, 1), changed, 8)
    assert len(windows) == count


def test_the_gate_of_a_replay_refuses_a_candidate_that_fails_a_behavioural_test(past: Past) -> None:
    tests = [
        {"kind": "direction", "name": f"it {way}", "column": "horizon", "add": 1, "prediction": way, "share": 1}
        for way in ("rises", "falls")
    ]
    evaluate = EvaluateParams.model_validate({**past.context.params.evaluate.model_dump(), "behaviour": tuple(tests)})
    context = replace(past.context, params=past.context.params.model_copy(update={"evaluate": evaluate}))
    simulation = Simulator(context, past.rows, [AS_OF], Parts()).run(RetrainingPolicy("never", "never", DriftParams()))
    [step] = simulation.steps
    assert not step.promoted
    assert any("horizon" in reason for reason in step.gate), step.gate
