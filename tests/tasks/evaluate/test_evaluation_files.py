"""What the stage `evaluate` leaves for people and for DVC: pictures, plots, the model card."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from refit.files import artifacts
from tests.tasks.evaluate.test_evaluate import CARD, FIGURES, Evaluate


def test_metrics_json_is_flat_and_holds_nothing_of_the_clock(evaluated: Evaluate, small_project: Any) -> None:
    evaluated()
    flat = artifacts.read_json(small_project.path(artifacts.METRICS))
    assert all(isinstance(value, int | float | bool) for value in flat.values())
    assert {"roc_auc", "log_loss", "gain_over_baseline", "promote"} <= set(flat)
    assert not [name for name in flat if "second" in name or "latency" in name]


def test_the_pictures_are_pictures(drawn: Evaluate, small_project: Any) -> None:
    drawn()
    names = {path.name for path in small_project.path(FIGURES).iterdir()}
    wanted = ("gate", "roc", "precision_recall", "calibration", "confusion", "importance", "learning_curves", "daily")
    assert {f"{name}.svg" for name in wanted} <= names
    for path in small_project.path(FIGURES).iterdir():
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_plots_of_dvc_have_a_header_and_rows(evaluated: Evaluate, small_project: Any) -> None:
    found = evaluated()
    plots = {path.name: path.read_text().splitlines() for path in small_project.path("reports/plots").iterdir()}
    assert plots["roc.csv"][0] == "model,false_positive_rate,true_positive_rate"
    assert plots["confusion.csv"][0] == "actual,predicted,rows"
    counts = [int(line.rsplit(",", 1)[1]) for line in plots["confusion.csv"][1:]]
    assert sum(counts) == found["test"]["rows"]
    assert all(len(lines) > 1 for lines in plots.values())


def test_the_model_card_fetches_nothing_and_runs_nothing(evaluated: Evaluate, small_project: Any) -> None:
    evaluated()
    page = small_project.path(CARD).read_text()
    assert not re.findall(r"href=(?!\"#)|src=|url\(|@import|<script|<link|<iframe|\son\w+=", page)


def test_the_model_card_escapes_what_comes_from_data(evaluated: Evaluate, small_project: Any) -> None:
    table = pq.read_table(small_project.path(artifacts.TABLE))
    colours = ["<script>alert(1)</script>" if value == "red" else value for value in table["colour"].to_pylist()]
    place = table.column_names.index("colour")
    small_project.write_table(table.set_column(place, "colour", pa.array(colours)))
    evaluated()
    page = small_project.path(CARD).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_model_card_tells_the_verdict_and_every_check(evaluated: Evaluate, small_project: Any) -> None:
    small_project.put_in_charge("3")
    small_project.train("noise", "echo")
    decision = evaluated()["decision"]
    page = small_project.path(CARD).read_text()
    assert "Version 3 stays champion." in page
    for check in decision["checks"]:
        assert str(check["sentence"]).replace("'", "&#39;") in page
