"""What was started is found again and ended whole; what only looks like it is left alone."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from flows.services.ports import server_for_runs
from flows.services.processes import LOOPBACK, Started, end, listen, listen_from, start, wait_until_it_answers
from refit.errors import RefitError

# Starts a child in a session of its own, as a worker starts a flow run, says its pid, and waits.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[Started, psutil.Process]]:
    started = start(
        "parent", [sys.executable, "-c", PARENT], folder=tmp_path, log=tmp_path / "log", environment=os.environ
    )
    while not (tmp_path / "log").read_text().strip():
        time.sleep(0.05)
    yield started, psutil.Process(int((tmp_path / "log").read_text()))
    end(started)


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_process_is_ended_with_its_children_in_other_sessions(parent: tuple[Started, psutil.Process]) -> None:
    started, child = parent
    assert started.process()
    assert end(started)
    assert not started.process()
    assert not lives(child)
    assert not end(started), "nothing is left to end"


def test_orphans_of_a_killed_process_are_found_and_ended(parent: tuple[Started, psutil.Process]) -> None:
    started, child = parent
    psutil.Process(started.pid).kill()
    os.waitpid(started.pid, 0)
    assert lives(child)
    assert end(started)
    assert not lives(child)


def test_a_pid_that_belongs_to_another_process_by_now_is_left_alone(parent: tuple[Started, psutil.Process]) -> None:
    started, child = parent
    stranger = replace(started, since=started.since - 3600, mark="another")
    assert stranger.process() is None
    assert not end(stranger)
    assert started.process()
    assert lives(child)


def test_a_taken_port_is_passed_over() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        taken = server.getsockname()[1]
        assert listen(taken) is None
        with listen_from(taken) as other:
            assert other.getsockname()[1] > taken
            assert listen(other.getsockname()[1]) is None, "taken from now on, before any server answers on it"


def test_who_waits_long_for_a_server_is_told_once_what_for(tmp_path: Path) -> None:
    told = list[str]()
    with listen_from(8400) as listening:
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        started = start(
            "prefect", command, folder=tmp_path, log=tmp_path / "log", environment=os.environ, listening=listening
        )
        try:
            with pytest.raises(RefitError, match="did not answer within 1 s"):
                wait_until_it_answers(started, seconds=1, tell=told.append, tell_after=0.1)
        finally:
            end(started)
    assert told == ["waiting for prefect's server to start; the first start on a machine is the longest"]


def test_a_server_that_ends_before_it_answers_is_told_with_its_log(tmp_path: Path) -> None:
    with listen_from(46000) as listening:
        started = start(
            "prefect",
            [sys.executable, "-c", "raise SystemExit(3)"],
            folder=tmp_path,
            log=tmp_path / "prefect.log",
            environment=os.environ,
            listening=listening,
        )
    with pytest.raises(RefitError, match=r"prefect ended before it answered.*prefect\.log"):
        wait_until_it_answers(started, seconds=30)


# Answers whatever is asked of it on the socket that it inherits: somebody else's server.
STRANGER = """
import http.server, socket, sys
listening = socket.socket(fileno=int(sys.argv[1]))
class Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"yes, it is me")
server = http.server.HTTPServer(listening.getsockname(), Yes, bind_and_activate=False)
server.socket = listening
server.serve_forever()
"""


def test_a_server_that_answers_but_cannot_prove_that_it_was_started_is_not_taken_for_ours(tmp_path: Path) -> None:
    with listen_from(46100) as listening:
        stranger = start(
            "stranger",
            [sys.executable, "-c", STRANGER],
            folder=tmp_path,
            log=tmp_path / "log",
            environment=os.environ,
            listening=listening,
        )
    try:
        assert stranger.process()
        with pytest.raises(RefitError, match="did not answer within 2 s"):
            wait_until_it_answers(stranger, seconds=2)
        assert not stranger.answers()
    finally:
        end(stranger)


@pytest.mark.slow
def test_a_prefect_server_that_does_not_answer_is_no_fault_of_refit(tmp_path: Path) -> None:
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://{LOOPBACK}:{port}/api"
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(RefitError, match=rf"does not answer: .*:{port}/api \(PREFECT_API_URL\); start it, or unset"),
        server_for_runs(tmp_path),
    ):
        flow(lambda: None, name="nothing")()
