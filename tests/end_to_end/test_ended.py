"""A command that is asked to end says so in one line and leaves no server and no run behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


def start(*arguments: str, project: Path, home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    command = [sys.executable, "-P", "-m", "refit", *arguments]
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def servers_of(project: Path) -> list[int]:
    """What serves in the project's folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if "flows.services.server_process" in (process.info["cmdline"] or ()) and process.cwd() == str(project):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def until_said(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended before it said {words!r}")


def task_states(project: Path) -> dict[str, str]:
    with sqlite3.connect(f"file:{project / '.refit/prefect.db'}?mode=ro", uri=True) as connection:
        return dict(connection.execute("select name, state_type from task_run").fetchall())


@pytest.mark.slow  # tests/refit/cli/test_cli.py ends a command within a query
def test_a_run_that_is_asked_to_end_does_so_in_one_line_and_leaves_nothing_running(
    project: Path, tmp_path: Path
) -> None:
    process = start("run", "--set", "train.seed=31", project=project, home=tmp_path / "prefect-home")
    until_said(process, "fitting")
    assert len(servers_of(project)) == 1
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.splitlines()[-1].startswith("error: ended by SIGTERM; what was finished is kept")
    assert "Traceback" not in said
    assert servers_of(project) == []
    assert "CRASHED" in task_states(project).values()
    assert "RUNNING" not in task_states(project).values()


@pytest.mark.slow
def test_the_server_of_a_run_that_is_killed_ends_with_it(project: Path, tmp_path: Path) -> None:
    process = start("run", "--set", "train.seed=32", project=project, home=tmp_path / "prefect-home")
    until_said(process, "fitting")
    assert len(servers_of(project)) == 1
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while servers_of(project):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score 2024-10", "drift", "replay --from 2024-06-01 --to 2024-10-01"])
@pytest.mark.parametrize(
    ("sent", "status", "words"), [("SIGTERM", 143, "ended by SIGTERM"), ("SIGINT", 130, "interrupted")]
)
def test_other_commands_end_in_one_line_too(
    project: Path, tmp_path: Path, command: str, sent: str, status: int, words: str
) -> None:
    process = start(*command.split(), project=project, home=tmp_path / "prefect-home")
    until_said(process, "")  # its first line: it is at work
    process.send_signal(getattr(signal, sent))
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said.splitlines()[-1].startswith(f"error: {words}; what was finished is kept")
    assert "Traceback" not in said
