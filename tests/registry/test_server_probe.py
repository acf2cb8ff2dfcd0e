"""A server that is not there is named within seconds; one that is lost later is waited for, and named in few words."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import server_probe, versions
from registry.store import RegistryError, Store, faults


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, and no server that answered before."""
    monkeypatch.setenv(server_probe._ANSWERED, "")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stopped(tmp_path: Path) -> Store:
    """A server whose port nothing listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return Store(f"http://ann:hunter2@127.0.0.1:{port}", tmp_path)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[Store, socket.socket]]:
    """A server that takes a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Store(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path), server


def test_a_stopped_server_is_named_within_seconds(stopped: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    for variable, named in (("", "registry.tracking_uri"), (stopped.uri, "MLFLOW_TRACKING_URI")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
        with pytest.raises(RegistryError) as told, faults(stopped):
            versions.registered(stopped, "toy")
        assert str(told.value) == (
            f"no MLflow server answers at {stopped.shown} (connection refused); start it, or correct {named}"
        )
    assert "hunter2" not in str(told.value)
    assert time.monotonic() - began < 5, "as long as MLflow's client tries again, which is minutes"


def test_a_server_that_answered_once_is_not_asked_again(listening: tuple[Store, socket.socket]) -> None:
    store, server = listening
    server_probe.require_answer(store)
    server.close()  # it restarts, say: MLflow's client goes on trying for minutes
    server_probe.require_answer(store)


def test_nothing_is_tried_behind_a_proxy_but_for_hosts_without_it(
    stopped: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    server_probe.require_answer(stopped)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(RegistryError, match="no MLflow server answers"):
        server_probe.require_answer(stopped)


def test_a_server_that_is_lost_later_is_named_by_the_cause(stopped: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server_probe._ANSWERED, str(stopped.server))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError) as told, faults(stopped):
        versions.registered(stopped, "toy")
    assert str(told.value) == (
        f"the registry at {stopped.shown} failed: connection refused; check that it is reachable"
    )


def test_a_long_message_ends_after_a_word(tmp_path: Path) -> None:
    class LongError(Exception):
        __module__ = "mlflow.exceptions"

    with pytest.raises(RegistryError) as told, faults(Store("http://mlflow:5000", tmp_path)):
        raise LongError("established " * 40)
    assert str(told.value).endswith("established ...; check that it is reachable")
