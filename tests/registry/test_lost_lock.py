"""A run that loses its lock moves nothing that another one has decided since, and says what may have moved."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from servers import execute, postgresql, postgresql_server  # noqa: F401

from registry import champion, versions
from registry.client import client
from registry.ledger import Entry, Ledger, Note
from registry.locking import registry_lock
from registry.store import RegistryError, Store

FIRST = Entry("a", "2024-01-01T00:00:00Z", "ann", "run", "promote", "toy", None, "1", ("it is the first",), anchor="1")
SECOND = replace(FIRST, key="b", from_version="1", to_version="2", anchor="2")
ANOTHER = """
import sys
from dataclasses import replace
from pathlib import Path
from registry import champion
from registry.ledger import Ledger
from registry.store import Store
store = Store(f"sqlite:///{sys.argv[1]}/mlflow.db", Path(sys.argv[1]), sys.argv[2], "toy")
last = champion.finish_pending(store, "toy", at="2024-01-02T00:00:00Z") or Ledger.of(store).last_move("toy")
champion.set_champion(store, replace(last, key="c", from_version=last.to_version, to_version="3", anchor=None))
"""


@pytest.fixture
def store(postgresql: str, tmp_path: Path, empty_registry: Path) -> Store:  # noqa: F811
    """Three versions of a model, the first of which is champion."""
    (tmp_path / "mlflow.db").write_bytes(empty_registry.read_bytes())
    made = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, postgresql, "toy")
    client(made).create_registered_model("toy")
    for _ in range(3):
        client(made).create_model_version("toy", tmp_path.as_uri())
    champion.set_champion(made, FIRST)
    return made


def lose_the_lock(store: Store) -> None:
    assert store.ledger_uri
    execute(
        store.ledger_uri,
        "select pg_terminate_backend(pid) from pg_stat_activity where pid != pg_backend_pid() "
        "and datname = current_database()",
    )


def promote_elsewhere(store: Store) -> None:
    """Lose the lock; another process finishes the pending move, and promotes version 3."""
    lose_the_lock(store)
    subprocess.run([sys.executable, "-c", ANOTHER, str(store.home), str(store.ledger_uri)], check=True)


def after(call: Callable[..., None], then: Callable[[], None], about: object) -> Callable[..., None]:
    def both(*arguments: Any) -> None:
        call(*arguments)
        if about in arguments:
            then()

    return both


@pytest.mark.ci
def test_after_another_took_over_the_champion_stays_the_one_that_it_promoted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "begin", after(Ledger.begin, lambda: promote_elsewhere(store), SECOND))
    with pytest.raises(RegistryError, match="nothing moves without it"):
        champion.set_champion(store, SECOND)
    assert versions.registered(store, "toy").aliases == {champion.CHAMPION: "3", champion.PREVIOUS: "2"}
    moves = [(line.from_version, line.to_version) for line in Ledger.of(store).entries("toy")]
    assert moves == [(None, "1"), ("1", "2"), ("2", "3")]
    assert champion.examine_ledger(store, "toy").problem is None


def test_a_lock_that_is_lost_after_the_alias_moved_is_an_error_that_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = after(versions.set_alias, lambda: lose_the_lock(store), champion.CHAMPION)
    with monkeypatch.context() as patched:
        patched.setattr(versions, "set_alias", lost)
        with pytest.raises(RegistryError, match=r"version 2 of toy may be champion now \(`refit show`\)") as caught:
            champion.set_champion(store, SECOND)
    assert "nothing moves" not in str(caught.value)
    assert champion.finish_pending(store, "toy", at=FIRST.at) == SECOND


def test_a_lock_that_is_lost_while_files_are_stored_makes_no_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = client(store)
    run_id = mlflow.create_run("0").info.run_id
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(type(mlflow), "log_artifacts", lambda *_: lose_the_lock(store))
    with pytest.raises(RegistryError, match="no version was made"):
        versions.create(store, "toy", run_id=run_id, folder=tmp_path / "model", tags={})
    assert len(client(store).search_model_versions("name = 'toy'")) == 3


def test_a_repair_that_lost_its_lock_sets_no_alias_over_the_champion_of_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(store).delete_registered_model_alias("toy", champion.CHAMPION)
    verified = champion.verified_ledger  # the last look before the alias is set

    def lose(*arguments: Any) -> Ledger:
        ledger = verified(*arguments)
        lose_the_lock(store)
        return ledger

    monkeypatch.setattr(champion, "verified_ledger", lose)
    with pytest.raises(RegistryError, match="nothing moves without it"):
        champion.put_back(store, FIRST)
    assert champion.CHAMPION not in versions.registered(store, "toy").aliases


def test_a_lock_that_was_lost_cannot_be_entered_once_more(store: Store) -> None:
    with registry_lock(store):
        lose_the_lock(store)
        with pytest.raises(RegistryError, match="nothing moves without it"), registry_lock(store):
            pass


@pytest.mark.slow
def test_a_writer_that_loses_its_lock_after_its_line_notes_no_old_head(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Ledger.finish

    def finish_and_lose(ledger: Ledger, entry: Entry, note: Note) -> str | None:
        head = finish(ledger, entry, note)
        promote_elsewhere(store)
        return head

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "finish", finish_and_lose)
        with pytest.raises(RegistryError, match=r"the ledger's line may be written already \(`refit history`\)"):
            champion.set_champion(store, SECOND)
    assert champion.examine_ledger(store, "toy").problem is None
    champion.set_champion(store, replace(SECOND, key="d", from_version="3", to_version="1"))


class Dropping(BaseHTTPRequestHandler):
    """A server of MLflow's API whose network loses the answer to the first request that sets or creates something."""

    artifacts = ""
    received: Counter[str]

    def do_GET(self) -> None:
        run = {"info": {"run_id": "r", "artifact_uri": self.artifacts}}
        self._answer({"registered_model": {"name": "toy"}, "run": run})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith(("/alias", "/model-versions/create")):
            Dropping.received[self.path.rpartition("/")[2]] += 1
            if Dropping.received.total() == 1:
                self.close_connection = True
                return
        self._answer({"model_version": {"name": "toy", "version": "1"}} if self.path.endswith("/create") else {})

    def _answer(self, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture
def dropping(tmp_path: Path) -> Iterator[str]:
    Dropping.artifacts, Dropping.received = (tmp_path / "artifacts").as_uri(), Counter()
    with HTTPServer(("127.0.0.1", 0), Dropping) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_request_for_an_alias_whose_answer_was_lost_is_not_sent_again_later(dropping: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="failed with exception"):
        versions.set_alias(Store(dropping, tmp_path, "postgresql://db/refit", "toy"), "toy", "champion", "1")
    assert Dropping.received == {"alias": 1}


def test_a_request_for_a_version_whose_answer_was_lost_is_not_sent_again_so_a_run_has_one_version(
    dropping: str, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(Exception, match="failed with exception"):
        versions.create(Store(dropping, tmp_path), "toy", run_id="r", folder=tmp_path / "model", tags={})
    assert Dropping.received == {"create": 1}
