"""Servers that tests start for themselves: a PostgreSQL cluster, an MLflow server, a Prefect server, AWS's stand-in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MLFLOW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's programs; Debian's packages do not put them on the path."""
    candidates = [Path(path).resolve().parent for name in ("initdb",) if (path := shutil.which(name))]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in candidates if (folder / "initdb").is_file()), None)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL cluster of this worker's own on loopback: its URL without a database."""
    with postgresql_cluster() as url:
        yield url


@contextmanager
def postgresql_cluster() -> Iterator[str]:
    """A new PostgreSQL cluster, for what concerns all of its databases: its URL without one."""
    binaries = postgresql_programs()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed")
    folder = Path(tempfile.mkdtemp(prefix="refit-postgresql-"))
    user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}  # it refuses to run as root
    if user:
        shutil.chown(folder, **user)
    quiet = {"stdout": subprocess.DEVNULL, "check": True, "cwd": "/", **user}
    data, port = folder / "data", free_port()
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "refit", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"],
            **quiet,
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
        start = [binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"]
        subprocess.run(start, **quiet)
        try:
            yield f"postgresql://refit@127.0.0.1:{port}"
        finally:
            subprocess.run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql(postgresql_server: str, request: pytest.FixtureRequest) -> str:
    """The URL of a new database."""
    database = Database(postgresql_server, f"t{abs(hash(request.node.nodeid)):x}")
    database.create()
    return database.url


@dataclass(frozen=True)
class Database:
    """A database that can be put back to an earlier state."""

    server: str
    name: str

    @property
    def url(self) -> str:
        return f"{self.server}/{self.name}"

    def create(self, template: str = "template1") -> None:
        execute(f"{self.server}/postgres", f"drop database if exists {self.name} with (force)")
        execute(f"{self.server}/postgres", f"create database {self.name} template {template}")

    def keep(self) -> None:
        """Keep its state for `put_back`."""
        self.end_connections()
        Database(self.server, f"{self.name}_kept").create(template=self.name)

    def put_back(self) -> None:
        self.create(template=f"{self.name}_kept")

    def end_connections(self) -> None:
        """End every connection to it, as a lost network would."""
        execute(
            f"{self.server}/postgres",
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{self.name}'",
        )


def execute(url: str, sql: str) -> list[tuple[object, ...]]:
    """Run one statement outside of a transaction; its rows, if it has any."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[str]:
    """A MariaDB server of this worker's own on loopback, which is in New York: its URL without a database."""
    programs = [
        shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("mariadb-install-db", "mariadbd")
    ]
    if not all(programs):
        pytest.skip("MariaDB's server is not installed")
    pymysql = pytest.importorskip("pymysql")
    install, serve = map(str, programs)
    folder = Path(tempfile.mkdtemp(prefix="refit-mysql-"))
    user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}  # it refuses to run as root
    if user:
        shutil.chown(folder, **user)
    port, quiet = free_port(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **user}
    at = ["--no-defaults", f"--datadir={folder / 'data'}"]
    subprocess.run([install, *at, "--auth-root-authentication-method=normal", "--skip-test-db"], check=True, **quiet)
    where = [f"--socket={folder / 's'}", f"--pid-file={folder / 'pid'}", "--bind-address=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen([serve, *at, *where, "--default-time-zone=-05:00"], **quiet)
    try:
        for _ in range(300):
            with suppress(pymysql.err.OperationalError):
                pymysql.connect(host="127.0.0.1", port=port, user="root").close()
                break
            time.sleep(0.1)
        yield f"mysql+pymysql://root@127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mysql(mysql_server: str) -> Callable[[str], list[Any]]:
    """Runs one statement in a new database `shop`, outside of a transaction; its rows, if it has any."""
    import sqlalchemy

    options = {"isolation_level": "AUTOCOMMIT", "poolclass": sqlalchemy.pool.NullPool}

    def run(sql: str, database: str = "shop") -> list[Any]:
        with sqlalchemy.create_engine(f"{mysql_server}/{database}", **options).connect() as connection:
            result = connection.exec_driver_sql(sql.replace("%", "%%"))
            return [tuple(row) for row in result] if result.returns_rows else []

    run("drop database if exists shop", "mysql")
    run("create database shop character set utf8mb4", "mysql")
    return run


@contextmanager
def mlflow_server(database: str, artifacts: str, *, serves: bool = True, **environ: str) -> Iterator[str]:
    """An MLflow server over a database and an artifact store, which its clients see or not (`serves`): its URL."""
    port = free_port()
    where = ["--artifacts-destination"] if serves else ["--no-serve-artifacts", "--default-artifact-root"]
    store = ["--backend-store-uri", database, *where, artifacts]
    url, command = f"http://127.0.0.1:{port}", [sys.executable, "-m", "mlflow", "server", *store]
    with _running([*command, "--port", str(port), "--workers", "1"], f"{url}/health", {**MLFLOW, **environ}):
        yield url


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A Prefect server without pages: the URL of its API."""
    port = free_port()
    url, command = f"http://127.0.0.1:{port}/api", [Path(sys.executable).parent / "prefect", "server", "start"]
    with _running([*command, "--port", str(port), "--no-ui"], f"{url}/health", {"PREFECT_HOME": str(home)}):
        yield url


BUCKET = "refit"


@contextmanager
def aws_server() -> Iterator[dict[str, str]]:
    """A stand-in for AWS with an empty bucket: the variables with which boto3, DVC and MLflow find it."""
    port = free_port()
    url, command = f"http://127.0.0.1:{port}", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"]
    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "testing-only", "AWS_DEFAULT_REGION": "us-east-1"}
    with _running([*command, "-p", str(port)], f"{url}/moto-api/data.json", {}):
        environ = {"AWS_ENDPOINT_URL": url, **keys}
        aws_client("s3", environ).create_bucket(Bucket=BUCKET)
        yield environ


def aws_client(service: str, environ: Mapping[str, str]) -> Any:
    """A client of a service of the stand-in."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        region_name=environ["AWS_DEFAULT_REGION"],
    )


@contextmanager
def _running(command: Sequence[str | Path], health: str, environ: Mapping[str, str]) -> Iterator[None]:
    """A server's process, from its first answer at the URL `health` to the end of the block."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env={**os.environ, **environ}, **quiet)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(health)
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise TimeoutError(f"nothing answers at {health}")
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End a server or a worker of Prefect, also one that hangs when it is asked to, which happens now and then."""
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
