"""One run at a time: the second is told who holds the project, and a killed holder holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from refit.errors import RefitError
from refit.runtime import lock

HOLD = """
import sys, time
from pathlib import Path
from refit.runtime.lock import project_lock
with project_lock(Path(sys.argv[1]), may_promote=True, trigger="schedule"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(project: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(project)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_told_who_holds_the_project(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        with pytest.raises(RefitError, match=f"held by pid {process.pid}"), lock.project_lock(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_killed_holder_frees_the_project_at_once(tmp_path: Path) -> None:
    process = hold(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not lock.is_held(tmp_path)
    with lock.project_lock(tmp_path) as owner:
        assert owner.pid == os.getpid()


def test_a_second_run_that_waits_gets_the_project_when_it_is_free(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    with lock.project_lock(tmp_path, wait_seconds=10):
        pass
    process.wait()


def test_a_child_that_shows_the_token_goes_in_with_its_parents_rights(tmp_path: Path) -> None:
    check = (
        "import sys; from pathlib import Path; from refit.runtime.lock import project_lock\n"
        "with project_lock(Path(sys.argv[1])) as owner: print(owner.may_promote, owner.trigger)"
    )
    with lock.project_lock(tmp_path, may_promote=True, trigger="schedule"):
        child = subprocess.run([sys.executable, "-c", check, str(tmp_path)], capture_output=True, text=True, check=True)
    assert child.stdout == "True schedule\n"


def test_a_made_up_token_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = hold(tmp_path)
    monkeypatch.setenv(lock.TOKEN_VARIABLE, "0" * 32)
    try:
        with pytest.raises(RefitError, match="held by"), lock.project_lock(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_the_token_is_gone_after_the_run(tmp_path: Path) -> None:
    with lock.project_lock(tmp_path):
        assert lock.TOKEN_VARIABLE in os.environ
    assert lock.TOKEN_VARIABLE not in os.environ
    assert lock.holder(tmp_path) is None


def test_who_looks_whether_a_project_is_in_use_refuses_no_run_that_starts(tmp_path: Path) -> None:
    (tmp_path / ".refit").mkdir()
    (tmp_path / ".refit/lock").touch()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            lock.is_held(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            with lock.project_lock(tmp_path):
                assert lock.is_held(tmp_path)
    finally:
        done.set()
        for looker in lookers:
            looker.join()
    assert not lock.is_held(tmp_path)


def test_a_lock_that_cannot_be_seen_is_an_error_and_not_a_free_project(tmp_path: Path) -> None:
    (tmp_path / ".refit/lock").mkdir(parents=True)
    with pytest.raises(RefitError, match="is in use cannot be seen: Is a directory"):
        lock.is_held(tmp_path)
