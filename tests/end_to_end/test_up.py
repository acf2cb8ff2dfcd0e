"""Left alone: real servers, a real worker, runs by schedule and by event, and nothing left behind."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.processes import LOOPBACK, free_port
from flows.standing import PREFECT, UP, WORKER, address, api, recorded, running

WINDOW = {"first": "2024-10-01T00:00:00Z", "end": "2024-11-01T00:00:00Z"}
DRIFT = {"project": ".", "as_of": "latest", "reason": "performance fell", "window": WINDOW, "columns": ["logins"]}

# Emits `drift.detected` as often and in the order that standard input says: one age in seconds for each.
EMIT = """
import json, sys
from datetime import UTC, datetime, timedelta
from prefect.events import emit_event
from prefect.events.worker import EventsWorker

payload, ages = json.load(sys.stdin)
for age in ages:
    emit_event(
        "drift.detected",
        resource={"prefect.resource.id": "refit.model.demo"},
        payload=payload,
        occurred=datetime.now(UTC) - timedelta(seconds=age),
    )
EventsWorker.drain_all()
"""


def run(*command: str, project: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    known = recorded(project)
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_LOGGING_LEVEL"}
    if PREFECT in known and command[:2] != ("-m", "flows"):
        environment["PREFECT_API_URL"] = api(known[PREFECT])
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def refit(*arguments: str, project: Path) -> str:
    done = run("-m", "flows", *arguments, project=project)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bring_up(project: Path) -> str:
    start = random.randrange(21000, 29000, 40)  # tests run beside each other, and beside a developer's own servers
    ports = ("--prefect-port", str(free_port(start)), "--mlflow-port", str(free_port(start + 20)))
    return refit("up", "--detach", *ports, project=project)


def start_run(project: Path, **parameters: Any) -> None:
    given = [f"--param={name}={value}" for name, value in parameters.items()]
    done = run("-m", "prefect", "deployment", "run", "continuous-training/scheduled", *given, project=project)
    assert done.returncode == 0, done.stdout + done.stderr


def flow_runs(project: Path) -> list[Any]:
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = api(recorded(project)[PREFECT])
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        return sorted(client.read_flow_runs(limit=200), key=lambda found: found.created)


def until(project: Path, wanted: Callable[[list[Any]], bool], *, seconds: float = 120) -> list[Any]:
    deadline = time.monotonic() + seconds
    while not wanted(found := flow_runs(project)):
        assert time.monotonic() < deadline, [(one.name, one.state) for one in found]
        time.sleep(0.5)
    return found


def ended(count: int) -> Callable[[list[Any]], bool]:
    return lambda found: len(found) >= count and all(one.state.is_final() for one in found)


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def started_by(project: Path) -> list[psutil.Process]:
    """Whatever lives of what `up` started, wherever it went."""
    marks, found = {process.mark for process in recorded(project).values()}, []
    for process in psutil.process_iter():
        try:
            if process.environ().get("REFIT_STARTED") in marks:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def alone(project: Path) -> Iterator[Path]:
    """A finished project that is down again after the test, whatever happened."""
    yield project
    refit("down", project=project)


def test_up_runs_deployments_and_down_leaves_nothing(alone: Path) -> None:
    told = bring_up(alone)
    assert "prefect deployment run 'continuous-training/scheduled' --param as_of=2024-11-01" in told
    assert f"export PREFECT_API_URL={api(recorded(alone)[PREFECT])}" in told

    server = recorded(alone)[PREFECT]
    page = urllib.request.Request(f"{address(server)}/ui-settings", headers={"Origin": "http://elsewhere.example"})
    with urllib.request.urlopen(page, timeout=30) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] is None, "no web page from elsewhere may ask it"
        assert json.load(answer)["api_url"] == api(server)

    start_run(alone, as_of="2024-11-01")
    (one,) = until(alone, ended(1))
    assert one.state.name == "Completed"
    assert one.parameters["as_of"] == "2024-11-01"

    before = running(alone)
    again = refit("up", "--detach", project=alone)
    assert again.count("(was up)") == 3
    assert running(alone) == before

    left = started_by(alone)
    assert len(left) >= 3
    assert refit("down", project=alone).count("ended ") == 3
    assert [process for process in left if lives(process)] == []
    assert not (alone / UP).exists()
    assert "nothing of" in refit("down", project=alone)


def test_a_port_in_use_is_named_before_anything_starts(project: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        for option in ("--prefect-port", "--mlflow-port"):
            done = run("-m", "flows", "up", option, str(port), project=project)
            assert done.returncode == 2
            assert done.stderr.startswith(f"error: port {port} is in use on {LOOPBACK}; name another with {option}")
            assert done.stderr.count("\n") == 1
    assert not (project / UP).exists()


def turned_months(project: Path) -> None:
    """Three months more in which those leave who used to stay, and the other way round."""
    rows = list(csv.DictReader((project / "raw/subscriptions.csv").open()))
    with (project / "raw/later.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            if (day := date.fromisoformat(row["renewal"])) >= date(2024, 8, 1):
                turned = {"yes": "no", "no": "yes"}[row["churned"]]
                moved = (day + timedelta(days=92)).isoformat()
                writer.writerow(row | {"subscription": f"L{row['subscription']}", "renewal": moved, "churned": turned})


@pytest.mark.slow
def test_months_that_drifted_are_noticed_and_lead_to_a_new_model_in_charge(alone: Path) -> None:
    params = (alone / "params.yaml").read_text()
    (alone / "params.yaml").write_text(params.replace("training: null", "training: 1"))
    turned_months(alone)
    bring_up(alone)
    watched = run("-m", "prefect", "deployment", "run", "drift-watch/daily", "--param=as_of=2025-02-01", project=alone)
    assert watched.returncode == 0, watched.stderr
    watch, retraining = until(alone, ended(2), seconds=240)
    assert (watch.state.name, retraining.state.name) == ("Completed", "Completed")
    assert retraining.parameters["window"] == {"first": "2025-01-20", "end": "2025-01-27"}
    assert retraining.parameters["reason"].startswith("drift: performance")
    assert isinstance(retraining.parameters["columns"], list)
    told = json.loads(refit("show", "--json", project=alone).splitlines()[-1])
    assert told["version"] == "2"
    assert told["trigger"].startswith("drift: performance")
    assert told["metrics"]["roc_auc"] > 0.8


@pytest.mark.slow
def test_the_same_drift_told_a_hundred_times_retrains_once(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bring_up(alone)
    ages = [float(age) for age in range(100)]
    random.Random(11).shuffle(ages)
    emitted = time.time()
    done = run("-c", EMIT, project=alone, given=json.dumps([DRIFT, ages]))
    assert done.returncode == 0, done.stderr

    found = until(alone, ended(100), seconds=400)
    worked = [one for one in found if one.state.name == "Completed"]
    assert len(worked) == 1
    assert {one.state.name for one in found if one not in worked} <= {"Cancelled", "Answered"}
    assert {name: worked[0].parameters[name] for name in DRIFT} == DRIFT, "typed, as they were emitted"

    one_more = time.time()
    run("-c", EMIT, project=alone, given=json.dumps([DRIFT, [0.0]]))
    last = until(alone, ended(101))[-1]
    assert last.state.name == "Answered"
    with capsys.disabled():
        told = f"{_seconds(emitted, worked[0]):.1f} s of 100 at once, {_seconds(one_more, last):.1f} s of one"
        sys.stdout.write(f"\nfrom emitting to the flow's first line: {told}\n")


@pytest.mark.slow
def test_an_event_without_a_window_starts_nothing(alone: Path) -> None:
    bring_up(alone)
    wrong = {name: value for name, value in DRIFT.items() if name != "window"}
    run("-c", EMIT, project=alone, given=json.dumps([wrong, [0.0]]))
    run("-c", EMIT, project=alone, given=json.dumps([DRIFT, [0.0]]))
    (one,) = until(alone, ended(1))
    assert one.parameters["window"] == WINDOW


@pytest.mark.slow
def test_a_run_outlives_its_server_and_what_died_is_healed(alone: Path) -> None:
    bring_up(alone)
    start_run(alone, overrides=json.dumps({"train.seed": 21}))
    until(alone, lambda found: bool(found) and found[0].state.is_running())
    before = running(alone)
    _kill(before[PREFECT].pid)
    assert before[PREFECT].found() is None
    told = refit("up", "--detach", project=alone)
    assert told.count("(was up)") == 2
    assert recorded(alone)[PREFECT].port == before[PREFECT].port
    (one,) = until(alone, ended(1))
    assert one.state.name == "Completed"


@pytest.mark.slow
def test_a_run_killed_with_its_worker_is_marked_crashed_and_another_goes_on(alone: Path) -> None:
    bring_up(alone)
    start_run(alone, overrides=json.dumps({"train.seed": 22}))
    until(alone, lambda found: bool(found) and found[0].state.is_running())
    servers = {name for name in running(alone) if name != WORKER}
    mark = recorded(alone)[WORKER].mark
    for process in started_by(alone):
        if process.environ().get("REFIT_STARTED") == mark:
            _kill(process.pid)
    assert set(running(alone)) == servers
    refit("up", "--detach", project=alone)
    first, second = until(alone, ended(2), seconds=300)
    assert (first.state.name, second.state.name) == ("Crashed", "Completed")
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
    (first,) = until(alone, ended(1), seconds=240)
    assert first.state.name == "Crashed"
    start_run(alone, overrides=json.dumps({"train.seed": 23}))
    assert until(alone, ended(2))[1].state.name == "Completed"


@pytest.mark.slow
def test_an_up_that_fails_half_way_ends_what_it_started(alone: Path) -> None:
    text = (alone / "prefect.yaml").read_text()
    (alone / "prefect.yaml").write_text(text.replace("flows.drift_watch:", "flows.no_such_thing:"))
    done = run("-m", "flows", "up", "--detach", project=alone)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "deploy.log" in done.stderr
    assert "no_such_thing" in (alone / ".refit/deploy.log").read_text()
    assert running(alone) == {}
    assert not (alone / UP).exists()


@pytest.mark.slow
def test_ctrl_c_ends_all_of_an_up_that_waits(alone: Path) -> None:
    command = [sys.executable, "-u", "-m", "flows", "up", "--prefect-port", str(free_port(29100))]
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


def _seconds(since: float, flow_run: Any) -> float:
    return float(flow_run.start_time.timestamp()) - since
