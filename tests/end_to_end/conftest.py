"""A small project that has run once, copied for each test that changes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from driving import drive

from flows.new_project import create


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
