"""The servers in containers: what their users may do, and that champion and ledger come back after the disk is lost.

The scripts call `docker compose`; here a stand-in runs their commands on this machine, with a real PostgreSQL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from servers import execute, mlflow_server, postgresql_cluster, postgresql_programs

from registry import champion, postgresql, versions
from registry.client import client
from registry.ledger import Entry, Ledger
from registry.store import Store

LINE = Entry("toy:1", "2014-01-01T00:00:00Z", "ann", "manual", "promote", "toy", None, "1", ("better",), "1")
PASSWORDS = {f"{user}_DB_PASSWORD": "secret" for user in ("MLFLOW", "PREFECT", "WORKER")}
DOCKER = """#!/usr/bin/env bash
# docker compose -f FILE VERB [OPTIONS] SERVICE COMMAND...
verb=$4
shift 4
while [[ "${1:-}" == -* ]]; do shift; done
service=${1:-}
case $verb in
  exec) shift; exec "$@" ;;
  run) shift; exec "${@/#\\//$VOLUMES}" ;;
esac
"""
CUT_OFF = """#!/usr/bin/env bash
# pg_dump whose disk is full after the table of contents of one database
{folder}/pg_dump "$@" || exit
[ "${{!#}}" != {database} ] || exit 1
"""


@dataclass(frozen=True)
class Machine:
    """The databases and volumes of one machine, made as its first start makes them."""

    url: str
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        host, port = self.url.rpartition("@")[2].split(":")
        path = os.pathsep.join([str(self.folder / "bin"), str(postgresql_programs()), os.environ["PATH"]])
        first = {"POSTGRES_USER": "refit", "POSTGRES_DB": "refit", **PASSWORDS}
        return {**os.environ, **first, "PATH": path, "PGHOST": host, "PGPORT": port, "VOLUMES": f"{self.folder}/"}

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The registry as a worker sees it: MLflow's server over its database, and the ledger's."""
        database = f"{self.url.replace('postgresql://refit@', 'postgresql+psycopg://mlflow@')}/mlflow"
        with mlflow_server(database, str(self.folder / "artifacts")) as url:
            yield Store(url, self.folder, f"{self.url.replace('refit@', 'worker@')}/refit", "toy")


@contextmanager
def machine(root: Path, folder: Path) -> Iterator[Machine]:
    """A new machine after its first start."""
    for name in ("bin", "artifacts", "dvc"):
        (folder / name).mkdir(parents=True)
    (folder / "bin/docker").write_text(DOCKER)
    (folder / "bin/docker").chmod(0o755)
    with postgresql_cluster() as url:
        execute(f"{url}/postgres", "create database refit")
        made = Machine(url, folder)
        started = made.run("sh", root / "infra/compose/databases.sh")
        assert started.returncode == 0, started.stderr
        yield made


def provision(made: Machine) -> None:
    """What the service `ledger` does."""
    owner = {**made.environ, "REFIT_LEDGER_URI": f"{made.url}/refit"}
    subprocess.run([sys.executable, "-m", "registry.provision", "worker"], env=owner, check=True, capture_output=True)


@pytest.mark.slow
def test_champion_and_ledger_come_back_after_the_disk_is_lost(root: Path, tmp_path: Path) -> None:
    backup, restore = (root / f"infra/compose/{name}.sh" for name in ("backup", "restore"))
    with machine(root, tmp_path / "first") as first:
        provision(first)
        provision(first)
        with first.store() as store:
            client(store).create_registered_model("toy")
            client(store).create_model_version("toy", source="s3://models/1")
            champion.set_champion(store, LINE)
        (first.folder / "artifacts/model.bin").write_text("a model")
        done = first.run(backup, tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        assert first.run(backup, tmp_path / "backup").returncode, "a backup is never overwritten"
        refused = first.run(restore, tmp_path / "backup")
        assert "the ledger here has lines; nothing was restored" in refused.stderr
        assert refused.returncode != 0
    shutil.rmtree(first.folder)
    with machine(root, tmp_path / "second") as second:
        done = second.run(restore, tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        assert (second.folder / "artifacts/model.bin").read_text() == "a model"
        later = Entry("toy:2", LINE.at, "bob", "manual", "refuse", "toy", "1", "2", ("worse",))
        with second.store() as store:
            assert versions.registered(store, "toy").aliases["champion"] == "1"
            assert Ledger.of(store).entries("toy") == [LINE]
            assert champion.examine_ledger(store, "toy").problem is None
            champion.record(store, later)
            assert Ledger.of(store).entries("toy") == [LINE, later]


def test_a_damaged_backup_is_not_restored(root: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    for name in ("databases.tar", "volumes.tar"):
        (tmp_path / "backup" / name).write_text("damaged")
    (tmp_path / "backup/SHA256SUMS").write_text(f"{'0' * 64}  databases.tar\n{'0' * 64}  volumes.tar\n")
    done = subprocess.run(
        [root / "infra/compose/restore.sh", tmp_path / "backup"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "databases.tar" in done.stdout + done.stderr


@pytest.mark.parametrize("database", ["mlflow", "prefect", "refit"])
def test_a_database_that_cannot_be_dumped_whole_is_not_backed_up(database: str, root: Path, tmp_path: Path) -> None:
    with machine(root, tmp_path / "machine") as made:
        (made.folder / "bin/pg_dump").write_text(CUT_OFF.format(folder=postgresql_programs(), database=database))
        (made.folder / "bin/pg_dump").chmod(0o755)
        done = made.run(root / "infra/compose/backup.sh", tmp_path / "backup")
    assert done.returncode != 0
    assert f"error: database {database} could not be dumped: nothing was backed up" in done.stderr
    assert "backed up to" not in done.stdout
    assert not (tmp_path / "backup/SHA256SUMS").exists(), "restore.sh needs it"


def test_the_dump_holds_the_lock_of_every_writer_of_a_ledger(root: Path) -> None:
    assert f"pg_advisory_lock({postgresql.key('/writing')})" in (root / "infra/compose/backup.sh").read_text()


@pytest.mark.parametrize(
    "statement",
    [
        "update refit.ledger set who = 'eve'",
        "delete from refit.ledger",
        "truncate refit.ledger",
        "drop trigger ledger_append_only on refit.ledger",
        "alter table refit.ledger disable trigger all",
        "drop schema refit cascade",
        "create role eve superuser",
    ],
)
def test_the_worker_adds_lines_to_the_ledger_and_changes_none(statement: str, worker: str) -> None:
    with pytest.raises(psycopg.Error, match=r"permission denied|must be owner|must be superuser"):
        execute(worker, statement)


def test_the_worker_has_no_part_in_the_databases_of_the_servers(worker: str) -> None:
    for database in ("mlflow", "prefect"):
        with pytest.raises(psycopg.Error, match="permission denied for database"):
            execute(worker.replace("/refit", f"/{database}"), "select 1")


@pytest.fixture(scope="module")
def worker(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL with which the worker opens the ledger's database."""
    with machine(root, tmp_path_factory.mktemp("machines") / "own") as made:
        provision(made)
        yield f"{made.url.replace('refit@', 'worker@')}/refit"
