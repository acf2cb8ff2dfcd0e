"""A worker on another machine: it has no folder of the project and another HOME, and keeps nothing of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from servers import Database, end, mlflow_server, postgresql_server, prefect_server  # noqa: F401

from registry import versions
from registry.ledger import Ledger
from registry.store import Store

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Elsewhere:
    """A Prefect server, a registry, a repository without a working tree, and a worker that knows only the servers."""

    clone: Path
    worker: Path
    environ: dict[str, str]

    @property
    def store(self) -> Store:
        return Store(self.environ["MLFLOW_TRACKING_URI"], self.worker, self.environ["REFIT_LEDGER_URI"], "demo")

    def refit(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "refit", *arguments, "--project", str(self.clone)],
            env={**os.environ, **self.environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def client(self) -> Iterator[Any]:
        from prefect import get_client, settings

        updates = {settings.PREFECT_API_URL: self.environ["PREFECT_API_URL"]}
        with settings.temporary_settings(updates), get_client(sync_client=True) as client:
            yield client

    def start(self, deployment: str, **parameters: Any) -> UUID:
        """Start a deployment, as its schedule would."""
        from prefect.states import Scheduled

        with self.client() as client:
            known = client.read_deployment_by_name(deployment)
            run = client.create_flow_run_from_deployment(known.id, parameters=parameters, state=Scheduled())
            return UUID(str(run.id))

    def wait(self, flow_run: UUID, name: str | None = None) -> tuple[str, str]:
        """The name and message of the state in which a run ended, or of the one with this name."""
        with self.client() as client:
            for _ in range(1200):
                state = client.read_flow_run(flow_run).state
                if state is not None and (state.is_final() if name is None else state.name == name):
                    return state.name or "", state.message or ""
                time.sleep(0.5)
        raise TimeoutError(f"the run has not ended: {self.log[-3000:]}")

    def run(self, deployment: str, **parameters: Any) -> tuple[str, str]:
        return self.wait(self.start(deployment, **parameters))

    @property
    def log(self) -> str:
        return (self.worker / "log").read_text()

    def git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(self.clone), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def elsewhere(postgresql_server: str, finished: Path, tmp_path: Path) -> Iterator[Elsewhere]:  # noqa: F811
    for name in ("mlflow", "refit"):
        Database(postgresql_server, name).create()
    clone, bare, worker = tmp_path / "clone", tmp_path / "demo.git", tmp_path / "worker"
    made = ("data", "models", "reports", ".refit", "dvc.lock", "run.yaml", "__pycache__")
    shutil.copytree(finished, clone, symlinks=True, ignore=shutil.ignore_patterns(*made))
    for folder in (worker, worker / "home"):
        folder.mkdir()
    database = f"{postgresql_server.replace('postgresql', 'postgresql+psycopg')}/mlflow"
    with (
        mlflow_server(database, str(tmp_path / "artifacts")) as mlflow,
        prefect_server(tmp_path / "prefect") as prefect,
    ):
        environ = {
            "MLFLOW_TRACKING_URI": mlflow,
            "REFIT_LEDGER_URI": f"{postgresql_server}/refit",
            "PREFECT_API_URL": prefect,
        }
        there = Elsewhere(clone, worker, environ)
        (clone / ".dvc/config").write_text(
            f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {tmp_path / 'dvc'}\n"
        )
        there.git("init", "-q", "-b", "main")
        subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
        there.git("remote", "add", "origin", str(bare))
        there.git("add", "-A")
        there.git("commit", "-q", "-m", "A project")
        yield there


@contextmanager
def pool_worker(there: Elsewhere) -> Iterator[None]:
    """A worker that somebody has started on another machine, who knows of the project only what the servers say."""
    environ = {name: value for name, value in os.environ.items() if name != "PREFECT_LOGGING_LEVEL"}
    environ |= {
        "HOME": str(there.worker / "home"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    with (there.worker / "log").open("a") as log:
        process = subprocess.Popen(
            [BIN / "prefect", "worker", "start", "--pool", "elsewhere", "--type", "process"],
            cwd=there.worker,
            env={**environ, **there.environ},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            end(process)


def test_a_deployment_runs_where_the_project_never_was_and_leaves_nothing_there(elsewhere: Elsewhere) -> None:
    said = " ".join(elsewhere.refit("deploy", "--pool", "elsewhere", status=2).split())
    assert "as far as this clone knows; `git push` it first" in said
    elsewhere.git("push", "-q", "origin", "main")
    said = elsewhere.refit("deploy", "--pool", "elsewhere")
    assert "deployed continuous-training/demo.scheduled" in said
    assert "demo.git, branch main, commit " in said
    said = " ".join(elsewhere.refit("deploy", "--pool", "other", status=2).split())
    assert "is deployed already: pool elsewhere, commit" in said

    with pool_worker(elsewhere):
        assert elsewhere.run("continuous-training/demo.scheduled")[0] == "Completed", elsewhere.log
        moves = [
            (each.action, each.from_version, each.to_version) for each in Ledger.of(elsewhere.store).entries("demo")
        ]
        assert moves == [("promote", None, "1")]
        assert {each.name for each in elsewhere.worker.iterdir()} == {"home", "log"}

        assert elsewhere.run("continuous-training/demo.scheduled")[0] == "Completed", elsewhere.log
        assert elsewhere.log.count("train: executed") == 1, "the second clone takes what the first pushed"
        assert versions.version(elsewhere.store, "demo", "2") is None
