"""A path keeps its meaning in every URL that is made of it, whatever it is called."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry.store import RegistryError, Store, locate
from registry.urls import folder_url, local_path, read_only_url, sqlite_path, sqlite_url

NAMES = [
    "plain", "a b", "what?", "?x=y", "50%", "a%20b", "%2Fetc", "a#b", "Übung 1", "it's", 'so"called', "a:b", "file:x",
    "a;b", "a&b=c", "a+b", "{SCHEMA_VERSION}", "[1]", "@home", "日本", "a\\b", "~", "-- ", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_what_is_stored_at_the_url_of_a_path_lies_at_that_path(tmp_path: Path, name: str) -> None:
    from sqlalchemy import create_engine

    file = tmp_path / name / "m.db"
    file.parent.mkdir()
    engine = create_engine(sqlite_url(file))
    with engine.begin() as connection:
        connection.exec_driver_sql("create table t (x)")
    engine.dispose()
    assert sqlite_path(sqlite_url(file)) == file
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    with closing(sqlite3.connect(read_only_url(file), uri=True)) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("t",)]
    assert local_path(folder_url(file.parent)) == file.parent
    assert locate(file.parent, None, {}).database == file.parent / ".refit/mlflow.db"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_prefect_and_optuna_understand_the_url_as_sqlalchemy_does(tmp_path: Path, name: str) -> None:
    from sqlalchemy.engine import make_url

    url = sqlite_url(tmp_path / name / "prefect.db", "aiosqlite")
    assert make_url(url).database == str(tmp_path / name / "prefect.db")
    assert url.format(SCHEMA_VERSION=12) == url  # Optuna fills in what is in braces


def test_mlflow_keeps_everything_of_a_project_within_it_whatever_its_folder_is_called(
    tmp_path: Path, empty_registry: Path
) -> None:
    from registry import tracking, versions
    from registry.client import client

    home = tmp_path / """50% of? a%20b #1 "Übung": it's;""" / ".refit"
    home.mkdir(parents=True)
    (home / "mlflow.db").write_bytes(empty_registry.read_bytes())
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("1")
    store: Store = locate(home.parent, None, {})
    run = tracking.ensure_run(store, tracking.ensure_experiment(store, "toy?"), "first", {"refit.candidate": "1"})
    made = versions.create(store, "toy", run_id=run, folder=tmp_path / "model", tags={"a": "b"})
    versions.set_alias(store, "toy", "champion", made.version)
    assert versions.registered(store, "toy").aliases == {"champion": "1"}
    assert versions.registered_by_client(store, "toy").aliases == {"champion": "1"}
    assert (versions.download(store, made, tmp_path / "copy") / "weights").read_text() == "1"
    assert client(store).get_model_version("toy", "1").source.startswith(folder_url(home))
    assert {path.name for path in tmp_path.iterdir()} == {home.parent.name, "model", "copy"}


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///m.db?mode=ro"])
def test_a_url_that_names_no_file_or_more_than_one_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(RegistryError, match=r"sqlite:///PATH was expected.* \(registry\.tracking_uri\)"):
        locate(tmp_path, uri, {})


def test_mlflow_makes_its_tables_whatever_the_working_directory_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.client import client

    folder = tmp_path / """it's "so" called :x %s"""
    folder.mkdir()
    monkeypatch.chdir(folder)
    found = client(locate(folder, None, {})).search_experiments()
    assert [each.artifact_location for each in found] == [folder_url(folder / ".refit/mlartifacts/0")]
    assert "_MLFLOW_SERVER_ARTIFACT_ROOT" not in os.environ
    assert [path.name for path in folder.iterdir()] == [".refit"]
