"""A disk that is full for real, at each stage of a command: one line, no scraps, no verdict; with room it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from driving import drive


@pytest.mark.slow
def test_a_full_disk_is_said_in_one_line_and_the_same_command_goes_on_once_there_is_room(
    project: Path, tmp_path: Path, root: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    begin = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c"]
    begin += ['mount -t tmpfs -o size=48m small "$0" && exec "$@"', str(disk)]
    if subprocess.run([*begin, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here: needs root, or user namespaces")
    drive(project, overrides={"train.seed": 3})
    by_hand = ["promote", "2", "--why", "to go back from it", "--project", str(project)]
    subprocess.run([sys.executable, "-P", "-m", "refit", *by_hand], check=True)
    done = subprocess.run(
        [*begin, sys.executable, str(root / "tests/end_to_end/full_disk.py"), str(disk), str(project)],
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["done"], done.stdout + done.stderr[-2000:]
    assert done.returncode == 0, done.stderr
