"""A model says which code made it, committed or not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refit.learners import Spec, make
from refit.runtime import provenance
from tasks.register.packaging import network_libraries


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("one\n")
    (tmp_path / ".gitignore").write_text("secret\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit(repository: Path) -> None:
    found = provenance.commit(repository)
    assert found == provenance.Commit(git(repository, "rev-parse", "HEAD"), None)


def test_the_patch_holds_changed_staged_and_new_files_and_applies_to_the_commit(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (repository / "code.py").write_text("two\n")
    (repository / "staged.py").write_text("staged\n")
    git(repository, "add", "staged.py")
    (repository / "sub").mkdir()
    (repository / "sub/näw file.py").write_text("new\n")
    (repository / "secret").write_text("ignored by git, so not ours to keep")
    (repository / "data.csv").write_bytes(b"1\n" * 600_000)
    before = git(repository, "status", "--porcelain"), git(repository, "count-objects")
    found = provenance.commit(repository / "sub")
    assert (git(repository, "status", "--porcelain"), git(repository, "count-objects")) == before
    assert found.left_out == ("data.csv",)
    assert found.patch is not None
    assert b"ignored by git" not in found.patch
    clone = tmp_path_factory.mktemp("clone")
    git(clone, "clone", "-q", str(repository), "again")
    (clone / "patch").write_bytes(found.patch)
    git(clone / "again", "apply", str(clone / "patch"))
    for name in ("code.py", "staged.py", "sub/näw file.py"):
        assert (clone / "again" / name).read_text() == (repository / name).read_text()


@pytest.mark.parametrize("inside", [".", "sub"])
def test_what_a_run_writes_is_no_uncommitted_change_of_the_code(repository: Path, inside: str) -> None:
    """An unattended run leaves a new `dvc.lock`: the next one used the commit's code all the same."""
    project, written = repository / inside, ("dvc.lock", ".dvc/config", "reports/metrics.json", "models/training.json")
    for name in (*written, "params.yaml", "models/own.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("before\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    head = git(repository, "rev-parse", "HEAD")
    for name in (*written, "run.yaml", "comparand.json", "warm_start.json", ".refit/up.json", "data/snapshot.json"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("after\n")
    (project / "data/batches").mkdir()
    (project / "data/batches/1.parquet").write_bytes(b"1\n" * 600_000)
    assert provenance.commit(project) == provenance.Commit(head, None)
    assert provenance.uncommitted_code(project) == ()
    for name in ("params.yaml", "models/own.py", "new.py", "data/names.csv"):
        (project / name).write_text("after\n")
    patch = (provenance.commit(project).patch or b"").decode()
    found = {line.rpartition(" b/")[2] for line in patch.splitlines() if line.startswith("diff --git")}
    base = "" if inside == "." else f"{inside}/"
    assert found == {f"{base}{name}" for name in ("params.yaml", "models/own.py", "new.py", "data/names.csv")}
    assert provenance.uncommitted_code(project) == tuple(f"{base}{name}" for name in ("new.py", "params.yaml"))


def test_outside_of_git_there_is_no_commit(tmp_path: Path) -> None:
    assert provenance.commit(tmp_path) == provenance.Commit(None, None)


def test_requirements_name_what_the_learners_kind_needs_and_no_more() -> None:
    names = {line.split("==")[0] for line in provenance.requirements("sklearn.linear_model.LogisticRegression")}
    assert {"scikit-learn", "skops", "numpy"} <= names
    assert "torch" not in names
    assert "torch" in {line.split("==")[0] for line in provenance.requirements("torch_tabular")}
    assert "scikit-learn" not in {line.split("==")[0] for line in provenance.requirements("baseline")}
    network = provenance.requirements("mlp", network=("torch", "safetensors"))
    assert {"torch", "safetensors"} < {line.split("==")[0] for line in network}
    assert "scikit-learn" not in {line.split("==")[0] for line in network}


@pytest.mark.parametrize("average", [1, 2])
def test_a_stored_network_names_its_libraries_also_within_another_learner(average: int, tmp_path: Path) -> None:
    spec = Spec("it", "mlp", ("x",), params={"epochs": 1, "hidden": [2]}, average=average)
    learner = make(spec)
    learner.fit(pa.table({"x": [0.0, 1.0]}), np.array([0, 1]))
    learner.save(tmp_path)
    assert set(network_libraries(tmp_path)) == {"torch", "safetensors"}
