"""What a run in a new clone starts from: the data of the newest version, or nothing at all."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from driving import copy_project
from servers import free_port, postgresql, postgresql_server  # noqa: F401

from flows import checkouts, shared_data
from flows.session import prepare, watching
from refit.config import Params
from refit.errors import RefitError
from refit.runtime import dvc_remote, environments, run_file
from refit.runtime.context import Context
from refit.runtime.registry_store import store_of
from registry import versions
from registry.client import client
from registry.records import Records
from registry.store import Store
from tasks.stages import run_remembered

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
    folder = Path(tempfile.mkdtemp(prefix="clone-", dir=origin.parent)) / "demo"
    shutil.copytree(origin, folder, symlinks=True, ignore=shutil.ignore_patterns(*_MADE))
    if not lock:
        (folder / "dvc.lock").unlink()
    return folder


@pytest.mark.slow
def test_a_run_does_not_start_without_the_data_that_versions_were_made_from(
    origin: Path, team: tuple[Store, Params]
) -> None:
    clone = cloned(origin, lock=False)
    with pytest.raises(
        RefitError,
        match=r"none of the newest 1 versions is in DVC's remote; `python -P -m flows\.checkouts --push` in the",
    ):
        shared_data.bring(clone, *team)
    assert not (clone / "dvc.lock").exists()
    dvc_remote.push(origin)
    shared_data.bring(clone, *team)
    assert (clone / "data/snapshot.json").read_bytes() == (origin / "data/snapshot.json").read_bytes()


@pytest.mark.slow
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
            shared_data.bring(cloned(origin, lock=lock is None), *team)


@pytest.mark.slow
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


def test_the_command_for_data_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        checkouts.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "bring the newest data from DVC's remote" in said
    assert "--push" in said
    with pytest.raises(SystemExit, match="2"):
        checkouts.main(["--pull"])
    assert "unrecognized arguments: --pull" in capsys.readouterr().err


def test_who_deploys_hears_of_the_push_until_this_folder_has_pushed_or_brought_data(tmp_path: Path) -> None:
    assert "in the checkout that made it, before the first run" in shared_data.missing_step(tmp_path)
    for name in ("data/snapshot.json", ".refit/data_record"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
        said = shared_data.missing_step(tmp_path)
        assert ("`python -P -m flows.checkouts --push` here, before the first run" in said) is (name[0] == "d"), said
    assert said == ""


def test_a_registry_that_does_not_answer_ends_a_run_with_one_line(
    origin: Path, team: tuple[Store, Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    lost = Store(f"http://127.0.0.1:{free_port()}", origin)
    with pytest.raises(RefitError, match=r"no MLflow server answers at http://127\.0\.0\.1:\d+ \(connection refused\)"):
        shared_data.bring(cloned(origin, lock=True), lost, team[1])


@pytest.mark.slow
def test_only_a_run_whose_folder_may_be_deleted_pushes_what_it_made(
    origin: Path, team: tuple[Store, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of an image; a later run in the same folder, by a person, pushes nothing."""
    context = Context(origin, team[1])
    with shared_data.ingesting(context):
        pass
    shared_data.share(context)
    assert not (tmp_path / "remote").exists()
    monkeypatch.setenv("REFIT_THROWAWAY", str(origin))
    shared_data.share(context)
    assert any((tmp_path / "remote").rglob("*"))


def with_late_rows(clone: Path) -> set[str]:
    """A file of rows of months that are stored already: another model is not made of them. Returns their keys."""
    rows = list(csv.DictReader((clone / "raw/subscriptions.csv").open()))[-5:]
    rows = [row | {"subscription": f"L{row['subscription']}"} for row in rows]
    with (clone / "raw/late.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {row["subscription"] for row in rows}


def stored_keys(clone: Path) -> set[str]:
    import duckdb

    files = str(clone / "data/batches/table/*.parquet")
    return {str(key) for (key,) in duckdb.sql(f"select subscription from '{files}'").fetchall()}


@dataclass
class Machines:
    """Workers whose folders are deleted after each run, and that share a registry and a ledger."""

    origin: Path
    store: Store
    params: Params
    monkeypatch: pytest.MonkeyPatch

    def clone(self) -> Path:
        folder = cloned(self.origin, lock=True)
        self.monkeypatch.setenv("REFIT_THROWAWAY", str(folder))
        shared_data.bring(folder, self.store, self.params)
        return folder

    def ingest(self, clone: Path) -> None:
        """What a deployed training does first; no version comes of it."""
        self.monkeypatch.setenv("REFIT_THROWAWAY", str(clone))
        prepare(clone)
        context = Context(clone, self.params)
        with shared_data.ingesting(context):
            run_remembered("ingest", context)


INGEST = """
import sys
from pathlib import Path
from flows import shared_data
from flows.session import prepare
from refit.runtime import run_file
from refit.runtime.context import Context
from tasks.stages import run_remembered
clone = Path(sys.argv[1])
prepare(clone)
context = Context(clone, run_file.params_of(clone))
print("ready", flush=True)
sys.stdin.readline()
with shared_data.ingesting(context):
    print("inside", flush=True)
    sys.stdin.readline()
    run_remembered("ingest", context)
"""


@pytest.fixture
def machines(origin: Path, team: tuple[Store, Params], monkeypatch: pytest.MonkeyPatch) -> Machines:
    dvc_remote.push(origin)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team[0].uri)
    return Machines(origin, *team, monkeypatch)


@pytest.fixture
def on_postgresql(machines: Machines, postgresql: str) -> Machines:  # noqa: F811
    """The same with the ledger in PostgreSQL."""
    machines.monkeypatch.setenv("REFIT_LEDGER_URI", postgresql)
    return replace(machines, store=store_of(machines.origin, machines.params))


