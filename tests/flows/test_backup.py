"""The servers in containers: what their users may do, and that champion and ledger come back after the disk is lost.

The scripts call `docker compose`; here a stand-in runs their commands on this machine, with a real PostgreSQL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from quick import quick
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
echo "$verb $*" >> "${VOLUMES}docker.log"
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


WRITER = """#!/usr/bin/env bash
# pg_dump next to a worker that writes to the ledger's database
psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -U refit -d refit -c "set lock_timeout = 2000; begin;
select pg_advisory_xact_lock({key});
insert into refit.records values ('toy', 'answer', 'written during the dump $$', ''); commit" || exit
exec {folder}/pg_dump "$@"
"""
CUT_OFF_ONCE = """#!/usr/bin/env bash
# pg_restore of a machine that is switched off before the ledger is back, once
[[ " $* " != *" -d refit "* ]] || {{ rm "$0"; exit 1; }}
exec {folder}/pg_restore "$@"
"""
CHANGING = """#!/usr/bin/env bash
# tar that ends with a status of its own after it read the volumes
{tar} "$@" || exit
[[ " $* " != *" artifacts "* ]] || exit {status}
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

    def stand_in(self, program: str, script: str) -> None:
        """Let commands run a script in place of a program."""
        (self.folder / "bin" / program).write_text(script)
        (self.folder / "bin" / program).chmod(0o755)

    @property
    def verbs(self) -> list[str]:
        """What `docker compose` was called with, first to last."""
        return [line.split()[0] for line in (self.folder / "docker.log").read_text().splitlines()]

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
    with postgresql_cluster() as url:
        execute(f"{url}/postgres", "create database refit")
        made = Machine(url, folder)
        made.stand_in("docker", DOCKER)
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


@pytest.mark.parametrize("database", quick(["mlflow", "prefect", "refit"]))
def test_a_database_that_cannot_be_dumped_whole_is_not_backed_up(database: str, root: Path, tmp_path: Path) -> None:
    with machine(root, tmp_path / "machine") as made:
        made.stand_in("pg_dump", CUT_OFF.format(folder=postgresql_programs(), database=database))
        done = made.run(root / "infra/compose/backup.sh", tmp_path / "backup")
    assert done.returncode != 0
    assert f"error: database {database} could not be dumped: nothing was backed up" in done.stderr
    assert "backed up to" not in done.stdout
    assert [*tmp_path.glob("backup*")] == []


@pytest.mark.slow
def test_writers_go_on_while_the_databases_are_dumped_as_they_were_at_one_moment(root: Path, tmp_path: Path) -> None:
    with machine(root, tmp_path / "machine") as made:
        provision(made)
        Ledger(f"{made.url}/refit").append(LINE)
        made.stand_in("pg_dump", WRITER.format(key=postgresql.key("/writing"), folder=postgresql_programs()))
        done = made.run(root / "infra/compose/backup.sh", tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        assert execute(f"{made.url}/refit", "select count(*) from refit.records") == [(3,)], "one write a dump"
        with tarfile.open(tmp_path / "backup/databases.tar") as tar:
            tar.extract("refit.dump", tmp_path, filter="data")
        content = made.run("pg_restore", "-a", "-f", "-", tmp_path / "refit.dump").stdout
    assert LINE.key in content
    assert "written during the dump" not in content


@pytest.mark.slow
@pytest.mark.parametrize("status", quick([1, 2]))
def test_a_file_that_changes_while_the_volumes_are_copied_does_not_end_a_backup(
    status: int, root: Path, tmp_path: Path
) -> None:
    """Tar says so by status 1; by 2, that it could not go on."""
    with machine(root, tmp_path / "machine") as made:
        made.stand_in("tar", CHANGING.format(tar=shutil.which("tar"), status=status))
        done = made.run(root / "infra/compose/backup.sh", tmp_path / "backup")
    if status == 1:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "backup/SHA256SUMS").is_file()
    else:
        assert "error: the volumes could not be copied: nothing was backed up" in done.stderr
        assert done.returncode != 0
        assert [*tmp_path.glob("backup*")] == []


@pytest.mark.slow
def test_a_refused_restore_stops_no_server_and_one_that_was_cut_off_goes_on(root: Path, tmp_path: Path) -> None:
    backup, restore = (root / f"infra/compose/{name}.sh" for name in ("backup", "restore"))
    with machine(root, tmp_path / "machine") as made:
        provision(made)
        ledger = Ledger(f"{made.url}/refit")
        ledger.append(LINE)
        (made.folder / "artifacts/model.bin").write_text("a model")
        done = made.run(backup, tmp_path / "backup")
        assert done.returncode == 0, done.stderr

        refused = made.run(restore, tmp_path / "backup")
        assert "the ledger here has lines; nothing was restored" in refused.stderr
        assert refused.returncode != 0
        assert not [verb for verb in made.verbs if verb in ("stop", "run")][1:], "the first is the backup's"

        (made.folder / "artifacts/model.bin").unlink()
        execute(f"{made.url}/postgres", "drop database refit with (force)")
        made.stand_in("pg_restore", CUT_OFF_ONCE.format(folder=postgresql_programs()))
        assert made.run(restore, tmp_path / "backup").returncode != 0
        done = made.run(restore, tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        assert ledger.entries("toy") == [LINE]
        assert (made.folder / "artifacts/model.bin").read_text() == "a model"


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
