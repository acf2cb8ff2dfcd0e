"""What Refit adds to the work itself: six unchanged stages, and a full run, against the least that could do the same.

    python benchmarks/orchestration.py [--rounds N] [--full]

Whole processes, timed from outside, in turn: `refit run` with everything unchanged, next to six empty Prefect tasks,
with a server running and embedded; with --full also a full run of the reference project, next to its six functions.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFIT = [sys.executable, "-m", "refit"]

EMPTY = """
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
tasks = [task(name=name, cache_policy=NO_CACHE)(lambda: None) for name in "abcdef"]
@flow
def six():
    for each in tasks:
        each()
six()
"""

STAGES_ALONE = """
import sys
from pathlib import Path
from flows.session import prepare
from refit.models import incumbent
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.config import STAGES
from tasks.stages import stage_function
project = Path(sys.argv[1])
prepare(project)
context = Context(project=project, params=run_file.params_of(project), may_promote=True)
for stage in STAGES:
    if stage == "evaluate":
        incumbent.refresh(context)
    stage_function(stage)(context)
"""


def seconds(command: list[str], environment: dict[str, str], cwd: Path) -> tuple[float, float]:
    """Wall seconds and peak megabytes of one process."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        spent = time.perf_counter() - started
        if status:
            errors.seek(0)
            sys.exit(errors.read().decode()[-2000:])
    return spent, usage.ru_maxrss / 1024


@contextmanager
def prefect_server(environment: dict[str, str]) -> Iterator[str]:
    """A server of our own on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()


def compare(
    title: str, first: list[str], second: list[str], environment: dict[str, str], cwd: Path, rounds: int
) -> None:
    """Both commands in turn, after one round that does not count; prints a line of the table."""
    spent: tuple[list[float], list[float]] = ([], [])
    peak = 0.0
    for each in range(rounds + 1):
        for which, command in enumerate((first, second)):
            wall, memory = seconds(command, environment, cwd)
            peak = max(peak, memory) if command is first else peak
            if each:
                spent[which].append(wall)
    a, b = (statistics.median(times) for times in spent)
    print(f"| {title} | {a:.2f} s | {b:.2f} s | {a / b:.2f} | {a - b:+.2f} s | {peak:.0f} MB |", flush=True)


def reference_copy(scratch: Path) -> Path:
    """The reference project alone, as it stands in git."""
    project = scratch / "reference"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    return project


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="also a full run of the reference project, minutes")
    asked = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="refit-bench-"))
    environment = {**os.environ, "PREFECT_HOME": str(scratch / "prefect"), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    environment.pop("PREFECT_API_URL", None)
    empty = [sys.executable, "-c", EMPTY]
    try:
        project = scratch / "demo"
        subprocess.run([*REFIT, "init", str(project)], check=True, stdout=subprocess.DEVNULL)
        print("| | refit run | compared with | ratio | difference | peak |\n| --- | --- | --- | --- | --- | --- |")
        with prefect_server(environment) as url:
            served = {**environment, "PREFECT_API_URL": url}
            seconds([*REFIT, "run"], served, project)
            unchanged = [*REFIT, "run", "--json"]
            compare("unchanged, server running; six empty tasks", unchanged, empty, served, project, asked.rounds)
            if asked.full:
                whole, alone = reference_copy(scratch), scratch / "alone"
                shutil.copytree(whole, alone)
                served["PYTHONPATH"] = str(ROOT)
                a, _ = seconds([*REFIT, "run", "--project", str(whole)], served, ROOT)
                b, _ = seconds([sys.executable, "-c", STAGES_ALONE, str(alone)], served, ROOT)
                print(
                    f"| full, server running; its functions | {a:.2f} s | {b:.2f} s | {a / b:.2f} | {a - b:+.2f} s | |"
                )
        compare(
            "unchanged, embedded; six empty tasks", unchanged, empty, environment, project, max(2, asked.rounds // 2)
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
