"""Versions and aliases: what is read straight from the database is what MLflow's own client says."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry import deletion, logged_models, mlflow_tables, tracking, versions
from registry.client import client
from registry.store import RegistryError, Store
from registry.tracking import Content
from registry.urls import local_path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Store:
    folder = tmp_path_factory.mktemp("versions")
    (folder / "mlflow.db").write_bytes(empty_registry.read_bytes())
    return Store(f"sqlite:///{folder / 'mlflow.db'}", folder)


@pytest.fixture
def run_id(store: Store) -> str:
    return tracking.ensure_run(store, tracking.ensure_experiment(store, "toy"), "a run", {"refit.candidate": "c"})


def both(store: Store, model: str) -> list[Any]:
    """Each answer twice: read directly, and by the client."""
    numbers = [str(number) for number in range(1, 6)]
    return [
        [versions.registered(store, model), *(versions.version(store, model, number) for number in numbers)],
        [
            versions.registered_by_client(store, model),
            *(versions.version_by_client(store, model, number) for number in numbers),
        ],
        versions.tagged(store, model, "refit.candidate", "one"),
        versions.tagged_by_client(store, model, {"refit.candidate": "one"}),
    ]


def test_reading_directly_gives_the_clients_answer_after_every_kind_of_change(
    store: Store, run_id: str, tmp_path: Path
) -> None:
    def agree() -> None:
        direct, official, tagged, officially_tagged = both(store, "agree")
        assert direct == official
        assert tagged == officially_tagged

    (tmp_path / "file").write_text("weights")
    agree()
    for tag in ("one", "two", "one"):
        made = versions.create(store, "agree", run_id=run_id, folder=tmp_path, tags={"refit.candidate": tag, "n": "ü'"})
        versions.set_alias(store, "agree", "challenger", made.version)
        agree()
    versions.set_alias(store, "agree", "champion", "1")
    versions.set_model_tag(store, "agree", "refit.anchor", "1")
    agree()
    first = versions.version(store, "agree", "1")
    assert first is not None
    versions.set_tags(store, first, {"refit.candidate": "other", "new": "tag"})
    agree()
    client(store).delete_model_version("agree", "1")  # drops the alias, silently
    agree()
    assert versions.registered(store, "agree").aliases == {"challenger": "3"}
    client(store).delete_registered_model("agree")
    agree()


def test_direct_reading_gives_way_to_the_client_where_the_tables_are_not_those_it_knows(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = versions.create(store, "way", run_id=run_id, folder=tmp_path, tags={"a": "b"})

    def unknown(*_: Any) -> Any:
        raise sqlite3.OperationalError("no such column: workspace")

    monkeypatch.setattr(mlflow_tables, "select_read_only", unknown)
    assert versions.version(store, "way", "1") == made
    assert versions.registered(store, "way") == versions.Registered()
    assert versions.tagged(store, "way", "a", "b") == [made]


def test_the_numbers_of_a_run_are_read_directly_as_the_client_gives_them(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [("loss", 0.5, 0), ("loss", 0.1 + 0.2, 1), ("odd", math.nan, 0), ("far", math.inf, 0), ("whole", 3.0, 0)]
    tracking.log(store, run_id, "part", Content(metrics=steps, params={"cost.currency": "USD", "text": "ü'", "n": 1}))
    official = tracking.numbers_by_client(store, run_id)
    assert repr(tracking.numbers_of(store, run_id)) == repr(official)  # as texts: no NaN equals itself
    assert official[0]["loss"] == 0.1 + 0.2
    assert tracking.numbers_of(store, "0" * 32) == tracking.numbers_by_client(store, "0" * 32) == ({}, {})
    assert tracking.numbers_of(store, None) == ({}, {})

    def unknown(*_: Any) -> Any:
        raise sqlite3.OperationalError("no such table: latest_metrics")

    monkeypatch.setattr(mlflow_tables, "select_read_only", unknown)
    assert repr(tracking.numbers_of(store, run_id)) == repr(official)


INTERRUPT = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma cache_size = 2")  # so that changed pages reach the file before the commit that never comes
connection.execute("begin")
connection.execute("update registered_model_aliases set alias = 'usurper'")
connection.executemany(
    "insert into model_version_tags (workspace, name, version, key, value) values ('default', 'torn', 1, ?, ?)",
    [(str(number), "x" * 2000) for number in range(500)],
)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_transaction_that_a_kill_cut_off_is_not_read_as_if_it_had_happened(
    store: Store, run_id: str, tmp_path: Path
) -> None:
    versions.create(store, "torn", run_id=run_id, folder=tmp_path, tags={})
    versions.set_alias(store, "torn", "champion", "1")
    assert store.database is not None
    subprocess.run([sys.executable, "-c", INTERRUPT, str(store.database)], check=False)
    assert store.database.with_name("mlflow.db-journal").stat().st_size > 0
    assert versions.registered(store, "torn").aliases == {"champion": "1"}
    assert versions.version(store, "torn", "1") == versions.version_by_client(store, "torn", "1")


def test_nothing_is_there_before_anything_was_stored(tmp_path: Path) -> None:
    empty = Store(f"sqlite:///{tmp_path / 'none.db'}", tmp_path)
    assert versions.registered(empty, "toy") == versions.Registered()
    assert versions.version(empty, "toy", "1") is None
    assert versions.tagged(empty, "toy", "a", "b") == []
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("number", ["01", "\N{ARABIC-INDIC DIGIT ONE}", " 1", "+1", "1_0", "9" * 19, "9" * 5000, ""])
def test_only_a_number_as_mlflow_writes_it_names_a_version(
    store: Store, run_id: str, tmp_path: Path, number: str
) -> None:
    if versions.version(store, "numbered", "1") is None:
        versions.create(store, "numbered", run_id=run_id, folder=tmp_path, tags={})
    assert versions.version(store, "numbered", "1") is not None
    assert versions.version(store, "numbered", number) is None
    assert versions.tags_of_deleted(store, "numbered", number) == {}


def test_a_version_whose_files_are_gone_says_so(store: Store, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("weights")
    made = versions.create(store, "gone", run_id=run_id, folder=tmp_path, tags={})
    assert (versions.download(store, made, tmp_path / "copy") / "file").read_text() == "weights"
    stored = versions.stored_at(store, made)
    assert isinstance(stored, Path)
    assert (stored / "file").read_text() == "weights"
    assert stored == local_path(f"{client(store).get_run(run_id).info.artifact_uri}/model"), "as MLflow says it"
    other = tracking.ensure_run(store, tracking.ensure_experiment(store, "toy"), "empty", {"refit.candidate": "none"})
    lost = versions.Version("gone", "9", other, made.created, {})
    with pytest.raises(RegistryError, match="files of version 9 of gone"):
        versions.download(store, lost, tmp_path / "nothing")


def test_a_logged_model_names_each_version_of_its_run_once_and_goes_with_the_run(store: Store, tmp_path: Path) -> None:
    mlflow, experiment = client(store), tracking.ensure_experiment(store, "linked")
    run_id = tracking.ensure_run(store, experiment, "a.run: 1/2", {"refit.candidate": "linked"})
    tracking.log(store, run_id, "training", Content(metrics=[("validation/auc", 0.6, 0)], model={"learner": "tree"}))
    (tmp_path / "file").write_text("weights")
    for _ in range(2):
        made = versions.create(store, "linked", run_id=run_id, folder=tmp_path, tags={})
        logged_models.link(store, run_id, "linked", made.version)
    (model,) = mlflow.search_logged_models([experiment])
    assert model.name == "a run  1 2", "without what MLflow refuses in names"
    numbers = [{"name": "linked", "version": number} for number in ("1", "2")]
    assert json.loads(model.tags["mlflow.modelVersions"]) == numbers

    mlflow.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": "not JSON"})
    logged_models.link(store, run_id, "linked", "2")
    assert json.loads(mlflow.get_logged_model(model.model_id).tags["mlflow.modelVersions"]) == numbers[1:]

    (run,) = deletion.runs(store, "linked")
    deletion.delete_run(store, run)
    assert list(mlflow.search_logged_models([experiment])) == []
    logged_models.link(store, "0" * 32, "linked", "1")
    logged_models.link(store, None, "linked", "1")
