"""`train.max_rows`: as many rows of the training window, the same ones each time, and said wherever the model shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from refit.evaluation.holdout import Holdout
from refit.files import artifacts
from refit.learners.spill import large_arrays_in
from refit.schemas.training import Training, TrainingRows
from tasks.evaluate.remarks import remarks
from tasks.train import table as training_table
from tests.tasks.train.conftest import BASE_RATE, LOGISTIC, SmallProject

COLUMNS = ["id", "window", "label", "strength"]


def read(path: Path, max_rows: int | None, seed: int = 0) -> pa.Table:
    return training_table.read(path, COLUMNS, key="id", max_rows=max_rows, seed=seed)


def ids(table: pa.Table, window: str) -> list[str]:
    names: list[str] = table.filter(pc.equal(table["window"], window))["id"].to_pylist()
    return names


def test_so_many_rows_of_training_are_read_and_all_others(project: SmallProject) -> None:
    path = project.folder / artifacts.TABLE
    some, every = read(path, 200), read(path, None)
    assert len(ids(some, "train")) == 200
    assert ids(some, "train") == [name for name in ids(every, "train") if name in set(ids(some, "train"))]
    assert [ids(some, window) for window in ("validation", "test")] == [
        ids(every, window) for window in ("validation", "test")
    ]
    assert read(path, 600).equals(every)


@pytest.mark.ci
def test_the_same_rows_are_drawn_again_and_others_by_another_seed(project: SmallProject) -> None:
    path = project.folder / artifacts.TABLE
    drawn = ids(read(path, 200), "train")
    assert ids(read(path, 200), "train") == drawn
    assert ids(read(path, 100), "train") == [name for name in drawn if name in set(ids(read(path, 100), "train"))]
    assert ids(read(path, 200, seed=1), "train") != drawn
    table = pq.read_table(path)
    pq.write_table(table.slice(60), path)  # a tenth of the window goes
    assert len(set(ids(read(path, 200), "train")) & set(drawn)) > 150


def test_a_table_is_read_the_same_into_a_file(project: SmallProject, tmp_path: Path) -> None:
    path = project.folder / artifacts.TABLE
    in_memory = [read(path, None), read(path, 200)]
    with large_arrays_in(tmp_path / "spill", above=0):
        before = pa.total_allocated_bytes()
        in_files = [read(path, None), read(path, 200)]
        assert pa.total_allocated_bytes() - before < in_memory[0].nbytes / 2
    assert [table.to_pylist() for table in in_files] == [table.to_pylist() for table in in_memory]


def test_a_training_says_how_many_rows_it_left_out(project: SmallProject) -> None:
    features = artifacts.read_json(project.folder / artifacts.FEATURE_SET)
    features["windows"]["train"]["rows"] = 600
    artifacts.write_json(project.folder / artifacts.FEATURE_SET, features)
    said: list[str] = []
    training = project.run(said, train__max_rows=200, train__learners=[BASE_RATE, LOGISTIC])
    assert training["rows"] == {"train": 200, "validation": 150, "left_out": 400}
    assert training["refit_rows"] == 350
    assert "200 of 600 training rows, drawn by their keys (train.max_rows)" in said
    every = project.run(train__learners=[BASE_RATE, LOGISTIC])
    assert every["rows"] == {"train": 600, "validation": 150}
    assert every["inputs"] != training["inputs"]


def test_the_decision_notes_it(trained: tuple[SmallProject, dict[str, Any]]) -> None:
    from refit import learners

    learner = learners.load(trained[0].candidate)
    rows = TrainingRows(train=200, validation=150, left_out=400)
    training = Training.from_json(trained[1], "").model_copy(update={"rows": rows})
    test = Holdout.__new__(Holdout)
    object.__setattr__(test, "problem", learner.spec.problem)
    notes = list(remarks(learner, training, test))
    assert notes == ["trained on 200 of 600 rows of the training window, drawn by key (train.max_rows)"]
