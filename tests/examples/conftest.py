"""The examples, each copied out of the repository as a project of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.session import prepare
from refit.runtime import dvc_runner

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OUTPUTS = (".dvc", ".dvcignore", ".refit", "data", "models", "reports", "dvc.lock", "run.yaml", "__pycache__")


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A fresh copy of an example, without what runs in the repository left in it."""

    def copy(name: str, folder: Path | None = None) -> Path:
        project = (folder or tmp_path_factory.mktemp("example")) / name
        shutil.copytree(EXAMPLES / name, project, ignore=shutil.ignore_patterns(*OUTPUTS))
        dvc_runner.initialise(project)
        prepare(project)
        return project

    return copy
