"""A project in a folder whose name URLs, SQL, patterns and shells would each read in their own way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commands import refit
from driving import copy_project, drive

from refit.new_project.project_folder import create

ODD = "a ?b#c%20 d'é [x]"


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["elsewhere", "here"])
def test_a_project_in_a_folder_of_an_odd_name_is_trained_promoted_scored_and_rolled_back(
    finished: Path, tmp_path: Path, begun: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / ODD
    if begun == "here":
        create(project, csv=None, time=None, label=None, key=())
        shutil.copyfile(finished / "params.yaml", project / "params.yaml")
        drive(project)
    else:
        copy_project(finished, project)

    def ran(*command: str) -> str:
        status, printed = refit(capsys, *command, "--project", str(project))
        assert status == 0, printed
        return printed

    def told_by(*command: str) -> dict[str, Any]:
        (line,) = [line for line in ran(*command, "--json").splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(line)
        return found

    def in_charge() -> str:
        return str(told_by("show")["version"])

    second = drive(project, overrides={"train.seed": 3})["model"]
    assert second["version"] == "2"
    if second["alias"] != "champion":
        ran("promote", "2", "--why", "it is right")
    assert in_charge() == "2"
    ran("rollback", "--why", "it was not")
    assert in_charge() == "1"
    ran("promote", "2", "--why", "it was after all")
    assert in_charge() == "2"
    told = told_by("score", "2024-10")
    assert pq.read_table(project / told["out"]).num_rows == told["rows"]["scored"] > 800
    ran("drift")
    assert "version 2" in ran("history")
    assert {path.name for path in tmp_path.iterdir()} == {ODD}, "nothing lies next to it"
    assert (project / ".refit/mlflow.db").is_file()
    assert (project / ".refit/ledger.db").is_file()
    assert list(project.glob(".refit/mlartifacts/*/*/artifacts/model/MLmodel"))