@pytest.fixture(params=["machines", "on_postgresql"])
def either(request: pytest.FixtureRequest) -> Machines:
    """With the ledger in a file, and in PostgreSQL."""
    made: Machines = request.getfixturevalue(request.param)
    return made


@pytest.mark.ci
def test_rows_that_a_deleted_run_has_stored_and_that_no_source_has_any_more_are_there_for_the_next_run(
    machines: Machines,
) -> None:
    first = machines.clone()
    late = with_late_rows(first)
    machines.ingest(first)  # no version: its validation may have failed, or its model be the champion
    shutil.rmtree(first)
    second = machines.clone()
    assert not (second / "raw/late.csv").exists()
    assert late <= stored_keys(second)
    machines.ingest(second)
    assert late <= stored_keys(second)


@pytest.mark.slow
def test_a_run_that_watches_keeps_the_rows_that_it_has_stored(machines: Machines) -> None:
    first = machines.clone()
    late = with_late_rows(first)
    with watching(first, trigger="drift watch"):
        pass
    shutil.rmtree(first)
    assert late <= stored_keys(machines.clone())


@pytest.mark.slow
def test_a_run_goes_on_from_what_another_one_has_recorded_since_its_folder_was_made(
    either: Machines,
) -> None:
    one, two = either.clone(), either.clone()
    late = with_late_rows(one)
    either.ingest(one)
    either.ingest(two)
    assert late <= stored_keys(two)
    assert late <= stored_keys(either.clone())


@pytest.mark.slow
def test_of_two_runs_that_ingest_at_once_the_second_waits_for_the_first_and_goes_on_from_it(
    on_postgresql: Machines,
) -> None:
    """Neither ends because of the other: the second would otherwise have ingested in vain."""
    clones = [on_postgresql.clone(), on_postgresql.clone()]
    for clone in clones:
        late = with_late_rows(clone)
    one, two = (
        subprocess.Popen(
            [sys.executable, "-c", INGEST, str(clone)],
            env={**os.environ, "REFIT_THROWAWAY": str(clone)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for clone in clones
    )
    assert (line_of(one), line_of(two)) == ("ready\n", "ready\n")
    go_on(one)
    assert line_of(one) == "inside\n"
    go_on(two, times=2)
    time.sleep(1)
    go_on(one)
    ends = [process.communicate(timeout=300)[1] for process in (one, two)]
    assert [process.returncode for process in (one, two)] == [0, 0], ends
    assert late <= stored_keys(on_postgresql.clone())


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def go_on(process: subprocess.Popen[str], times: int = 1) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n" * times)
    process.stdin.flush()


@pytest.mark.slow
def test_what_was_made_from_older_data_is_pushed_and_not_recorded(machines: Machines) -> None:
    """A training that goes on for hours, while others ingest."""
    slow, quick = machines.clone(), machines.clone()
    machines.ingest(slow)
    late = with_late_rows(quick)
    machines.ingest(quick)
    machines.monkeypatch.setenv("REFIT_THROWAWAY", str(slow))
    shared_data.share(Context(slow, machines.params))
    assert late <= stored_keys(machines.clone())


@pytest.mark.slow
def test_a_record_whose_data_is_lost_ends_a_run_until_a_person_records_other_data(
    machines: Machines, tmp_path: Path
) -> None:
    """An older version's data does not stand in for it."""
    one = machines.clone()
    with_late_rows(one)
    machines.ingest(one)
    shutil.rmtree(tmp_path / "remote")
    (tmp_path / "remote").mkdir()
    with pytest.raises(RefitError, match=r"the data that the last run recorded cannot be brought: .*--push"):
        machines.clone()
    said = shared_data.publish(Context(machines.origin, machines.params))
    assert "recorded it in" in said
    assert stored_keys(machines.clone()) == stored_keys(machines.origin)


@pytest.mark.slow
def test_a_version_of_another_environment_brings_no_data_of_its_sources(
    origin: Path, team: tuple[Store, Params], capsys: pytest.CaptureFixture[str]
) -> None:
    store, params = team
    dvc_remote.push(origin)
    (version,) = versions.tagged_by_client(store, params.project.name, {})
    versions.set_tags(store, version, {"refit.origin": "version 7 of demo in staging"})
    clone = cloned(origin, lock=False)
    shared_data.bring(clone, *team)
    assert not (clone / "data/snapshot.json").exists(), "production starts from its own sources"
    clone = cloned(origin, lock=True)
    (clone / "params.staging.yaml").write_text(
        yaml.safe_dump({"project": {"name": "other"}, "ingest": {"period": "day"}})
    )
    with environments.working_in("staging"):
        shared_data.bring(clone, *team)
    assert "ingest differs in params.staging.yaml" in capsys.readouterr().err
    assert not (clone / "data/snapshot.json").exists()


@pytest.mark.parametrize("ledger", ["file", "postgresql"])
def test_a_record_that_changed_in_the_meantime_is_not_replaced(
    ledger: str, team: tuple[Store, Params], request: pytest.FixtureRequest
) -> None:
    """The lock of the data is lost with a connection; then this decides."""
    url = None if ledger == "file" else str(request.getfixturevalue(ledger))
    records = Records(replace(team[0], ledger_uri=url), "demo")
    assert records.put_in_place_of("data", "dvc.lock", "one", expected=None)
    assert not records.put_in_place_of("data", "dvc.lock", "two", expected=None)
    assert not records.put_in_place_of("data", "dvc.lock", "two", expected="none")
    assert records.put_in_place_of("data", "dvc.lock", "two", expected="one")
    assert records.read("data") == {"dvc.lock": "two"}
