"""One run at a time: the second is told who holds the project, and a killed holder holds nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commands import refit_in

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


@pytest.mark.ci
def test_the_status_of_a_project_in_use_begins_with_who_holds_it(project: Path) -> None:
    assert "held by" not in refit_in(project, "status").stdout
    process = hold(project)
    try:
        first = refit_in(project, "status").stdout.splitlines()[0]
        assert first.startswith(f"held by pid {process.pid} on ")
        assert json.loads(refit_in(project, "status", "--json").stdout)["held_by"] in first
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


def test_what_the_holder_starts_goes_in_with_its_rights_even_by_way_of_a_shell(tmp_path: Path) -> None:
    check = (
        "import sys; from pathlib import Path; from refit.runtime.lock import project_lock\n"
        "with project_lock(Path(sys.argv[1])) as owner: print(owner.may_promote, owner.trigger)"
    )
    with lock.project_lock(tmp_path, may_promote=True, trigger="schedule"):
        child = subprocess.run([sys.executable, "-c", check, str(tmp_path)], capture_output=True, text=True, check=True)
        shell = f"{sys.executable} - {tmp_path}; true"
        grandchild = subprocess.run(shell, shell=True, input=check, capture_output=True, text=True, check=True)
    assert child.stdout == grandchild.stdout == "True schedule\n"


IN_A_CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]


def test_the_first_process_of_another_container_does_not_hold_the_lock_of_ours(tmp_path: Path) -> None:
    if subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no namespaces")
    look = "import sys; from pathlib import Path; from refit.runtime.lock import *; print(inherited(Path(sys.argv[1])))"
    hold = HOLD.replace("sleep(60)", "sleep(60) if len(sys.argv) == 2 else exec(sys.argv[2])")
    inner = "import subprocess; print(subprocess.run(sys.argv[3:], capture_output=True, text=True).stdout)"
    see = [sys.executable, "-c", look, str(tmp_path)]
    first = [*IN_A_CONTAINER, "--kill-child", sys.executable, "-c", hold, str(tmp_path)]
    mine = subprocess.run([*first, inner, *see], capture_output=True, text=True, check=True).stdout
    assert "held\npid 1 on " in mine, "what it starts shares its lock"
    with subprocess.Popen(first, stdout=subprocess.PIPE, text=True) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == "held\n"
        second = subprocess.run([*IN_A_CONTAINER, *see], capture_output=True, text=True, check=True)
        on_the_host = subprocess.run(see, capture_output=True, text=True, check=True)
        container.kill()
    assert (second.stdout, on_the_host.stdout) == ("None\n", "None\n")


def test_a_later_process_with_the_holders_number_is_not_the_holder(tmp_path: Path) -> None:
    path = tmp_path / ".refit/lock"
    with lock.project_lock(tmp_path):
        record = json.loads(path.read_text())
        namespace, pid, start = record["process"].split(".")
        for other in (f"1.{pid}.{start}", f"{namespace}.{pid}.1"):
            path.write_text(json.dumps(record | {"process": other}))
            assert lock.inherited(tmp_path) is None
        del record["process"]  # as an older Refit wrote it
        path.write_text(json.dumps(record))
        assert lock.inherited(tmp_path)


def test_a_process_that_names_itself_the_holder_gets_nothing(tmp_path: Path) -> None:
    """The kernel knows who holds the lock; the file only says so."""
    path = tmp_path / ".refit/lock"
    with lock.project_lock(tmp_path):
        said = path.read_text()
    path.write_text(said)
    assert lock.inherited(tmp_path) is None
    with lock.project_lock(tmp_path) as owner:
        assert not owner.may_promote


def test_one_process_holds_several_projects_and_changes_no_variable(tmp_path: Path) -> None:
    before = dict(os.environ)
    with lock.project_lock(tmp_path / "a", trigger="first"), lock.project_lock(tmp_path / "b", trigger="second"):
        assert dict(os.environ) == before
        for name, trigger in (("a", "first"), ("b", "second")):
            owner = lock.inherited(tmp_path / name)
            assert owner is not None
            assert owner.trigger == trigger
    assert lock.holder(tmp_path / "a") is None


@pytest.mark.slow
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
