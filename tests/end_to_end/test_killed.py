"""Kill anything, run again: one version, one ledger line, nothing half-written, a clean status."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from driving import drive

from refit.cli import inspection
from refit.config import STAGES
from refit.files.artifacts import RECEIPT, TRAINING, read_json
from refit.runtime import lock

# Runs all stages, forcing one, and kills itself there: as a file takes its final name, or once the work is done.
KILLED = """
import os, pathlib, signal, sys
from flows.session import session
from tasks import stages
from refit.config import STAGES

project, target, moment = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
real = stages.stage_function

def doomed(name):
    function = real(name)
    def work(context):
        if name == target and moment == "writing":
            pathlib.Path.replace = die
            os.replace = die
        function(context)
        if name == target:
            die()
    return work

stages.stage_function = doomed
with session(project) as run:
    for stage in STAGES:
        stages.run_remembered(stage, run.context(), force=stage == target)
"""


def kill_in(project: Path, stage: str, moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(project), stage, moment], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def moves(project: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(project / ".refit/ledger.db") as connection:
        return connection.execute("select action, to_version from ledger order by 1, 2").fetchall()


def partial_files(project: Path) -> list[str]:
    return [str(path) for folder in ("models", "reports") for path in (project / folder).rglob("*.partial*")]


@pytest.mark.slow  # killed trainings, deliveries and registrations are quick: the tests of their stages
@pytest.mark.parametrize("moment", ["writing", "done"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_in_a_stage_ends_well_when_run_again(project: Path, stage: str, moment: str) -> None:
    before, digest = moves(project), read_json(project / TRAINING)["model_digest"]
    kill_in(project, stage, moment)
    assert not lock.is_held(project)
    told = drive(project)
    assert told["model"] == {"name": "demo", "version": "1", "alias": "champion"}
    assert moves(project) == before
    assert read_json(project / TRAINING)["model_digest"] == digest
    assert read_json(project / RECEIPT)["version"] == "1"
    assert inspection.status(project) == {}
    assert drive(project)["stages"][stage]["state"] == "unchanged"
    assert partial_files(project) == []
