"""A server that answers with 401 or 403 is said to refuse, with what to set, and is not called unreachable."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commands import refit

from registry import versions
from registry.store import RegistryError, Store, faults


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with the server's status."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = do_DELETE = _refuse

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(params=[401, 403])
def refusing(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """The URL of a server that refuses every request, and its status."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.status = request.param  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", request.param
        server.shutdown()


def test_a_refusal_by_mlflow_says_what_to_set(refusing: tuple[str, int], tmp_path: Path) -> None:
    url, status = refusing
    store = Store(url, tmp_path)
    with pytest.raises(RegistryError) as told, faults(store):
        versions.registered(store, "toy")
    advice = "set MLFLOW_TRACKING_USERNAME" if status == 401 else "see that this user may do that"
    assert "MLflow's server answers, and " in str(told.value)
    assert f"({status}): {advice}" in str(told.value)
    assert "reachable" not in str(told.value)


def test_a_refusal_by_prefect_ends_a_command_in_one_line(
    refusing: tuple[str, int], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url, status = refusing
    monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        ended, printed = refit(capsys, "deploy", "--pool", "team", "--pull", "folder", "--project", str(project))
    advice = "PREFECT_API_AUTH_STRING" if status == 401 else "PREFECT_API_URL names the host"
    (line,) = [each for each in printed.splitlines() if each.startswith("error: ")]
    assert ended == 1
    assert line.startswith("error: Prefect's server answers, and ")
    assert f"({status})" in line
    assert advice in line
