"""Two `refit run` at once, as two people or two schedules start them: in one checkout, and in two of one model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from refit.runtime import lock
from registry import versions
from registry.ledger import Ledger
from registry.store import locate

COMMAND = [sys.executable, "-m", "refit"]


def start(project: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--project", str(project)],
        env={**os.environ, "PREFECT_LOGGING_LEVEL": "CRITICAL", **(environment or {})},  # as the console script has it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """Exit status of each, and its error, or else its last line on standard error."""
    said = [process.communicate(timeout=500)[1].strip().splitlines() or [""] for process in processes]
    assert "Traceback" not in "".join("".join(lines) for lines in said)
    told = [next((line for line in lines if line.startswith("error: ")), lines[-1]) for lines in said]
    return [(process.returncode, line) for process, line in zip(processes, told, strict=True)]


@pytest.mark.slow
def test_of_two_runs_of_one_checkout_one_runs_and_the_other_says_who_holds_it(project: Path) -> None:
    first = start(project, "run", "--force")
    while first.poll() is None and not lock.is_held(project):
        time.sleep(0.1)
    (status, _), (refused, said) = ended(first, start(project, "run"))
    assert (status, refused) == (0, 1)
    assert f"{project}/.refit/lock is held by pid {first.pid} on " in said
    assert "wait for it to end, or give --wait SECONDS" in said


@pytest.mark.slow
def test_a_second_run_that_waits_goes_on_after_the_first(project: Path) -> None:
    assert [status for status, _ in ended(*(start(project, "run", "--wait", "300") for _ in range(2)))] == [0, 0]
    assert [line.to_version for line in Ledger.of(locate(project, None)).entries("demo")] == ["1"]


@pytest.mark.slow
def test_of_two_retrainings_in_checkouts_that_share_a_registry_one_takes_charge_and_the_other_says_so(
    project: Path, tmp_path: Path
) -> None:
    shutil.copytree(project, tmp_path / "second", symlinks=True)
    store = locate(project, None)
    shared = {"MLFLOW_TRACKING_URI": store.uri}
    lenient = [f"--set=evaluate.gate.{key}" for key in ("max_loss=0.5", "min_gain_over_baseline=0")]
    runs = [
        start(folder, "run", *lenient, f"--set=train.learners.logistic.params.C={strength}", environment=shared)
        for folder, strength in ((project, 0.5), (tmp_path / "second", 0.6))
    ]
    results = ended(*runs)
    lines = Ledger.of(store).entries("demo")
    now = versions.registered(store, "demo").aliases["champion"]
    assert [line.to_version for line in lines if line.action == "promote"] == ["1", now]
    refused = [line.reasons for line in lines if line.action == "refuse"]
    for status, said in results:
        assert status == 0 or said == (
            f"error: comparand.json names version 1, the registry version {now}; `refit run` writes it again"
        )
    assert refused in ([], [(f"it was judged against version 1, but version {now} is the champion now",)])
    assert [status for status, _ in results].count(0) == 1 + len(refused)
