"""Forecasts of several series through all stages: rows of a moment and a horizon, judged against the season before."""

from __future__ import annotations

import csv
import math
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from driving import drive, states

from flows.run_options import RunOptions
from flows.session import session
from refit.cli import running
from refit.config import STAGES
from refit.errors import UserError
from refit.files.artifacts import EVALUATION, FEATURE_SET, TABLE, read_json
from refit.new_project.project_folder import IGNORED, pipeline
from refit.reports.model_card.by_task.forecast import VIEW
from refit.runtime import dvc_runner
from refit.schemas.evaluation import Evaluation
from refit.schemas.feature_table import FeatureTable
from tasks.featurize import rows_for
from tasks.stages import run_remembered

pytestmark = pytest.mark.ci
FIRST, LAST, HORIZONS = date(2022, 12, 1), date(2023, 8, 1), [1, 3, 9]
PARAMS: dict[str, Any] = {
    "project": {"name": "sales", "timezone": "UTC"},
    "ingest": {
        "period": "month",
        "sources": {
            "days": {
                "kind": "files",
                "path": "raw/*.csv",
                "columns": {"shop": "text", "day": "date", "sold": "integer", "rain": "number", "holiday": "integer"},
                "key": ["shop", "day"],
                "event_time": "day",
                "events": {
                    "sales": {
                        "available_at": "event_time + interval 1 day",
                        "columns": {"shop": "shop", "sold": "sold"},
                    },
                    "weather": {
                        "available_at": "event_time + interval 1 day",
                        "columns": {"shop": "shop", "rain": "rain"},
                    },
                    "calendar": {
                        "available_at": "event_time - interval 90 day",
                        "columns": {"shop": "shop", "holiday": "holiday"},
                    },
                },
            },
            "forecasts": {
                "kind": "forecasts",
                "forecast": {"of": "days", "series": {"shop": "text"}, "step": "1d", "horizons": HORIZONS, "season": 7},
            },
        },
    },
    "validate": {},
    "register": {},
    "registry": {"tracking_uri": None, "trusted_types": []},
    "cost": {},
    "featurize": {
        "label": {"source": "sales", "column": "sold", "delay_hours": 0},
        "windows": {"test": 4},  # a month has too few days: forecasts of neighbouring days err alike
    },
    "train": {
        "task": "forecast",
        "metric": "mae",
        "seed": 0,
        "learners": [
            {"name": "season", "kind": "baseline"},
            {
                "name": "changes",
                "kind": "relative",
                "params": {
                    "level": "mean_7d",
                    "scaled": ["last_*", "seasons_*", "mean_*", "seasonal_naive"],
                    "kind": "sklearn.ensemble.HistGradientBoostingRegressor",
                    "params": {"max_iter": 40, "min_samples_leaf": 10},
                },
            },
        ],
    },
    "evaluate": {
        "permutation_rows": 0,
        "gate": {"max_loss": 5.0, "min_gain_over_baseline": 0.1, "min_rows": 100, "min_clusters": 10},
    },
}
OWN = """
from feature_store import Expression, FeatureSet, FeatureView, Lag, Spine

FEATURES = FeatureSet(
    spine=Spine(source="forecasts", key="row_key"),
    views=[
        FeatureView(name="known", source="{source}", entity=["shop"], features=[
            Lag(name="{column}", column="{column}", of="target_time"),
        ]),
    ],
)
"""


def days(first: date, last: date) -> Iterator[dict[str, Any]]:
    """Two shops of very different size: weeks repeat, the level grows, rain halves a day, a holiday doubles it."""
    chance = random.Random(3)
    day = first
    while day < last:
        number = (day - FIRST).days
        for shop, level in (("north", 40.0), ("south", 400.0)):
            rain, holiday = float(chance.random() < 0.2), int(day.day == 15)
            mean = level * (1 + number / 200) * (1.5 if day.weekday() > 4 else 1.0) * (1 + holiday) * (1 - rain / 2)
            sold = max(0, round(chance.gauss(mean, mean / 20)))
            yield {"shop": shop, "day": day, "sold": sold, "rain": rain, "holiday": holiday}
        day += timedelta(days=1)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before its first run; not to be changed."""
    folder = tmp_path_factory.mktemp("sales")
    write(folder / "raw/first.csv", list(days(FIRST, LAST)))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(())}, sort_keys=False))
    (folder / "released.json").write_text('{"released": []}\n')
    (folder / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(folder)
    return folder


@pytest.fixture(scope="session")
def done(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after its first run; not to be changed."""
    folder = tmp_path_factory.mktemp("forecast") / "sales"
    shutil.copytree(begun, folder)
    told = drive(folder)
    assert told["model"]["alias"] == "champion"
    return folder


