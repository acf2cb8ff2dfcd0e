"""A small project that has run once, copied for each test that changes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.new_project import create
from flows.screen import LogScreen
from flows.session import session
from flows.summary import summarise
from tasks.params import STAGES
from tasks.stages import run_remembered

Drive = Callable[..., dict[str, Any]]


def drive(project: Path, **settings: Any) -> dict[str, Any]:
    """The flow's six calls without Prefect, which costs seconds to start."""
    with session(project, **settings) as run:
        for stage in STAGES:
            run.ended(stage, run_remembered(stage, run.context(), force=run.force), 0.0)
        return summarise(run)


def states(told: dict[str, Any]) -> list[str]:
    """How the six stages ended, as one letter each: executed, restored, unchanged."""
    return [told["stages"][stage]["state"] for stage in STAGES]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated project after its first run; not to be changed."""
    project = tmp_path_factory.mktemp("finished") / "demo"
    create(project, csv=None, time=None, label=None, key=())
    drive(project)
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, at a path of its own."""
    shutil.copytree(finished, tmp_path / "demo", symlinks=True)
    return tmp_path / "demo"
