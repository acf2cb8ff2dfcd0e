"""What lies in `.refit` and the log of predictions are their owner's alone, in old projects too."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from driving import drive

from refit.files import permissions
from refit.files.artifacts import PREDICTIONS, STATE, write_json
from refit.runtime.lock import project_lock


def open_to_others(project: Path) -> list[str]:
    """What group or others may do anything with."""
    return [
        f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(project)}"
        for top in (project / STATE, project / PREDICTIONS)
        for path in (top, *top.rglob("*"))
        if path.exists() and path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]


@pytest.mark.slow
def test_a_run_leaves_nothing_in_refit_that_others_may_read(project: Path) -> None:
    for path in (project / STATE).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # as an earlier version left it
    (project / STATE).chmod(0o755)
    drive(project, overrides={"train.seed": 5})
    assert open_to_others(project) == []


def test_refit_is_walked_once_by_a_run_and_closed_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / STATE).mkdir(mode=0o755)
    walked: list[Path] = []
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top: walked.append(Path(top)) or walk(top))
    with project_lock(tmp_path):
        assert stat.S_IMODE((tmp_path / STATE).stat().st_mode) == 0o700
        assert walked == []
    assert walked == [tmp_path / STATE, tmp_path / PREDICTIONS]


@pytest.mark.slow
def test_every_command_tightens_an_old_project(project: Path) -> None:
    (project / STATE).chmod(0o777)
    (project / STATE / "mlflow.db").chmod(0o666)
    done = subprocess.run(
        [sys.executable, "-m", "refit", "quarantine", "list"], cwd=project, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert open_to_others(project) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score 2024-10", "drift", "replay --from 2024-08-01 --to 2024-10-01", "run"])
def test_what_a_command_makes_is_private(project: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "refit", *command.split()], cwd=project, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert open_to_others(project) == []


def test_a_file_written_whole_is_private_in_refit_and_readable_elsewhere(tmp_path: Path) -> None:
    write_json(tmp_path / STATE / "some.json", {})
    write_json(tmp_path / PREDICTIONS / "day=1" / "some.json", {})
    write_json(tmp_path / "reports" / "some.json", {})
    assert stat.S_IMODE((tmp_path / PREDICTIONS / "day=1" / "some.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / STATE / "some.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "reports" / "some.json").stat().st_mode) == 0o644


def test_a_link_out_of_refit_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / STATE).mkdir()
    (tmp_path / "public").mkdir(mode=0o755)
    (tmp_path / "public" / "page").touch(0o644)
    (tmp_path / STATE / "link").symlink_to(tmp_path / "public")
    (tmp_path / STATE / "page").symlink_to(tmp_path / "public" / "page")
    permissions.tighten(tmp_path)
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "public" / "page").stat().st_mode) == 0o644
    assert open_to_others(tmp_path) == []
