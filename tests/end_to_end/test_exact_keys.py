"""Integers that no double holds, past the learner: each key and category stays itself in all that a run leaves."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import refit
from driving import drive

from refit import learners
from refit.models.verification import PREDICTION
from refit.new_project.project_folder import create
from refit.storage import prediction_log

FIRST = 2**53  # it, and the integer after it, are the same double
ITEMS = [2**60 + n for n in range(4)]  # one double as well; the label hangs on which of them it is


def rows() -> Iterator[dict[str, Any]]:
    """Five months of orders: those of items 1 and 3 come back, but for a few."""
    for n in range(900):
        item = (n * 7 + n // 13) % 4
        at = datetime(2024, 1, 1) + timedelta(hours=4 * n)  # noqa: DTZ001 - a CSV's times have no zone
        back = (item % 2) ^ (n % 11 == 0)
        yield {"id": FIRST + n, "at": at.isoformat(" "), "item": ITEMS[item], "back": back}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made of these orders, after its first run."""
    folder = tmp_path_factory.mktemp("ordered")
    with (folder / "orders.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "at", "item", "back"])
        writer.writeheader()
        writer.writerows(rows())
    project = folder / "orders"
    create(project, csv=folder / "orders.csv", time="at", label="back", key=("id",))
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("evaluate:\n", "evaluate:\n  permutation_rows: 100\n"))
    learner = {"name": "line", "kind": "sklearn.linear_model.LogisticRegression"}
    told = drive(project, overrides={"train.learners": [{"name": "base", "kind": "baseline"}, learner]})
    assert (told["chosen"], told["model"]["alias"]) == ("line", "champion"), told["decision"]["reasons"]
    return project


def test_golden_rows_hold_each_item_and_the_prediction_of_just_that_one(ordered: Path) -> None:
    [model] = ordered.glob(".refit/models/1-*")
    golden = pq.read_table(model / "golden.parquet")
    assert set(golden["item"].to_pylist()) == {str(item) for item in ITEMS}
    predicted = learners.load(model / "data/candidate").predict(golden)
    assert predicted.tolist() == pytest.approx(golden[PREDICTION].to_pylist())
    for item, p in zip(golden["item"].to_pylist(), predicted, strict=True):
        assert (p > 0.5) == int(item) % 2


def test_scores_the_log_and_an_explanation_name_each_row_by_all_its_digits(
    ordered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told_by(*command: str) -> dict[str, Any]:
        status, printed = refit(capsys, *command, "--json", "--project", str(ordered))
        assert status == 0, printed
        (line,) = [line for line in printed.splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(line)
        return found

    item_of = {each["id"]: each["item"] for each in rows()}
    out = ordered / "scores.csv"
    told = told_by("score", str(ordered / "raw/orders.csv"), "--out", str(out))
    assert told["rows"]["scored"] == 900
    with out.open(newline="") as file:
        scored = list(csv.DictReader(file))
    assert [int(row["id"]) for row in scored] == sorted(item_of), "in the order of time, and none twice"
    for row in scored:
        assert (float(row["prediction"]) > 0.5) == item_of[int(row["id"])] % 2
    logged = pa.concat_tables([prediction_log.keys_in(path) for path in ordered.glob("data/predictions/**/*.parquet")])
    assert sorted(logged[prediction_log.KEY].to_pylist()) == sorted(map(str, item_of))
    for key in (FIRST + 800, FIRST + 801):
        [row] = told_by("explain", "--row", str(key))["rows"]
        assert row["key"] == str(key)
        assert str(item_of[key]) in json.dumps(row)
        assert (row["prediction"] > 0.5) == item_of[key] % 2
