"""The network is lost at each write of a promotion: one line says so, and the next run finishes what was begun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer
from urllib.parse import urlsplit

import pytest
from proxies import Proxy, proxy
from servers import Database, free_port, mlflow_server, postgresql_server  # noqa: F401

from registry import champion, versions
from registry.client import client
from registry.ledger import Entry, Ledger
from registry.store import RegistryError, Store, faults

pytestmark = pytest.mark.slow
LINE = Entry("1", "2024-01-01T00:00:00Z", "ann", "run", "promote", "toy", None, "1", ("it is the first",), anchor="1")
ALIAS, TAG = b"registered-models/alias", b"registered-models/set-tag"
WRITES = [
    ("mlflow", ALIAS, 1),  # previous
    ("mlflow", ALIAS, 2),  # champion
    ("mlflow", TAG, 1),  # anchor
    ("mlflow", TAG, 2),  # the heads before and after the line
    ("mlflow", TAG, 3),  # the head
    ("postgresql", b"INSERT INTO pending", 1),
    ("postgresql", b"INSERT INTO ledger", 1),
    ("postgresql", b"DELETE FROM pending", 1),
    ("postgresql", b"pg_locks", 2),  # the lock is checked before the alias moves, and after it
    ("postgresql", b"pg_locks", 3),
]


@dataclass(frozen=True)
class Servers:
    """An MLflow server and PostgreSQL, each behind a proxy."""

    mlflow: Proxy
    postgresql: Proxy
    store: Store

    def heal(self) -> None:
        for each in (self.mlflow, self.postgresql):
            each.heal()

    def of(self, model: str) -> Store:
        """The store for a new model, whose first of two versions is champion."""
        store = replace(self.store, scope=model)
        client(store).create_registered_model(model)
        for _ in range(2):
            client(store).create_model_version(model, "s3://nowhere/model")
        champion.set_champion(store, replace(LINE, key=f"{model} 1", model=model))
        return store


@pytest.fixture(scope="module")
def servers(
    postgresql_server: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
    empty_registry: Path,
) -> Iterator[Servers]:
    database = Database(postgresql_server, "cut_off")
    database.create()
    folder = tmp_path_factory.mktemp("cut_off")
    (folder / "mlflow.db").write_bytes(empty_registry.read_bytes())
    port = urlsplit(postgresql_server).port
    assert port
    with (
        mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts")) as url,
        proxy(urlsplit(url).port or 0) as to_mlflow,
        proxy(port) as to_postgresql,
    ):
        ledger = f"postgresql://refit@127.0.0.1:{to_postgresql.port}/{database.name}"
        store = Store(f"http://127.0.0.1:{to_mlflow.port}", folder, ledger)
        before = os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # what is tried again for minutes is of no interest here
        try:
            yield Servers(to_mlflow, to_postgresql, store)
        finally:
            os.environ.pop("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
            if before is not None:
                os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = before


@pytest.mark.parametrize("answered", [False, True], ids=["before it arrives", "before its answer comes"])
@pytest.mark.parametrize(("where", "text", "count"), WRITES, ids=lambda value: str(value).strip("b'"))
def test_where_the_network_is_lost_at_a_write_the_next_run_finishes_and_nothing_is_done_twice(
    servers: Servers, where: str, text: bytes, count: int, answered: bool
) -> None:
    model = f"m{WRITES.index((where, text, count))}{answered}".lower()
    store = servers.of(model)
    first = replace(LINE, key=f"{model} 1", model=model)
    second = replace(first, key=f"{model} 2", from_version="1", to_version="2", anchor="2")
    network: Proxy = getattr(servers, where)
    network.cut_at(text, count=count, answered=answered)
    try:
        with pytest.raises(RegistryError) as caught, faults(store):
            champion.set_champion(store, second)
        assert network.is_cut.is_set(), caught.value
        with pytest.raises(RegistryError), faults(store):  # nothing goes on without it
            champion.set_champion(store, second)
    finally:
        servers.heal()
    assert "\n" not in str(caught.value)
    assert "failed" in str(caught.value)

    finished = champion.finish_pending(store, model, at=second.at)
    assert finished in (None, second)
    if versions.registered(store, model).aliases[champion.CHAMPION] == "1":
        champion.set_champion(store, second)
    registered = versions.registered(store, model)
    assert registered.aliases == {"champion": "2", "previous": "1"}
    assert registered.tags[versions.ANCHOR] == "2"
    assert registered.tags[champion.HEAD] == Ledger.of(store).examine().head
    assert Ledger.of(store).entries(model) == [first, second]
    assert Ledger.of(store).pending(model) is None
    assert champion.examine_ledger(store, model).problem is None
    assert champion.warnings(store, model) == []


def test_a_version_is_created_once_where_only_the_answer_was_lost(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    store, tags = servers.of("created"), {"refit.candidate": "c"}
    run_id = client(store).create_run("0").info.run_id
    (tmp_path / "model").mkdir()
    (tmp_path / "model/manifest.json").write_text("{}")
    servers.mlflow.cut_at(b"model-versions/create", count=1, answered=True)
    back = Timer(2, servers.heal)  # while MLflow's client would still try
    back.start()
    try:
        with pytest.raises(RegistryError), faults(store):
            versions.create(store, "created", run_id=run_id, folder=tmp_path / "model", tags=tags)
    finally:
        back.join()
    assert [each.version for each in versions.tagged_by_client(store, "created", tags)] == ["3"]


def test_a_server_that_refuses_is_not_said_to_be_out_of_reach(
    tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "mlflow.db").write_bytes(empty_registry.read_bytes())
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with mlflow_server(database, str(tmp_path), MLFLOW_SERVER_ALLOWED_HOSTS="models.example.com") as url:
        store = Store(url, tmp_path)
        with (
            pytest.raises(RegistryError, match=r"does not allow this \(403\): see that this user may") as caught,
            faults(store),
        ):
            versions.registered(store, "toy")
        assert "reachable" not in str(caught.value)
    store = Store(f"http://127.0.0.1:{free_port()}", tmp_path)
    with pytest.raises(RegistryError, match=r"no MLflow server answers at .* \(connection refused\)"), faults(store):
        versions.registered(store, "toy")
