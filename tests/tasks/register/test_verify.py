"""The last check before a model is promoted, in the fresh process in which it really runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from refit.errors import RefitError
from refit.files.artifacts import sha256
from refit.models import incumbent, verification
from tasks import register


@pytest.fixture
def stored(project: Any) -> Path:
    """A model as the registry stores it."""
    project.judged()
    register.run(project.without_leave())
    return incumbent.fetch_model(project.context, "1").parents[1]


def check(stored: Path, project: Any, **changed: Any) -> float:
    given = {"manifest": sha256(stored / "manifest.json"), "tolerance": 1e-9, "trusted_types": ()}
    return verification.in_fresh_process(stored, project=project.folder, **{**given, **changed})


@pytest.mark.ci
def test_the_stored_model_reproduces_what_the_gate_saw_and_takes_charge(stored: Path, project: Any) -> None:
    register.run(project.context)
    assert project.aliases["champion"] == "1"
    assert check(stored, project) <= 1e-9


@pytest.mark.ci
def test_a_failure_is_its_own_last_line(stored: Path, project: Any) -> None:
    with pytest.raises(
        RefitError, match=r"^\S*manifest\.json differs from the registry's record: recorded 000000000000"
    ):
        check(stored, project, manifest="0" * 64)
    (stored / "data/candidate/model.json").write_text("{}")
    with pytest.raises(RefitError, match=r"data/candidate/model\.json is missing or differs from its manifest"):
        check(stored, project)


def test_a_check_that_is_killed_or_too_slow_is_no_failure_of_the_model(
    stored: Path, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "TIMEOUT_SECONDS", 0.01)
    with pytest.raises(TimeoutError, match=r"loading it took more than 0\.01 s"):
        check(stored, project)
    monkeypatch.undo()
    killer = stored.parent / "sitecustomize.py"
    killer.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(killer.parent))
    with pytest.raises(OSError, match=r"its process was killed \(SIGKILL"):
        check(stored, project)


@pytest.mark.ci
@pytest.mark.usefixtures("same_process")
def test_a_store_that_does_not_answer_is_no_verdict_on_a_model(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.judged()
    before = project.ledger

    def refuse(*_: Any) -> Path:
        raise ConnectionError("Connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "download_artifacts", refuse)
        with pytest.raises(RefitError, match="could not be checked: the files of version 1 of toy cannot be read"):
            register.run(project.context)
    assert project.ledger == before
    register.run(project.context)
    assert project.aliases["champion"] == "1"


@pytest.mark.slow
def test_a_folder_called_tasks_in_the_project_does_not_shadow_ours(
    stored: Path, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "tasks").mkdir()
    (project.folder / "tasks/__init__.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(project.folder)
    assert check(stored, project) <= 1e-9


def test_the_command_says_what_is_wrong_in_one_line_with_status_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "refit.models.verification", str(tmp_path), "--manifest", "0"],
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "manifest.json is missing" in done.stderr
