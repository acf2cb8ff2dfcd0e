"""A store that was copied or moved works with the artifacts next to it, and leaves those of the original alone."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import relocation, tracking, versions
from registry.client import client
from registry.store import Store
from registry.tracking import Content


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def store_in(project: Path) -> Store:
    return Store(f"sqlite:///{project / '.refit/mlflow.db'}", project / ".refit")


@pytest.fixture
def original(tmp_path: Path, empty_registry: Path) -> Store:
    """A store, in a folder whose name needs quoting, with one version of a model and the run that it came from."""
    home = tmp_path / "at home, 50 %/.refit"
    home.mkdir(parents=True)
    shutil.copyfile(empty_registry, home / "mlflow.db")
    store = store_in(home.parent)
    with sqlite3.connect(home / "mlflow.db") as connection:  # as MLflow writes it where it makes the tables in place
        connection.execute("update experiments set artifact_location = ?", [f"{home.as_uri()}/mlartifacts/0"])
    run = tracking.ensure_run(store, tracking.ensure_experiment(store, "toy"), "a run", {"refit.candidate": "c"})
    tracking.log(store, run, "training", Content(model={"learner": "logistic"}))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/file").write_text("weights")
    versions.create(store, "toy", run_id=run, folder=tmp_path / "model", tags={})
    return store


def places(store: Store) -> list[str]:
    """Every text in the database that names a place of artifacts."""
    found = []
    with sqlite3.connect(str(store.database)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f'select * from "{table}"'):
                found += [value for value in row if isinstance(value, str) and "mlartifacts" in value]
    return found


@pytest.mark.parametrize("take", [shutil.copytree, shutil.move])
def test_every_recorded_place_moves_with_the_store(
    original: Store, tmp_path: Path, take: Callable[[Path, Path], object]
) -> None:
    before = contents(original.home)
    take(original.home.parent, tmp_path / "über 100 %")
    here = store_in(tmp_path / "über 100 %")
    assert len(places(here)) == 6, "MLflow's default experiment's, ours, the run's, its model's, two of the version"
    told = relocation.settle(here)
    assert told is not None
    assert "1 run led to " + str(original.home / "mlartifacts") in told
    assert sum(place.startswith(here.home.as_uri() + "/mlartifacts/toy") for place in places(here)) == 5
    assert sum(place == here.home.as_uri() + "/mlartifacts/0" for place in places(here)) == 1
    assert relocation.settle(here) is None, "once is enough"

    made = versions.version(here, "toy", "1")
    assert made is not None
    assert (versions.download(here, made, tmp_path / "got") / "file").read_text() == "weights"
    run = tracking.ensure_run(here, tracking.ensure_experiment(here, "toy"), "new", {"refit.candidate": "d"})
    client(here).log_text(run, "hers", "new.txt")
    assert len(list(here.home.rglob("new.txt"))) == 1
    if original.home.exists():
        assert contents(original.home) == before


def test_a_store_that_stayed_where_it_was_is_only_looked_at(original: Store) -> None:
    before = contents(original.home)
    assert relocation.settle(original) is None
    assert contents(original.home) == before


def test_a_place_that_a_person_chose_on_another_disk_stays(original: Store, tmp_path: Path) -> None:
    chosen = (tmp_path / "disk/mlartifacts/large").as_uri()
    client(original).create_experiment("large", artifact_location=chosen)
    client(original).create_experiment("other", artifact_location=(tmp_path / "disk/.refit/mlartifacts/x").as_uri())
    before = places(original)
    assert relocation.settle(original) is None
    assert places(original) == before


def test_nothing_is_made_where_there_is_no_store_or_no_table_in_it(tmp_path: Path) -> None:
    assert relocation.settle(store_in(tmp_path)) is None
    assert relocation.settle(Store("http://mlflow:5000", tmp_path)) is None
    (tmp_path / ".refit").mkdir()
    (tmp_path / ".refit/mlflow.db").touch()
    assert relocation.settle(store_in(tmp_path)) is None


def test_looking_imports_no_mlflow(original: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from registry.store import Store; from registry import relocation; "
        f"relocation.settle(Store({original.uri!r}, Path({str(original.home)!r}))); "
        "print('mlflow' in sys.modules, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
