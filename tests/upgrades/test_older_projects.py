"""Projects made by earlier versions open: they are shown, scored, rolled back, and run."""

from __future__ import annotations

import json
import re
import sqlite3
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import refit

from refit.schemas.artifact import Artifact
from refit.schemas.feature_table import FeatureTable
from refit.schemas.model_description import ModelDescription
from refit.schemas.profile import Profile
from refit.schemas.training import Training
from refit.schemas.warm_start import WarmStart

pytestmark = pytest.mark.ci

HERE = Path(__file__).parent
NEW = "data/new.csv"
THEN = "reports/scores/new-v2.parquet"
STORED: dict[str, type[Artifact]] = {
    "features.json": FeatureTable,
    "training.json": Training,
    "warm_start.json": WarmStart,
    "model.json": ModelDescription,
    "profile.json": Profile,
}


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as version 0.1 left it, and as its user finds it: in its folder, with the rows she scored then."""
    with tarfile.open(HERE / "project-0.1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    project = tmp_path / "shop"
    (project / "data").mkdir(exist_ok=True)
    june = (project / "raw/orders_2025-06.csv").read_text().splitlines()
    (project / NEW).write_text("\n".join(june[:30]) + "\n")
    monkeypatch.chdir(project)
    return project


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    status, printed = refit(capsys, *arguments, "--json")
    assert status == 0, printed
    answered: dict[str, object] = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    return answered


@pytest.mark.parametrize("name", list(STORED))
def test_files_of_an_older_project_are_read_and_written_byte_for_byte(older: Path, name: str) -> None:
    paths = list(older.rglob(name))
    assert paths
    for path in paths:
        before = path.read_bytes()
        STORED[name].read(path).write(path)
        assert path.read_bytes() == before, path


def test_a_rule_that_an_older_table_stores_as_a_text_is_judged_by_the_sql_that_it_stores_too(older: Path) -> None:
    stored = json.loads((older / "data/features/features.json").read_text())
    assert stored["split"] is None
    spine = stored["definitions"]["feature_set"]["spine"]
    source = stored["definitions"]["sources"][spine["source"]]
    for column, rule in (("part", "as column part says"), ("shop", "0.2 of shop, seed 0")):
        rules = set()
        for sql in ("left(name, 1)", "right(name, 1)"):
            source["columns"][column] = sql
            rules.add(FeatureTable.from_json({**stored, "split": rule}, "features.json").split_rule)
        assert rules == {
            f"{rule} of {spine['source']} in {source['table']} ({column}: {sql}(name, 1))" for sql in ("left", "right")
        }


def test_an_older_project_shows_its_champion_and_every_line_of_its_ledger(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(capsys, "show")["version"] == "2"
    history = answer(capsys, "history")
    assert history["broken"] is None
    assert [(line["action"], line["to_version"]) for line in history["history"]] == [  # type: ignore[attr-defined]
        ("promote", "1"),
        ("promote", "2"),
    ]


def test_the_champion_of_an_older_project_predicts_what_it_did_then(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then = pq.read_table(older / THEN)
    (older / THEN).unlink()
    status, printed = refit(capsys, "score", NEW)
    assert status == 0, printed
    now = pq.read_table(older / THEN)
    assert now.column("prediction").equals(then.column("prediction"))
    assert then.num_rows == 29


def test_mlflow_itself_loads_a_model_that_names_where_learners_lay_before(older: Path) -> None:
    import mlflow
    import pandas as pd

    (folder,) = (older / ".refit/mlartifacts/shop").glob("75e28849*/artifacts/model")
    assert "loader_module: tasks.learners.pyfunc" in (folder / "MLmodel").read_text()
    model = mlflow.pyfunc.load_model(str(folder))
    assert len(model.predict(pd.DataFrame({"score": [0.5], "channel": ["web"], "days": [3]}))) == 1


def test_an_older_project_is_rolled_back(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = refit(capsys, "rollback", "--why", "an older project")
    assert status == 0, printed
    assert answer(capsys, "show")["version"] == "1"


@pytest.mark.slow
def test_an_older_project_runs_watches_for_drift_and_is_reproduced_or_says_why_not(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed = refit(capsys, "run")
    assert status == 0, printed
    assert answer(capsys, "show")["version"] in ("2", "3")
    assert refit(capsys, "drift")[0] == 0
    status, printed = refit(capsys, "reproduce", "2")
    assert "pinned libraries     DIFFERS" in printed
    if status:  # another processor rounds the last bits differently: the digest differs, the predictions hardly do
        said = re.search(r"differ from those stored by (\S+) at most; for the same bits, make it again with", printed)
        assert said, printed
        assert float(said[1]) < 1e-9
    with sqlite3.connect(older / ".refit/ledger.db") as ledger:
        assert ledger.execute("select count(*) from ledger").fetchone()[0] >= 2
