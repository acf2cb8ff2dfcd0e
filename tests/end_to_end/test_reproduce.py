"""A registered version is made again from what is kept of it, and a difference is named."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from driving import drive

from refit.cli.running import reproduce
from refit.errors import RefitError, UserError
from refit.operations.reproduce import code_of, copy_code
from refit.runtime.provenance import commit


@pytest.mark.ci
def test_a_version_is_made_again_to_the_digest_whatever_the_project_asks_for_now(project: Path) -> None:
    before = {path: path.read_bytes() for path in (project / "models").rglob("*") if path.is_file()}
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("seed: 0", "seed: 99"))
    (project / "released.json").write_text("not the releases of then")
    found = reproduce(project, "1", wait_seconds=0)
    assert [each.what for each in found if not each.same] == []
    assert found[-1].what == "model"
    assert {path: path.read_bytes() for path in before} == before
    assert list((project / ".refit/reproduce").iterdir()) == []


def test_data_that_was_touched_and_a_version_that_is_not_there_are_named(project: Path) -> None:
    with pytest.raises(UserError, match="demo has no version '9'"):
        reproduce(project, "9", wait_seconds=0)
    batch = sorted((project / "data/batches/table").glob("*.parquet"))[0]
    batch.write_bytes(batch.read_bytes() + b"x")
    with pytest.raises(RefitError, match=f"{batch.name} is gone or changed; `dvc checkout`"):
        reproduce(project, "1", wait_seconds=0)


def test_only_a_projects_own_data_and_results_are_no_code(tmp_path: Path) -> None:
    files = {"features.py", "shop/data/units.py", "shop/models/names.py", "raw/rows.csv"}
    results = {"data/batches/rows.parquet", "models/receipt.json", "reports/decision.json", ".refit/ledger.db"}
    for name in files | results | {"shop/.venv/lib/code.py"}:
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).touch()
    copy_code(tmp_path / "project", tree := tmp_path / "tree")
    assert {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("folder", [".", "models/shop"], ids=["its top", "a folder"])
def test_the_code_of_then_is_found_wherever_in_a_repository_the_project_lies(tmp_path: Path, folder: str) -> None:
    project, provenance = tmp_path / "repository" / folder, tmp_path / "provenance"
    for path in (project, provenance):
        path.mkdir(parents=True)
    (project / "features.py").write_text("committed\n")
    for arguments in (["init"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@e.org", "commit", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=tmp_path / "repository", check=True, capture_output=True)
    (project / "features.py").write_text("of then\n")
    then = commit(project)
    assert then.patch
    (provenance / "uncommitted.patch").write_bytes(then.patch)
    (project / "features.py").write_text("of now\n")
    found = code_of(project, then.hash, provenance, tmp_path / "repository/tree")
    assert (found / "features.py").read_text() == "of then\n"
    assert found == tmp_path / "repository/tree" / folder


@pytest.mark.parametrize("name", ["params.yaml", "uncommitted.patch"])
def test_what_somebody_put_into_the_artifact_store_is_not_run(project: Path, name: str) -> None:
    (provenance,) = (project / ".refit/mlartifacts").rglob("model/provenance")
    with (provenance / name).open("a") as file:
        file.write("# another\n")
    with pytest.raises(RefitError, match=name):
        reproduce(project, "1", wait_seconds=0)
    assert not (project / ".refit/reproduce").exists() or list((project / ".refit/reproduce").iterdir()) == []


@pytest.mark.ci
def test_a_commit_that_is_an_option_of_git_is_refused(project: Path) -> None:
    with closing(sqlite3.connect(project / ".refit/mlflow.db")) as connection, connection:
        connection.execute(
            "insert or replace into model_version_tags (name, version, workspace, key, value)"
            " values ('demo', 1, 'default', 'refit.git_commit', '--output=written')"
        )
    with pytest.raises(RefitError, match=r"the tag refit.git_commit of version 1 of demo is not as Refit wrote it"):
        reproduce(project, "1", wait_seconds=0)
    assert not (project / "written").exists()


@pytest.mark.slow
def test_a_version_of_a_project_in_git_is_made_from_its_commit(project: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=project, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    (project / "notes.py").write_text("x = 1\n")  # uncommitted: kept as a patch
    told = drive(project, overrides={"train.seed": 5})
    (project / "params.yaml").write_text("project: {name: elsewhere}\n" + (project / "params.yaml").read_text())
    git("add", ".")
    git("commit", "-m", "second, broken")
    git("checkout", "HEAD~1", "--", "params.yaml")
    found = reproduce(project, told["model"]["version"], wait_seconds=0)
    assert found[-1].same