@pytest.fixture
def project(begun: Path, tmp_path: Path) -> Path:
    """One of its own before its first run, to be changed."""
    return Path(shutil.copytree(begun, tmp_path / "sales"))


@pytest.fixture
def after(done: Path, tmp_path: Path) -> Path:
    """One of its own after its first run, to be changed."""
    return Path(shutil.copytree(done, tmp_path / "sales", symlinks=True))


def featurized(project: Path, settings: dict[str, Any]) -> None:
    with session(project, RunOptions(overrides=settings)) as run:
        for stage in STAGES[: STAGES.index("train")]:
            run_remembered(stage, run.context())


def truth() -> dict[tuple[str, datetime], dict[str, Any]]:
    return {(row["shop"], datetime.combine(row["day"], datetime.min.time())): row for row in days(FIRST, LAST)}


def test_a_row_is_a_series_a_moment_and_a_horizon_and_its_label_what_then_came(done: Path) -> None:
    rows, came = pq.read_table(done / TABLE).to_pylist(), truth()
    assert {row["horizon"] for row in rows} == set(HORIZONS)
    for row in rows:
        assert row["label"] == came[row["shop"], row["event_time"] + timedelta(days=row["horizon"] - 1)]["sold"]
        back = 7 * math.ceil(row["horizon"] / 7)
        season = came.get((row["shop"], row["event_time"] + timedelta(days=row["horizon"] - 1 - back)))
        assert row["seasonal_naive"] == (season["sold"] if season else None)
        before = came.get((row["shop"], row["event_time"] - timedelta(days=1)))
        assert row["last_1d"] == (before["sold"] if before else None)


def test_nobody_learns_from_what_came_after_its_window(done: Path) -> None:
    windows = read_json(done / FEATURE_SET)["windows"]
    table = pq.read_table(done / TABLE)
    for name in ("train", "validation"):
        rows = table.filter(pc.equal(table["window"], name)).to_pylist()
        known = max(row["event_time"] + timedelta(days=row["horizon"]) for row in rows)
        assert known == max(row["label_known_at"] for row in rows)
        assert f"{known:%Y-%m-%d}" == windows[name]["end"][:10]


def test_errors_are_reported_by_horizon_next_to_the_season_before(done: Path) -> None:
    evaluation = read_json(done / EVALUATION)
    found = evaluation["forecast"]
    assert [each["horizon"] for each in found["horizons"]] == HORIZONS
    predictions = pq.read_table(done / "reports/predictions.parquet")
    table = pq.read_table(done / TABLE)
    learned = [row for row in table.to_pylist() if row["window"] != "test" and row["seasonal_naive"] is not None]
    scale = {
        shop: np.mean([abs(row["label"] - row["seasonal_naive"]) for row in learned if row["shop"] == shop])
        for shop in ("north", "south")
    }
    error = np.abs(predictions["label"].to_numpy() - predictions["candidate"].to_numpy())
    shops = [key.split("|")[0] for key in predictions["row_key"].to_pylist()]
    assert found["all"]["mase"] == pytest.approx(
        np.mean([e / scale[shop] for e, shop in zip(error, shops, strict=True)])
    )
    assert found["all"]["mae"]["value"] == pytest.approx(error.mean())
    assert found["all"]["saved"] > 0.1
    assert evaluation["metrics"]["baseline"]["mae"]["value"] == pytest.approx(found["all"]["naive_mae"]["value"])
    assert {"error_by_horizon.svg", "residuals.svg"} <= {path.name for path in (done / "reports/figures").iterdir()}
    assert "How far ahead?" in (done / "reports/model_card.html").read_text()
    assert "less than the season before was off by" in " ".join(VIEW.summary(Evaluation.read(done / EVALUATION)))


def test_naive_forecasts_are_as_known_at_the_forecast(done: Path) -> None:
    came = {key: row["sold"] for key, row in truth().items()}
    for row in pq.read_table(done / TABLE).to_pylist():
        shop, now = row["row_key"].split("|")[0], row["event_time"]
        back = {count: came.get((shop, now - timedelta(days=count))) for count in range(1, 30)}
        known = [back[count] for count in range(1, 8) if back[count] is not None]
        last = row["naive: last_value"]
        assert math.isnan(last) if back[1] is None else last == back[1]
        assert not known or row["naive: moving_average"] == pytest.approx(np.mean(known))
        if back[1] is not None and back[29] is not None:
            drift = back[1] + row["horizon"] * (back[1] - back[29]) / 28
            assert row["naive: drift"] == pytest.approx(drift)


