"""What a run in a new clone starts from: the data of the newest version, or nothing at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from driving import copy_project
from servers import free_port

from flows.checkouts import bring_data, share
from refit.config import Params
from refit.errors import RefitError
from refit.runtime import dvc_remote, run_file
from refit.runtime.registry_store import store_of
from registry import versions
from registry.client import client
from registry.store import Store

_MADE = ("data", "models", "reports", ".refit", "run.yaml", "comparand.json", "warm_start.json", "cache", "tmp")


@pytest.fixture
def origin(finished: Path, tmp_path: Path) -> Path:
    """A project with one version, and a remote that nobody has pushed to."""
    project: Path = copy_project(finished, tmp_path / "origin")
    (project / ".dvc/config").write_text(
        f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {tmp_path / 'remote'}\n"
    )
    return project


@pytest.fixture
def team(origin: Path) -> tuple[Store, Params]:
    params = run_file.params_of(origin)
    return store_of(origin, params), params


def cloned(origin: Path, *, lock: bool) -> Path:
    folder = origin.parent / f"clone-{lock}"
    shutil.copytree(origin, folder, symlinks=True, ignore=shutil.ignore_patterns(*_MADE))
    if not lock:
        (folder / "dvc.lock").unlink()
    return folder


def test_a_run_does_not_start_without_the_data_that_versions_were_made_from(
    origin: Path, team: tuple[Store, Params]
) -> None:
    clone = cloned(origin, lock=False)
    with pytest.raises(RefitError, match="the data of none of the newest 1 versions is in DVC's remote"):
        bring_data(clone, *team)
    assert not (clone / "dvc.lock").exists()
    dvc_remote.push(origin)
    bring_data(clone, *team)
    assert (clone / "data/snapshot.json").read_bytes() == (origin / "data/snapshot.json").read_bytes()


def test_the_data_of_an_older_commit_does_not_stand_in_for_that_of_a_version(
    origin: Path, team: tuple[Store, Params]
) -> None:
    store, params = team
    dvc_remote.push(origin)
    (version,) = versions.tagged_by_client(store, params.project.name, {})
    assert version.run_id
    artifacts = Path(str(client(store).get_run(version.run_id).info.artifact_uri).removeprefix("file://"))
    (stored,) = artifacts.rglob("provenance/dvc.lock")
    lost = yaml.safe_load(stored.read_bytes())
    lost["stages"]["ingest"]["outs"][0]["md5"] = f"{'0' * 32}.dir"
    for lock in (yaml.safe_dump(lost), None):
        stored.write_text(lock) if lock else stored.unlink()
        with pytest.raises(RefitError, match="the data of none of the newest 1 versions"):
            bring_data(cloned(origin, lock=lock is None), *team)


def test_a_script_of_ci_ends_where_the_data_is_not_there(origin: Path, team: tuple[Store, Params]) -> None:
    clone = cloned(origin, lock=True)
    command = [sys.executable, "-m", "flows.checkouts"]
    environ = {"MLFLOW_TRACKING_URI": team[0].uri, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=clone, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the data of none of the newest 1 versions is in")
    (clone / "data").mkdir(exist_ok=True)
    (clone / "data/snapshot.json").write_text("{}")
    subprocess.run(command, cwd=clone, env=environ, check=True)
    assert (clone / "data/snapshot.json").read_text() == "{}", "what a machine has made itself stays"


def test_a_registry_that_does_not_answer_ends_a_run_with_one_line(
    origin: Path, team: tuple[Store, Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    lost = Store(f"http://127.0.0.1:{free_port()}", origin)
    with pytest.raises(
        RefitError, match=r"the registry at http://127\.0\.0\.1:\d+ failed: .*check that it is reachable"
    ):
        bring_data(cloned(origin, lock=True), lost, team[1])


def test_only_a_run_whose_folder_may_be_deleted_pushes_what_it_made(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of an image; a later run in the same folder, by a person, pushes nothing."""
    said: list[str] = []
    share(origin, said.append)
    assert not said
    assert not (tmp_path / "remote").exists()
    monkeypatch.setenv("REFIT_THROWAWAY", str(origin))
    share(origin, said.append)
    assert said == ["pushed data and models to DVC's remote"]
    assert any((tmp_path / "remote").rglob("*"))
