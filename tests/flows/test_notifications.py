"""People are notified of what they asked for, by a real Prefect server that calls a real address."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from servers import prefect_server as started_server

from flows import notifications
from flows.deployments import every
from refit import config
from refit.errors import UserError
from refit.files.yaml_files import read_yaml

pytestmark = pytest.mark.ci

RAW: dict[str, Any] = {
    "project": {"name": "toy"},
    "ingest": {"sources": {"rows": {"kind": "files", "path": "rows.csv", "columns": {"id": "text"}, "key": ["id"]}}},
    "featurize": {"label": {"source": "rows", "column": "late"}},
    "train": {"learners": [{"name": "logistic", "kind": "sklearn.linear_model.LogisticRegression"}]},
}
PATIENCE_SECONDS = 120


def params(*notify: dict[str, Any]) -> config.Params:
    return config.parse({**RAW, "notify": list(notify)})


@pytest.fixture
def inbox() -> Iterator[tuple[str, queue.Queue[str]]]:
    """The address of a small server, and the bodies that it receives."""
    received: queue.Queue[str] = queue.Queue()

    class Inbox(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Inbox) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", received
        server.shutdown()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server, with its services: automations act in it."""
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    EventsWorker.drain_all()  # one that an earlier test left behind sends to that test's server
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_API_DEFAULT_LIMIT", "3")  # of a page; 200 by default
        with started_server(tmp_path_factory.mktemp("prefect")) as url, temporary_settings({PREFECT_API_URL: url}):
            yield url


def names() -> list[str]:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        return sorted(each.name for each in every(client.read_automations))


@pytest.mark.slow
def test_a_receiver_hears_of_what_it_asked_for_and_of_nothing_else(
    api: str, inbox: tuple[str, queue.Queue[str]]
) -> None:
    from prefect import flow, get_client
    from prefect.blocks.webhook import Webhook
    from prefect.events.worker import EventsWorker
    from prefect.states import Failed

    url, received = inbox
    Webhook(url=url).save("pager", overwrite=True)
    told = params({"on": ["promotion", "approval", "failure"], "block": "webhook/pager"})
    notifications.provide(told, ["scheduled"], {"PREFECT_API_URL": api})
    notifications.provide(told, ["scheduled"], {"PREFECT_API_URL": api})
    assert names() == ["refit: toy notifies webhook/pager (1)", "refit: toy notifies webhook/pager (1) of failures"]

    for model, event in (("other", "PROMOTED"), ("toy", "REFUSED"), ("toy", "AWAITS"), ("toy", "AWAITS")):
        notifications.announce(model, getattr(notifications, event), f'{event} "2" of {model}\n<b>', key="2")
    EventsWorker.drain_all()
    assert json.loads(received.get(timeout=PATIENCE_SECONDS)) == {
        "model": "toy",
        "event": "model.awaits-approval",
        "text": r'AWAITS "2" of toy\n<b>',
    }

    @flow(name="continuous-training")
    def training() -> None:
        """A flow that a deployment names."""

    for name in ("other.scheduled", "scheduled"):
        with get_client(sync_client=True) as client:
            deployment = client.create_deployment(client.create_flow(training), name=name)
            run = client.create_flow_run_from_deployment(deployment, name=f"run of {name}")
            client.set_flow_run_state(run.id, Failed(message="it broke"), force=True)
    heard = json.loads(received.get(timeout=PATIENCE_SECONDS))
    assert heard["text"] == "continuous-training run run of scheduled: Failed. it broke"
    assert received.empty()

    notifications.provide(params(), ["scheduled"], {"PREFECT_API_URL": api})
    assert names() == []


def test_automations_on_later_pages_of_the_server_are_not_made_a_second_time(api: str) -> None:
    from prefect.blocks.webhook import Webhook

    Webhook(url="http://127.0.0.1:9/").save("pager", overwrite=True)
    receivers = [{"on": ["promotion", "failure"], "block": "webhook/pager"}] * 4
    for _ in range(2):
        notifications.provide(params(*receivers), ["scheduled"], {"PREFECT_API_URL": api})
        assert len(names()) == 2 * len(receivers)
    notifications.provide(params(), ["scheduled"], {"PREFECT_API_URL": api})
    assert names() == []


@pytest.mark.slow
def test_a_notification_block_gets_a_subject_and_a_text(api: str, inbox: tuple[str, queue.Queue[str]]) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.events.worker import EventsWorker

    url, received = inbox
    block = CustomWebhookNotificationBlock(name="ops", url=url, json_data={"said": "{{subject}}: {{body}}"})
    block.save("ops", overwrite=True)
    told = params({"on": ["drift", "promotion"], "block": f"{block.get_block_type_slug()}/ops"})
    notifications.provide(told, [], {"PREFECT_API_URL": api})
    notifications.announce("toy", notifications.PROMOTED, "version 2 is champion", key="3")
    EventsWorker.drain_all()
    assert json.loads(received.get(timeout=PATIENCE_SECONDS)) == {"said": "Refit: toy: version 2 is champion"}
    notifications.provide(params(), [], {"PREFECT_API_URL": api})


def test_a_block_that_the_server_lacks_is_said(api: str) -> None:
    for block in ("slack-webhook/ops", "no-such-type/ops"):
        with pytest.raises(UserError, match=f"notify: the Prefect server has no block {block}"):
            notifications.provide(params({"on": ["drift"], "block": block}), [], {"PREFECT_API_URL": api})


def test_the_key_on_needs_no_quotes_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("notify: [{on: [approval], block: webhook/ops}]\n")
    (receiver,) = config.parse({**RAW, **read_yaml(tmp_path / "params.yaml")}).notify
    assert receiver.on == ("approval",)


def test_a_receiver_has_a_block_and_an_occasion() -> None:
    with pytest.raises(UserError, match=r"notify\[0\]\.block"):
        params({"on": ["drift"], "block": "https://hooks.slack.example/T0/secret"})
    with pytest.raises(UserError, match=r"notify\[0\]\.on"):
        params({"on": [], "block": "webhook/ops"})
