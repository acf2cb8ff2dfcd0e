"""The researcher's front door and the way around DVC's seam: the same results, and no new champion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from driving import drive, states

from refit.cli import inspection
from refit.files.artifacts import RECEIPT, TRAINING, read_json
from refit.new_project.project_folder import create
from refit.runtime import dvc_runner


def run(project: Path, *command: str) -> str:
    active = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **{f"GIT_{who}_{what}": "refit@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(command, cwd=project, env=active, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_an_experiment_is_compared_and_never_takes_charge(tmp_path: Path) -> None:
    project = tmp_path / "demo"
    run(tmp_path, "git", "init", "--quiet", str(project))
    create(project, csv=None, time=None, label=None, key=())
    drive(project)
    run(project, "git", "add", ".")
    run(project, "git", "commit", "--quiet", "-m", "a project that ran once")

    run(project, "dvc", "exp", "run", "-S", "train.seed=1")
    assert inspection.champion_summary(project).version == "1"
    assert read_json(project / RECEIPT)["alias"] == "challenger"
    assert "seed" in run(project, "dvc", "params", "diff")
    assert "up to date" in run(project, "dvc", "status")

    told = drive(project)
    assert states(told)[:5] == ["unchanged"] * 5, "the flow takes over what the experiment computed"
    assert told["model"]["version"] == "2"
    assert (told["model"]["alias"] == "champion") is told["decision"]["promote"]


@pytest.mark.slow
def test_without_dvcs_seam_the_shell_gives_the_same_model_and_the_same_decision(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_json(project / TRAINING)
    monkeypatch.setattr(dvc_runner, "_SEAM", "gone_in_a_later_dvc")
    told = drive(project, force=True)
    assert states(told) == ["executed"] * 6
    after = read_json(project / TRAINING)
    assert (after["model_digest"], after["inputs"]) == (before["model_digest"], before["inputs"])
    assert told["model"] == {"name": "demo", "version": "1", "alias": "champion"}

    monkeypatch.undo()
    assert states(drive(project)) == ["unchanged"] * 6