def test_no_naive_forecast_is_a_feature(done: Path) -> None:
    assert not [name for name in FeatureTable.read(done / FEATURE_SET).features if name.startswith("naive")]


def test_each_naive_forecast_is_compared_by_horizon(done: Path) -> None:
    evaluation = read_json(done / EVALUATION)
    names = ["season_before", "last_value", "moving_average", "drift"]
    assert [each["name"] for each in evaluation["opponents"]] == names
    table = pq.read_table(done / TABLE, filters=[("window", "=", "test")])
    table = table.sort_by([("event_time", "ascending"), ("row_key", "ascending")])
    for part, report in zip(evaluation["opponents_on_parts"], evaluation["forecast"]["horizons"], strict=True):
        rows = table.filter(pc.equal(table["horizon"], report["horizon"]))
        assert (part["by"], part["value"], part["rows"]) == ("horizon", str(report["horizon"]), rows.num_rows)
        assert part["scores"]["candidate"] == pytest.approx(report["mae"]["value"])
        last = np.abs(rows["label"].to_numpy() - rows["naive: last_value"].to_numpy()).mean()
        assert part["scores"]["last_value"] == pytest.approx(last)
    validation = pq.read_table(done / TABLE, filters=[("window", "=", "validation")])
    errors = {
        name: np.abs(validation["label"].to_numpy() - validation[f"naive: {name}"].to_numpy()).mean()
        for name in names[1:]
    }
    shown = {each["name"]: each["validation"] for each in evaluation["opponents"]}
    assert {name: shown[name] for name in errors} == pytest.approx(errors)
    assert [each["name"] for each in evaluation["opponents"] if each["best"]] == [min(shown, key=shown.__getitem__)]
    assert "value at the same time" not in (card := (done / "reports/model_card.html").read_text())
    assert "moving average" in card


