"""What every test needs: no user's settings, and one Prefect database for all tests of a worker."""

from __future__ import annotations

import atexit
import fcntl
import functools
import gc
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import refit  # turns analytics off before any library is imported
from refit.evaluation import prediction_cost
from registry import client as registry_client

ROOT = Path(refit.__file__).resolve().parent.parent

gc.set_threshold(50_000)  # as `refit` does: Python's default adds a quarter to the time of our imports
os.fsync = lambda _: None  # no test pulls the plug: waiting for the disk at each of thousands of files takes long
os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)  # or a child's collection copies all of its memory

prediction_cost.THOROUGH = prediction_cost.GLANCE  # a run times 220 predictions of its candidate, here 23 do

# Set before Prefect is imported anywhere: nobody's profile, server or database is touched by a test.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="refit-prefect-")
atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)
os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(name, None)


# The files that take longest, longest first: a worker that began one of them last would work on alone.
LONGEST = (
    "end_to_end/test_flights.py",
    "end_to_end/test_main_job.py",
    "flows/test_flow.py",
    "end_to_end/test_up.py",
    "refit/new_project/test_new_project_odd_tables.py",
    "end_to_end/test_tasks.py",
    "refit/operations/test_replay.py",
    "tasks/train/test_train_same.py",
    "refit/new_project/test_new_project.py",
    "end_to_end/test_forecasts.py",
    "examples/test_stand_in.py",
    "tasks/train/test_tuning.py",
    "tasks/register/test_approval.py",
    "tasks/register/test_retention.py",
    "tasks/register/test_register.py",
    "refit/learners/test_contract.py",
    "refit/learners/test_keras.py",
    "tasks/register/test_register_at_once.py",
    "fuzzing/test_mutations.py",
    "end_to_end/test_ended.py",
    "end_to_end/test_reproduce.py",
    "end_to_end/test_few_labels.py",
    "tasks/evaluate/test_evaluate.py",
    "refit/gate/test_promotion.py",
    "refit/cli/test_secrets.py",
    "tasks/register/test_incumbent.py",
    "feature_store/test_point_in_time.py",
    "feature_store/test_sequences.py",
    "examples/test_maintenance_network.py",
    "end_to_end/test_tuned.py",
    "end_to_end/test_killed.py",
    "tasks/drift/test_watch.py",
    "architecture/test_contracts.py",
    "refit/learners/networks/test_architectures.py",
    "refit/files/test_permissions.py",
    "refit/problems/test_unlabelled.py",
    "refit/problems/test_reinforcement.py",
)

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")  # drawn examples are the same on every run, however slow the machine is


def _make_tables_once() -> None:
    """Copies MLflow's empty tables for all databases but a worker's first: 70 migrations take a second to make them."""
    prepare, empty = registry_client._prepare, sqlite3.connect(":memory:", check_same_thread=False)

    def prepare_once() -> None:
        prepare()
        registry_client._prepare = prepare
        from mlflow.store.db import utils

        make = utils._initialize_tables

        def initialize(engine: Any) -> None:
            connection = engine.raw_connection()
            try:
                if not empty.execute("select count(*) from sqlite_master").fetchone()[0]:
                    make(engine)
                    connection.driver_connection.backup(empty)
                else:
                    empty.backup(connection.driver_connection)
            finally:
                connection.close()

        utils._initialize_tables = initialize
        utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)

    registry_client._prepare = prepare_once


_make_tables_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    if missing := [str(path) for path in places if not path.is_file()]:
        raise pytest.UsageError(f"LONGEST of tests/conftest.py names files that do not exist: {', '.join(missing)}")
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives one worker all files that need a Prefect server: each worker that needs one starts its own."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler.loadfile import LoadFileScheduling

    tests = ROOT / "tests"
    served = {str(file.relative_to(ROOT)) for file in tests.rglob("test_*.py") if "prefect_server" in file.read_text()}

    class OneServer(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "a Prefect server" if file in served else file

    return OneServer(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names bytes and whole texts by their argument: what is made at import may differ from worker to worker."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and "\n" in val) else None


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server with a database of its own, for flows called in this process."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them, to be copied: making the tables takes seconds."""
    from registry.client import client
    from registry.store import Store

    folder = tmp_path_factory.mktemp("registry")
    client(Store(f"sqlite:///{folder / 'mlflow.db'}", folder))
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated project after its first run; not to be changed. Made by the worker that needs it first."""
    from driving import copy_project

    project = tmp_path_factory.mktemp("finished") / "demo"
    everyones = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        everyones = everyones.parent
    with (everyones / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (everyones / "finished").is_dir():
            return copy_project(everyones / "finished", project)
        _finish(project)
        shutil.copytree(project, everyones / "finished.partial", symlinks=True)
        (everyones / "finished.partial").rename(everyones / "finished")
    return project


def _finish(project: Path) -> None:
    from driving import drive

    from refit.new_project.project_folder import create

    create(project, csv=None, time=None, label=None, key=())
    params = (project / "params.yaml").read_text()
    params = params.replace("max_iter: 300", "max_iter: 60").replace(
        "evaluate:\n", "evaluate:\n  permutation_rows: 300\n"
    )
    (project / "params.yaml").write_text(params)  # the same project, with less to compute
    drive(project)


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, at home at a path of its own."""
    from driving import copy_project

    return copy_project(finished, tmp_path / "demo")
