"""What is killed, ended or fails under `refit up` leaves nothing behind, and is healed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.services.service_state import (
    PREFECT,
    UP,
    WORKER,
    read_record,
    running_services,
)
from tests.end_to_end.test_up import bring_up, ended, free_port, lives, refit, run, start_run, started_by, until


@pytest.fixture
def alone(project: Path) -> Iterator[Path]:
    """A finished project that is down again after the test, whatever happened."""
    yield project
    refit("down", project=project)


@pytest.mark.slow
def test_a_run_outlives_its_server_and_what_died_is_healed(alone: Path) -> None:
    bring_up(alone)
    start_run(alone, overrides=json.dumps({"train.seed": 21}))
    until(alone, lambda found: bool(found) and found[0].state.is_running())
    before = running_services(alone)
    _kill(before[PREFECT].pid)
    assert before[PREFECT].process() is None
    told = refit("up", "--detach", project=alone)
    assert told.count("(was up)") == 2
    assert read_record(alone)[PREFECT].port == before[PREFECT].port
    (one,) = until(alone, ended(1))
    assert one.state.is_completed()


@pytest.mark.slow
def test_a_run_killed_with_its_worker_is_marked_crashed_and_another_goes_on(alone: Path) -> None:
    bring_up(alone)
    start_run(alone, overrides=json.dumps({"train.seed": 22}))
    until(alone, lambda found: bool(found) and found[0].state.is_running())
    servers = {name for name in running_services(alone) if name != WORKER}
    mark = read_record(alone)[WORKER].mark
    for process in started_by(alone):
        if process.environ().get("REFIT_STARTED") == mark:
            _kill(process.pid)
    assert set(running_services(alone)) == servers
    refit("up", "--detach", project=alone)
    first, second = until(alone, ended(2), seconds=900)
    assert first.state.is_crashed()
    assert second.state.is_completed()
    assert "no heartbeat" in first.state.message
    assert second.parameters["overrides"] == {"train.seed": 22}


@pytest.mark.slow
def test_down_ends_a_run_under_way_and_after_the_next_up_another_goes_on(alone: Path) -> None:
    bring_up(alone)
    start_run(alone, overrides=json.dumps({"train.seed": 23}))
    until(alone, lambda found: bool(found) and found[0].state.is_running())
    left = started_by(alone)
    refit("down", project=alone)
    assert [process for process in left if lives(process)] == []
    bring_up(alone)
    first, *others = until(alone, ended(1), seconds=900)
    assert first.state.is_crashed()
    start_run(alone, overrides=json.dumps({"train.seed": 23}))
    _, *others = until(alone, ended(2 + len(others)))
    assert all(each.state.is_completed() for each in others)


@pytest.mark.slow
def test_an_up_that_fails_half_way_ends_what_it_started(alone: Path) -> None:
    text = (alone / "prefect.yaml").read_text()
    (alone / "prefect.yaml").write_text(text.replace("flows.drift_watch:", "flows.no_such_thing:"))
    done = run("-m", "refit", "up", "--detach", project=alone)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "deploy.log" in done.stderr
    assert "no_such_thing" in (alone / ".refit/deploy.log").read_text()
    assert running_services(alone) == {}
    assert not (alone / UP).exists()


@pytest.mark.slow
def test_ctrl_c_ends_all_of_an_up_that_waits(alone: Path) -> None:
    command = [sys.executable, "-u", "-m", "refit", "up", "--prefect-port", free_port(29100)]
    with subprocess.Popen(command, cwd=alone, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        for line in waiting.stdout:
            if "refit down" in line:
                break
        left = started_by(alone)
        assert len(left) >= 3
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=60) == 0
    assert [process for process in left if lives(process)] == []


def _kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    while lives(process):
        time.sleep(0.05)
