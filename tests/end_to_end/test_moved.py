"""Projects are copied and moved: the copy keeps to its own artifacts, and the original never learns of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from driving import drive, states


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def show(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "refit", "show"], cwd=project, capture_output=True, text=True, check=True
    )


@pytest.mark.slow
def test_a_copy_works_with_its_own_artifacts_and_leaves_the_original_byte_for_byte(
    finished: Path, tmp_path: Path
) -> None:
    before = contents(finished)
    subprocess.run(["cp", "-r", str(finished), str(tmp_path / "copy")], check=True)
    shown = show(tmp_path / "copy")
    assert "demo version 1" in shown.stdout
    assert shown.stderr.startswith(f"copied or moved here: the records of 4 runs led to {finished}/.refit/mlartifacts")
    assert shown.stderr.count("\n") == 1
    assert show(tmp_path / "copy").stderr == "", "said once"

    assert states(drive(tmp_path / "copy")) == ["unchanged"] * 6
    told = drive(tmp_path / "copy", overrides={"train.seed": 3})
    assert told["model"]["version"] == "2"
    (run,) = (tmp_path / "copy/.refit/mlartifacts/demo").glob(told["mlflow_run_id"])
    assert (run / "artifacts/model_card.html").is_file()
    assert contents(finished) == before


@pytest.mark.slow
def test_a_project_that_was_moved_goes_on_where_it_was(project: Path, tmp_path: Path) -> None:
    show(project)
    shutil.move(project, tmp_path / "elsewhere")
    assert states(drive(tmp_path / "elsewhere")) == ["unchanged"] * 6
    told = drive(tmp_path / "elsewhere", overrides={"train.seed": 3})
    assert told["model"]["version"] == "2"
    assert not project.exists()
