"""Numbers and several classes go through all that a probability does: judged, scored, watched, made again."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from driving import copy_project, drive, states

from flows.run_options import RunOptions
from refit import learners
from refit.cli import inspection, replays, running
from refit.cli.cross_validate import cross_validate
from refit.files.artifacts import CANDIDATE, DECISION, EVALUATION, METRICS, MODEL_CARD, TABLE, TRAINING, read_json
from refit.learners.adaptive import adaptive_margins
from refit.learners.intervals import widen
from refit.learners.prediction_intervals import IntervalLearner
from refit.new_project.project_folder import create
from refit.problems import kind_of, metric_named
from refit.schemas.drift_decision import DriftDecision

TASKS = ("regression", "multiclass")
UNCHANGED = ["unchanged"] * 6
FIGURES = {
    "regression": {"predicted_actual", "residuals", "error_by_size", "intervals", "intervals_by_group"},
    "multiclass": {"confusion", "classes", "calibration"},
}


def flats(task: str, first: date, end: date, seed: int = 5) -> Iterator[dict[str, Any]]:
    """Sales in which area, rooms and town decide the price; a day has luck of its own."""
    chance = random.Random(seed)
    day, number = first, 0
    while day < end:
        luck = chance.gauss(0, 0.3)
        for _ in range(20):
            number += 1
            area, rooms, town = round(chance.uniform(20, 150), 1), chance.randint(1, 6), chance.choice("ABC")
            worth = 0.03 * area + 0.4 * rooms + {"A": 1, "B": 0, "C": -1}[town]
            chances = [worth - 4 + luck + chance.gauss(0, 0.8), 0.6 + chance.gauss(0, 0.8), 3.2 - worth]
            price = {
                "regression": round(100 + 20 * worth + 10 * luck + chance.gauss(0, 15), 2),
                "multiclass": ("high", "middle", "low")[chances.index(max(chances))],
            }
            yield {
                "flat": f"{seed}-{number:05d}",
                "sold": day,
                "area": area,
                "rooms": rooms,
                "town": town,
                "agent": "KLM"[number % 3],
                "price": price[task],
            }
        day += timedelta(days=1)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A generated project of each task after its first run; not to be changed."""
    found = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        write(folder / "flats.csv", list(flats(task, date(2024, 1, 1), date(2024, 6, 1))))
        create(folder / "demo", csv=folder / "flats.csv", time=None, label="price", key=())
        params = (folder / "demo/params.yaml").read_text()
        params = params.replace("max_iter: 300", "max_iter: 25").replace(
            "evaluate:\n", "evaluate:\n  permutation_rows: 200\n  slices: [town]\n"
        )
        if task == "regression":
            params = params.replace("train:\n", "train:\n  intervals: {within: agent, level: 0.8, adaptive: true}\n")
            params = params.replace("featurize:\n", "featurize:\n  exclude: [agent]\n  keep: [agent]\n")
        (folder / "demo/params.yaml").write_text(params)
        drive(folder / "demo")
        found[task] = folder / "demo"
    return found


