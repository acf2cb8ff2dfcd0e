"""Parts that other processes compute: in order, once more where a process was killed, and never after this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from refit.errors import RefitError, UserError
from refit.runtime.workers import processes


@dataclass(frozen=True)
class Task:
    """What a part does, with a folder in which it notes that it was called."""

    number: int
    folder: Path
    killed: int = 0  # times
    fails: bool = False
    seconds: float = 0


def work(task: Task) -> int:
    calls = len([*task.folder.glob(f"{task.number}-*")])
    (task.folder / f"{task.number}-{calls}-{os.getpid()}").touch()
    time.sleep(task.seconds)
    if calls < task.killed:
        os.kill(os.getpid(), signal.SIGKILL)
    if task.fails:
        raise UserError(f"part {task.number} is wrong")
    return task.number * 10


def calls(folder: Path) -> dict[int, int]:
    names = [int(path.name.partition("-")[0]) for path in folder.iterdir()]
    return {number: names.count(number) for number in names}


@pytest.mark.ci
def test_a_part_whose_process_was_killed_is_computed_again_and_the_finished_ones_are_not(tmp_path: Path) -> None:
    tasks = [Task(0, tmp_path), Task(1, tmp_path, killed=1, seconds=0.5), Task(2, tmp_path, killed=2, seconds=0.5)]
    with processes(2) as workers:
        assert workers.map(work, tasks) == [0, 10, 20]
        assert workers.map(work, [Task(3, tmp_path)]) == [30]
    assert calls(tmp_path)[0] == 1
    assert calls(tmp_path)[2] >= 3


@pytest.mark.slow
def test_processes_that_are_killed_each_time_are_given_up_in_one_line(tmp_path: Path) -> None:
    with processes(1) as workers, pytest.raises(RefitError, match=r"killed 4 times.*memory.*resources\.workers"):
        workers.map(work, [Task(0, tmp_path, killed=9)])
    assert calls(tmp_path) == {0: 4}


def test_the_error_is_that_of_the_first_part_that_fails_and_the_others_end_with_it(tmp_path: Path) -> None:
    began = time.monotonic()
    tasks = [Task(0, tmp_path, fails=True, seconds=1), Task(1, tmp_path, fails=True), Task(2, tmp_path, seconds=600)]
    with pytest.raises(UserError, match="part 0 is wrong"), processes(2) as workers:
        workers.map(work, tasks)
    assert time.monotonic() - began < 300


@pytest.mark.ci
def test_once_an_error_is_raised_no_part_goes_on_and_the_processes_are_there_for_the_next(tmp_path: Path) -> None:
    tasks = [Task(0, tmp_path, fails=True, seconds=2), *(Task(number, tmp_path, seconds=600) for number in (1, 2, 3))]
    with processes(2) as workers:
        with pytest.raises(UserError, match="part 0 is wrong"):
            workers.map(work, tasks)
        pids = [int(path.name.rpartition("-")[2]) for path in tmp_path.iterdir()]
        assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)
        assert workers.map(work, [Task(4, tmp_path)]) == [40]


def test_processes_end_with_one_that_is_killed(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from refit.runtime.workers import processes\n"
        f"from {__name__} import Task, work\n"
        "if __name__ == '__main__':\n"
        "    with processes(2) as workers:\n"
        f"        workers.map(work, [Task(n, Path({str(tmp_path / 'calls')!r}), seconds=600) for n in range(2)])\n"
    )
    (tmp_path / "calls").mkdir()
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stderr=subprocess.DEVNULL)
    while len(started := [*(tmp_path / "calls").iterdir()]) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    pids = [int(path.name.rpartition("-")[2]) for path in started]
    end = time.monotonic() + 60
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < end, "a process goes on without the one that it works for"
        time.sleep(0.05)
