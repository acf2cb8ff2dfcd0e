"""What the stage `evaluate` leaves for people and for DVC: pictures, plots, the model card."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit.files import artifacts
from tests.tasks.evaluate.test_evaluate import CARD, FIGURES, Evaluate


def test_metrics_json_is_flat_and_holds_nothing_of_the_clock(evaluated: Evaluate, small_project: Any) -> None:
    evaluated()
    flat = artifacts.read_json(small_project.path(artifacts.METRICS))
    assert all(isinstance(value, int | float | bool) for value in flat.values())
    assert {"roc_auc", "log_loss", "gain_over_baseline", "promote"} <= set(flat)
    assert not [name for name in flat if "second" in name or "latency" in name]


@pytest.mark.slow
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


def test_the_model_card_fetches_nothing_and_runs_only_the_slider(evaluated: Evaluate, small_project: Any) -> None:
    evaluated()
    page = small_project.path(CARD).read_text()
    assert not re.findall(r"href=(?!\"#)|src=|url\(|@import|<link|<iframe|\son\w+=", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert page.count("<script") == 1
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert re.findall(r"script-src (.*?);", policy) == [f"'sha256-{allowed}'"], "nothing else that a text smuggles in"


def test_the_model_card_says_who_is_responsible_what_it_is_for_and_how_to_make_it_again(
    evaluated: Evaluate, small_project: Any
) -> None:
    (small_project.path("") / "code.py").write_text("pass\n")
    git = ["git", "-C", str(small_project.path("")), "-c", "user.name=A", "-c", "user.email=a@b.c"]
    for step in (["init", "-q"], ["add", "code.py"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *step], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    evaluated(evaluate__card={"owner": "Ada <b>", "limits": ["not for prices"]}, project__timezone="America/New_York")
    page = small_project.path(CARD).read_text()
    assert "Ada &lt;b&gt;" in page
    assert "not for prices" in page
    assert page.count("not stated (evaluate.card in params.yaml)") == 2, "intended use and licence"
    assert f"<pre>git checkout {head}\nrefit run --as-of 2024-03-31T00:00:00Z</pre>" in page
    assert "2024-02-29 19:00" in page, "where the test window begins, in New York"
    assert "Hyperparameters of logistic" in page
    assert re.search(r'<th scope="row">C</th><td><code>1.0</code>', page)


def test_the_model_card_escapes_what_comes_from_data(evaluated: Evaluate, small_project: Any) -> None:
    table = pq.read_table(small_project.path(artifacts.TABLE))
    colours = ["<script>alert(1)</script>" if value == "red" else value for value in table["colour"].to_pylist()]
    place = table.column_names.index("colour")
    small_project.write_table(table.set_column(place, "colour", pa.array(colours)))
    evaluated()
    page = small_project.path(CARD).read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_model_card_tells_the_verdict_and_every_check(evaluated: Evaluate, small_project: Any) -> None:
    small_project.make_champion("3")
    small_project.train("noise", "echo")
    decision = evaluated()["decision"]
    page = small_project.path(CARD).read_text()
    assert "Version 3 stays champion." in page
    for check in decision["checks"]:
        assert str(check["sentence"]).replace("'", "&#39;") in page