@pytest.fixture
def copied(done: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A task, and a copy of its project at home at a path of its own."""
    return request.param, copy_project(done[request.param], tmp_path / "demo")


each_task = pytest.mark.parametrize("task", TASKS)
each_copy = pytest.mark.parametrize("copied", TASKS, indirect=True)
classes_now = pytest.mark.parametrize(
    "copied", [pytest.param("regression", marks=pytest.mark.slow), "multiclass"], indirect=True
)


@pytest.mark.slow
@each_task
def test_init_sees_the_task_and_the_first_model_takes_charge_by_the_metric_of_it(
    done: dict[str, Path], task: str
) -> None:
    training, decision = read_json(done[task] / TRAINING), read_json(done[task] / DECISION)
    assert training["task"] == task
    assert training["metric"] == decision["metric"] == {"regression": "mae", "multiclass": "log_loss"}[task]
    assert decision["promote"] is True, decision["reasons"]
    assert inspection.champion_summary(done[task]).version == "1"
    assert training["classes"] == (["high", "low", "middle"] if task == "multiclass" else [])


@pytest.mark.slow
@each_task
def test_every_metric_of_the_task_is_measured_with_its_interval_and_only_its_plots_are_drawn(
    done: dict[str, Path], task: str
) -> None:
    evaluation = read_json(done[task] / EVALUATION)
    ours = evaluation["metrics"]["candidate"]
    assert set(ours) == set(kind_of(task).metric_names())
    for name, found in ours.items():
        assert found["lower"] <= found["value"] <= found["upper"], name
    drawn = {path.stem for path in (done[task] / "reports/figures").glob("*.svg")}
    assert FIGURES[task] <= drawn
    assert not drawn & {"roc", "precision_recall", "scores"}
    assert {part["by"] for part in evaluation["slices"] if part["enough"]} == {"town"}
    assert evaluation["candidate"]["threshold"] is None


@pytest.mark.slow
@each_task
def test_the_model_card_speaks_of_the_task(done: dict[str, Path], task: str) -> None:
    page = (done[task] / MODEL_CARD).read_text()
    assert {"regression": "On average it is off by", "multiclass": "of the rows rightly"}[task] in page
    assert {"regression": "How far off, and where?", "multiclass": "Confusion of classes"}[task] in page
    assert "called positive" not in page


@pytest.mark.slow
def test_intervals_are_learned_judged_and_told(done: dict[str, Path]) -> None:
    told = read_json(done["regression"] / TRAINING)["intervals"]
    assert set(told["groups"]) == {"K", "L", "M"}
    found = read_json(done["regression"] / EVALUATION)["intervals"]
    assert found["coverage"]["value"] == pytest.approx(0.8, abs=0.06)
    assert [group["value"] for group in found["groups"]] == ["K", "L", "M"]
    assert found["plain"]["coverage"]["value"] == pytest.approx(0.8, abs=0.06)
    assert found["plain"]["width"]["value"] != found["width"]["value"]  # some labels were known while it was judged
    assert read_json(done["regression"] / METRICS)["interval_coverage"] == found["coverage"]["value"]
    rows = pq.read_table(done["regression"] / "reports/predictions.parquet")
    low, label, high = (rows[name].to_numpy() for name in ("low", "label", "high"))
    assert np.mean((low <= label) & (label <= high)) == pytest.approx(found["coverage"]["value"])
    page = (done["regression"] / MODEL_CARD).read_text()
    assert "80 % intervals held" in page
    assert "How sure is it?" in page
    assert read_json(done["multiclass"] / TRAINING)["intervals"] is None


@pytest.mark.slow
def test_intervals_are_judged_with_the_labels_that_were_known_at_each_prediction(done: dict[str, Path]) -> None:
    learner = learners.load(done["regression"] / CANDIDATE)
    assert isinstance(learner, IntervalLearner)
    table = pq.read_table(done["regression"] / TABLE, filters=[("window", "=", "test")])
    judged = pq.read_table(done["regression"] / "reports/predictions.parquet")
    assert table["event_time"].equals(judged["event_time"])
    band, groups, labels = learner.band(table), learner.groups(table), table["label"].to_numpy()
    at = table["prediction_time"].to_numpy()
    for late, same in ((0, True), (72, False)):  # the delay of this project's labels is 0
        known_at = table["event_time"].to_numpy() + np.timedelta64(late, "h")
        margins = adaptive_margins(learner.intervals, band, groups, labels, predicted_at=at, known_at=known_at)
        assert np.allclose(widen(band, margins)[:, 1], judged["high"].to_numpy()) is same


@pytest.mark.slow
@pytest.mark.parametrize("copied", ["regression"], indirect=True)
def test_scores_have_intervals_that_follow_the_labels_known_by_then(copied: tuple[str, Path]) -> None:
    """In June prices jump; who scores before that is known hears of nothing, who scores later of wide intervals."""
    _, project = copied
    june = list(flats("regression", date(2024, 6, 1), date(2024, 7, 1), seed=6))
    odd = [row | {"price": row["price"] + (-1) ** place * 500} for place, row in enumerate(june)]
    write(project / "raw/june.csv", odd)
    write(project / "new.csv", [{name: row[name] for name in row if name != "price"} for row in june[-20:]])
    widths = []
    for as_of in ("2024-05-31T12:00", "2024-06-25"):
        told = running.score(project, str(project / "new.csv"), as_of=as_of, out=None, wait_seconds=0, quiet=True)
        found = pq.read_table(told.out)
        low, prediction, high = (found[name].to_numpy() for name in ("low", "prediction", "high"))
        assert (low < prediction).all()
        assert (prediction < high).all()
        widths.append(float((high - low).mean()))
        assert told.intervals
        assert (told.intervals.level, told.intervals.mean_width) == (0.8, pytest.approx(widths[-1]))
    assert widths[0] < 60 < 900 < widths[1]


@pytest.mark.slow
@classes_now
def test_a_second_run_is_unchanged_and_the_next_month_is_scored_watched_and_learned_from(
    copied: tuple[str, Path],
) -> None:
    task, project = copied
    assert states(drive(project)) == UNCHANGED
    later = list(flats(task, date(2024, 6, 1), date(2024, 7, 1), seed=6))
    for row in later[:3]:
        row["price"] = "castle" if task == "multiclass" else row["price"]  # a class that nobody has seen
    write(project / "raw/june.csv", later)
    write(project / "new.csv", [{name: row[name] for name in row if name != "price"} for row in later[:40]])
    told = running.score(project, str(project / "new.csv"), as_of="now", out=None, wait_seconds=0, quiet=True)
    assert told.rows.scored == 40
    scored = pq.read_table(told.out)
    if task == "multiclass":
        p = np.column_stack([scored[f"probability_{name}"] for name in ("high", "low", "middle")])
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        assert scored["prediction"].to_pylist() == [("high", "low", "middle")[place] for place in p.argmax(axis=1)]
    else:
        assert abs(np.mean(scored["prediction"]) - np.mean([row["price"] for row in later[:40]])) < 25
    watched = running.drift(project, as_of="latest", wait_seconds=0, quiet=True)
    newest = watched.windows[-1]
    assert (newest.performance.skill or 0) > 0.2
    assert newest.performance.estimated is None
    assert {"label", "prediction", "area"} <= {each.column for each in newest.inputs.columns}
    if task == "regression":
        require_coverage_of_scores(project, watched, {row["flat"]: row["price"] for row in later})
    again = drive(project)
    assert again["decision"]["comparand"]["version"] == "1"
    assert [each["against"] for each in again["decision"]["compared"]] == ["champion", "baseline"]
    if task == "multiclass":
        assert any("'castle' (3 rows)" in note for note in again["decision"]["notes"])


def require_coverage_of_scores(project: Path, watched: DriftDecision, prices: dict[str, float]) -> None:
    """The drift watch counts the labels that lie in the intervals that a score would have given."""
    told = running.score(project, "2024-06", as_of="now", out=None, wait_seconds=0, quiet=True)
    rows, held = pq.read_table(told.out), watched.coverage
    assert held is not None
    days = rows["event_time"].to_numpy().astype("datetime64[D]")
    inside = (days >= np.datetime64(held.first)) & (days < np.datetime64(held.end))
    label = np.array([prices[key] for key in rows["flat"].to_pylist()])[inside]
    low, high = (rows[name].to_numpy()[inside] for name in ("low", "high"))
    assert (held.level, held.labelled) == (0.8, inside.sum())
    assert held.coverage.value == pytest.approx(np.mean((low <= label) & (label <= high)))
    assert any(reason.startswith("intervals: ") and "80 % intervals held" in reason for reason in watched.reasons)
    assert "intervals held" in (project / watched.report).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("copied", ["regression"], indirect=True)
def test_a_cross_validation_tells_what_intervals_hold(copied: tuple[str, Path]) -> None:
    told = cross_validate(copied[1], RunOptions(), quiet=True)
    held = [fold.intervals for fold in told.folds]
    assert np.mean([each.coverage for each in held if each]) == pytest.approx(0.8, abs=0.03)
    assert all(each and each.width and 20 < each.width < 70 for each in held)


@pytest.mark.slow
@each_copy
def test_it_is_made_again_bit_by_bit_explained_and_lived_through_again(copied: tuple[str, Path]) -> None:
    task, project = copied
    assert all(each.same for each in running.reproduce(project, "1", wait_seconds=0))
    words = " ".join(inspection.explain_version(project, "1"))
    assert metric_named({"regression": "mae", "multiclass": "log_loss"}[task]).words in words
    told = replays.replay(
        project,
        start="2024-04-01",
        end="2024-06-01",
        every=None,
        policies="never,always",
        metric=None,
        budget=None,
        random=0,
        overrides={},
        wait_seconds=0,
        quiet=True,
    )
    assert told.policies["always"].retrainings == 1
    assert all(each.score is not None for each in told.policies.values())