def test_newer_data_adds_to_forecasts_of_every_nth_step_and_the_newest_moment_is_forecast(after: Path) -> None:
    params = yaml.safe_load((after / "params.yaml").read_text())
    params["ingest"]["sources"]["forecasts"]["forecast"]["every"] = 5
    (after / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for newest in (date(2023, 8, 3), date(2023, 8, 4)):  # whose last steps are no fifth days
        write(after / "raw/later.csv", [row for row in days(FIRST, newest) if row["day"] >= LAST])
        score = running.score(after, "newest", as_of=f"{newest}T06:00", out=None, wait_seconds=1)
        assert [row["row_key"] for row in pq.read_table(score.out).to_pylist()] == [
            f"{shop}|{newest} 00:00:00|{horizon}" for shop in ("north", "south") for horizon in HORIZONS
        ]


def test_growth_is_followed(done: Path) -> None:
    """In the last month more is sold than before: a tree that says only what it saw would stay below."""
    rows = pq.read_table(done / "reports/predictions.parquet").to_pylist()
    for shop in ("north", "south"):
        shares = [row["candidate"] / row["label"] for row in rows if row["row_key"].startswith(shop)]
        assert np.median(shares) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(("source", "column", "refused"), [("weather", "rain", True), ("calendar", "holiday", False)])
def test_what_the_target_will_bring_is_refused_and_what_is_known_ahead_is_not(
    project: Path, source: str, column: str, *, refused: bool
) -> None:
    (project / "features.py").write_text(OWN.format(source=source, column=column))
    settings: dict[str, Any] = {
        "featurize.definitions": "features.py",
        "train.learners": [{"name": "ridge", "kind": "sklearn.linear_model.Ridge"}],
    }
    if refused:
        with pytest.raises(UserError, match=r"'rain' of view 'known' is known for no row.*only after the prediction"):
            featurized(project, settings)
    else:
        featurized(project, settings)
        table, came = pq.read_table(project / TABLE).to_pylist(), truth()
        assert all(
            row["holiday"] == came[row["shop"], row["event_time"] + timedelta(days=row["horizon"] - 1)]["holiday"]
            for row in table
        )


def test_the_newest_moment_of_each_series_is_forecast(after: Path) -> None:
    found = running.score(after, "newest", as_of="2023-08-01T06:00", out=None, wait_seconds=1)
    rows = pq.read_table(found.out).to_pylist()
    assert [row["row_key"] for row in rows] == [
        f"{shop}|2023-08-01 00:00:00|{horizon}" for shop in ("north", "south") for horizon in HORIZONS
    ]
    assert all(row["prediction"] > 0 for row in rows)
    told = [f"{row['shop']}|{row['target_time'] - timedelta(days=row['horizon'] - 1)}|{row['horizon']}" for row in rows]
    assert told == [row["row_key"] for row in rows], "each line says what it is a forecast of"


def test_a_series_that_ends_before_the_others_is_told_of(after: Path) -> None:
    write(after / "raw/later.csv", [row for row in days(LAST, date(2023, 8, 2)) if row["shop"] == "north"])
    found = running.score(after, "newest", as_of="2023-08-02T06:00", out=None, wait_seconds=1)
    (note,) = found.notes
    assert "end before 2023-08-02 00:00" in note
    assert note.endswith("from there: south (2023-08-01 00:00)")
    assert found.rows.scored == 2 * len(HORIZONS)


def test_a_champion_that_is_asked_for_horizons_it_never_learned_says_so(after: Path) -> None:
    params = yaml.safe_load((after / "params.yaml").read_text())
    params["ingest"]["sources"]["forecasts"]["forecast"]["horizons"] = [1, 5, 20]
    (after / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    found = running.score(after, "newest", as_of="2023-08-01T06:00", out=None, wait_seconds=1)
    (note,) = [each for each in found.notes if "never learned" in each]
    assert "forecast 5, 20 steps ahead, only 1, 3, 9" in note
    assert found.rows.scored == 2 * 3


@pytest.mark.slow
def test_a_later_month_is_taken_in_and_judged(after: Path) -> None:
    assert states(drive(after)) == ["unchanged"] * 6
    write(after / "raw/later.csv", list(days(FIRST, date(2023, 9, 1)))[2 * (LAST - FIRST).days :])
    told = drive(after)
    assert told["as_of"].startswith("2023-09-01")
    assert states(told)[0] == "executed"
    watched = running.drift(after, as_of="latest", wait_seconds=1)
    assert watched.verdict == "warn"
    assert any("12 of 42 rows are labelled, 500 are needed" in reason for reason in watched.reasons)


@pytest.mark.slow
def test_what_forecasts_are_judged_by_is_not_excluded(project: Path) -> None:
    with pytest.raises(UserError, match=r"featurize\.exclude: forecasts are judged by seasonal_naive, shop"):
        featurized(project, {"featurize.exclude": ["s*"]})


def test_a_step_that_is_not_the_rows_own_is_told_of(project: Path) -> None:
    with pytest.raises(UserError, match="that the rows of 'days' are 1h apart, and that 1 steps ahead still lie in"):
        featurized(project, {"ingest.sources.forecasts.forecast.step": "1h"})


@pytest.mark.slow
def test_a_series_whose_steps_are_others_is_told_of(project: Path) -> None:
    odd = [row | {"shop": "odd"} for row in days(FIRST, LAST) if row["shop"] == "north" and row["day"].day % 2]
    write(project / "raw/odd.csv", odd)
    said: list[str] = []
    with session(project) as run:
        context = replace(run.context(), progress=lambda what, *_: said.append(what))
        for stage in STAGES[: STAGES.index("train")]:
            run_remembered(stage, context)
    told = next(each for each in said if "without an outcome" in each)
    assert "'days' has no row of just then: odd (" in told
    assert "north" not in told


@pytest.mark.slow
def test_a_model_keeps_its_season_where_other_forecasts_are_asked_for(after: Path) -> None:
    """Whatever the rows of today are made by, the champion is judged and asked by what it learned."""
    settings = {
        f"ingest.sources.forecasts.forecast.{name}": value for name, value in (("season", 10), ("horizons", [1]))
    }
    then = {row["row_key"]: row["seasonal_naive"] for row in pq.read_table(after / TABLE).to_pylist()}
    own = FeatureTable.read(after / FEATURE_SET).definitions
    featurized(after, settings)
    assert {row["horizon"] for row in pq.read_table(after / TABLE).to_pylist()} == {1}
    with session(after, RunOptions(overrides=settings)) as run:
        now = rows_for(run.context(), own, "test").to_pylist()
    assert now
    assert all(row["seasonal_naive"] == then[row["row_key"]] for row in now)


@pytest.mark.slow
def test_a_season_longer_than_the_history_is_told_with_both(project: Path) -> None:
    words = (
        r"season of 250 steps of 1d is longer than the history: 'sales' has 243 steps, 2022-12-01 00:00 to 2023-07-31"
    )
    with pytest.raises(UserError, match=words):
        featurized(project, {"ingest.sources.forecasts.forecast.season": 250})
