"""Left alone: real servers, a real worker, runs by schedule and by event, and nothing left behind."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from flows.services.credentials import AUTH, auth_string
from flows.services.processes import LOOPBACK, Started, listen_from
from flows.services.service_state import (
    MLFLOW,
    PREFECT,
    UP,
    WORKER,
    address,
    api,
    client_environment,
    read_record,
    running_services,
)

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
    known = read_record(project)
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_LOGGING_LEVEL"}
    if PREFECT in known and "refit" not in command:
        environment |= client_environment(project, known[PREFECT])
    return subprocess.run(
        [sys.executable, "-P", *command],
        cwd=project,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def refit(*arguments: str, project: Path) -> str:
    done = run("-m", "refit", *arguments, project=project)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port(wanted: int) -> str:
    with listen_from(wanted) as listening:
        return str(listening.getsockname()[1])


def bring_up(project: Path) -> str:
    start = random.randrange(21000, 29000, 40)  # tests run at the same time, next to a developer's own servers
    ports = ("--prefect-port", free_port(start), "--mlflow-port", free_port(start + 20))
    return refit("up", "--detach", *ports, project=project)


def start_run(project: Path, **parameters: Any) -> None:
    given = [f"--param={name}={value}" for name, value in parameters.items()]
    done = run("-m", "prefect", "deployment", "run", "continuous-training/scheduled", *given, project=project)
    assert done.returncode == 0, done.stdout + done.stderr


def flow_runs(project: Path) -> list[Any]:
    """The runs that somebody or an event has started, oldest first."""
    return [found for found in _all_runs(project) if not found.auto_scheduled]


def _all_runs(project: Path) -> list[Any]:
    from prefect import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    known = client_environment(project, read_record(project)[PREFECT])
    settings = {setting: known[setting.name] for setting in (PREFECT_API_URL, PREFECT_API_AUTH_STRING)}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        return sorted(client.read_flow_runs(limit=200), key=lambda found: found.created)


def scheduled(project: Path) -> list[Any]:
    """The runs that the server has made for the time to come."""
    return [found for found in _all_runs(project) if found.auto_scheduled]


def until(project: Path, wanted: Callable[[list[Any]], bool], *, seconds: float = 400) -> list[Any]:
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
    marks, found = {process.mark for process in read_record(project).values()}, []
    for process in psutil.process_iter():
        try:
            if process.environ().get("REFIT_STARTED") in marks:
                found.append(process)
        except psutil.Error:
            continue
    return found


def asked(server: Started, path: str, **headers: str) -> tuple[int, bytes]:
    """The status and the text of a server's answer."""
    request = urllib.request.Request(address(server) + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def opened(server: Started, path: str, **headers: str) -> str | None:
    """What a server says first on a websocket to somebody who does not know the secret; None if it says nothing."""
    origin = headers.pop("Origin", None)
    url = f"ws://{LOOPBACK}:{server.port}{path}"
    try:
        with connect(url, origin=Origin(origin) if origin else None, subprotocols=[Subprotocol("prefect")]) as socket:
            socket.send(json.dumps({"type": "auth", "token": "a guess"}))
            return str(socket.recv(timeout=30))
    except (InvalidStatus, ConnectionClosed):
        return None


def nobody_else_gets_in(project: Path, secret: str) -> None:
    """Web pages, other names, other users: both servers refuse them."""
    prefect, mlflow = read_record(project)[PREFECT], read_record(project)[MLFLOW]
    known = {"Authorization": f"Basic {b64encode(secret.encode()).decode()}"}
    for server, path in (
        (prefect, "/api/csrf-token?client=x"),
        (mlflow, "/api/2.0/mlflow/experiments/get?experiment_id=0"),
    ):
        assert asked(server, path, **known)[0] == 200
        assert asked(server, path)[0] == 401
        assert asked(server, path, Authorization="Basic cmVmaXQ6Z3Vlc3M=")[0] == 401
        assert asked(server, path, **known, Host=f"evil.example:{server.port}")[0] == 403
        for origin in ("http://evil.example", f"http://evil.example:{server.port}", "null"):
            assert asked(server, path, **known, Origin=origin)[0] == 403
    assert json.loads(asked(prefect, "/ui-settings")[1])["auth"] == "BASIC", "its pages ask for the secret"
    for path in ("/api/events/in", "/api/events/out", "/api/logs/out"):
        assert opened(prefect, path) is None
        assert opened(prefect, path, Origin="http://evil.example") is None


@pytest.fixture
def alone(project: Path) -> Iterator[Path]:
    """A finished project that is down again after the test, whatever happened."""
    yield project
    refit("down", project=project)


@pytest.mark.slow
def test_up_runs_deployments_and_down_leaves_nothing(alone: Path) -> None:
    for name in ("calendar", "types", "random", "socket", "json", "uvicorn", "prefect", "mlflow", "flows", "refit"):
        (alone / f"{name}.py").write_text("raise SystemExit('a module of the project stands in for another')")
    told = bring_up(alone)
    assert "  prefect deployment run 'continuous-training/scheduled'\n" in told
    assert f"export PREFECT_API_URL={api(read_record(alone)[PREFECT])}" in told

    secret = auth_string(alone)
    assert told.count(secret) == 1, "shown once, for the browser"
    assert f"export PREFECT_API_AUTH_STRING=$(cat {alone / AUTH})" in told
    for process in started_by(alone):
        assert secret.partition(":")[2] not in " ".join(process.cmdline()), "not where `ps` shows it"
    nobody_else_gets_in(alone, secret)

    start_run(alone, as_of="2024-11-01")
    (one,) = until(alone, ended(1))
    assert one.state.name == "Completed"
    assert one.parameters["as_of"] == "2024-11-01"

    before = running_services(alone)
    again = refit("up", "--detach", "--json", project=alone)
    assert secret not in again
    places = json.loads(again)
    assert places["started"] == [], "all of it was up"
    assert places["prefect"] == address(before[PREFECT])
    assert places["home"] == f"{address(before[MLFLOW])}/refit/"
    assert places["worker"]["pid"] == before[WORKER].pid
    assert Path(places["secret_file"]).read_text().strip() == secret
    assert running_services(alone) == before

    left = started_by(alone)
    assert len(left) >= 3
    named = json.loads(refit("down", "--json", project=alone))["ended"]
    assert [each["name"] for each in named] == [WORKER, MLFLOW, PREFECT]
    assert [process for process in left if lives(process)] == []
    assert not (alone / UP).exists()
    assert "nothing of" in refit("down", project=alone)


@pytest.mark.slow
def test_a_port_in_use_is_named_before_anything_starts(project: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        for option in ("--prefect-port", "--mlflow-port"):
            done = run("-m", "refit", "up", option, str(port), project=project)
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
def test_months_that_drifted_are_noticed_and_lead_to_a_new_champion(alone: Path) -> None:
    params = (alone / "params.yaml").read_text()
    one_month = params.replace("training: null", "training: 1").replace("test: 2", "test: 1")
    (alone / "params.yaml").write_text(one_month)  # of three months since the change, one is learned from
    turned_months(alone)
    bring_up(alone)
    watched = run("-m", "prefect", "deployment", "run", "drift-watch/daily", "--param=as_of=2025-02-01", project=alone)
    assert watched.returncode == 0, watched.stderr
    watch, retraining = until(alone, ended(2), seconds=900)
    assert (watch.state.name, retraining.state.name) == ("Completed", "Completed")
    # The newest whole week, said to go on until the decision, so that a later one about the same week counts too.
    assert retraining.parameters["window"] == {"first": "2025-01-20", "end": "2025-02-01"}
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

    found = until(alone, ended(100), seconds=3000)  # a process for each that is not cancelled
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
def test_two_projects_started_at_once_have_servers_of_their_own(alone: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(alone, other, symlinks=True)
    (other / "prefect.yaml").write_text((other / "prefect.yaml").read_text().replace("demo", "other"))
    command = [sys.executable, "-P", "-m", "refit", "up", "--detach"]
    started = [subprocess.Popen(command, cwd=each, stdout=subprocess.PIPE, text=True) for each in (alone, other)]
    try:
        said = [process.communicate(timeout=240)[0] for process in started]
        assert [process.returncode for process in started] == [0, 0]
        ports = {running_services(each)[name].port for each in (alone, other) for name in (PREFECT, MLFLOW)}
        assert len(ports) == 4
        for each, text in zip((alone, other), said, strict=True):
            assert f"export PREFECT_API_URL={api(read_record(each)[PREFECT])}" in text
            assert all(read_record(each)[name].answers() for name in (PREFECT, MLFLOW, WORKER))
        start_run(other)
        assert [one.state.name for one in until(other, ended(1))] == ["Completed"]
        assert flow_runs(alone) == []
    finally:
        refit("down", project=other)


@pytest.mark.slow
def test_schedules_come_about(alone: Path) -> None:
    bring_up(alone)
    deadline = time.monotonic() + 240
    while len(names := {one.deployment_id for one in scheduled(alone)}) < 3:
        assert time.monotonic() < deadline, names
        time.sleep(1)


FORGED = [
    DRIFT | {"window": WINDOW | {"end": "9999-12-31T00:00:00Z"}},
    DRIFT | {"window": {"first": "1999-01-01", "end": "1999-02-01"}},
    DRIFT | {"reason": "x" * 100_000},
    DRIFT | {"as_of": "9999-01-01"},
    DRIFT | {"window": [1, 2]},
    DRIFT | {"window": {"first": {"a": 1}, "end": [[[]]]}},
    DRIFT | {"window": {"first": "2024-10-01", "end": float("nan")}},
    DRIFT | {"columns": [1, {"a": 2}]},
    DRIFT | {"reason": ["a"]},
    DRIFT | {"as_of": [1]},
    {},
]


@pytest.mark.slow
def test_forged_events_end_as_not_started_or_start_nothing_and_the_next_true_one_is_answered(alone: Path) -> None:
    bring_up(alone)
    for count, forged in enumerate(FORGED[:4], 1):
        run("-c", EMIT, project=alone, given=json.dumps([forged, [0.0]]))
        assert until(alone, ended(count))[-1].state.name == "NotStarted"
    for forged in FORGED[4:]:
        run("-c", EMIT, project=alone, given=json.dumps([forged, [0.0]]))
    run("-c", EMIT, project=alone, given=json.dumps([DRIFT, [3600.0 * 24 * 30]]))
    assert until(alone, ended(5))[-1].state.name == "NotStarted"
    run("-c", EMIT, project=alone, given=json.dumps([DRIFT | {"project": "/"}, [0.0]]))
    found = until(alone, ended(6))
    assert [one.state.name for one in found] == ["NotStarted"] * 5 + ["Completed"]
    assert all("\n" not in one.state.message for one in found[:5])
    assert len(found) == 6


def _seconds(since: float, flow_run: Any) -> float:
    return float(flow_run.start_time.timestamp()) - since
