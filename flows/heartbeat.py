"""Lets Prefect hear from a run while its project is brought: a flow says that it lives only once it has begun."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

EVENT, SECONDS = "prefect.flow-run.heartbeat", 30


@contextmanager
def heartbeats(seconds: float = SECONDS) -> Iterator[None]:
    """Emit, every so many seconds, the event by which Prefect knows that the run of this process lives.

    Where the process dies, they stop, and the run is found dead as soon as one whose flow had begun. No server that
    does not answer ends the block.
    """
    over = threading.Event()
    # with this block's settings, which name the server
    thread = threading.Thread(target=contextvars.copy_context().run, args=(_beat, over, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _beat(over: threading.Event, seconds: float) -> None:
    from prefect import get_client
    from prefect.events import RelatedResource, emit_event

    with suppress(Exception):  # any error of the server or the network: the run then has an hour to begin
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
            flow = client.read_flow(run.flow_id)
        resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
        of_flow = {
            "prefect.resource.id": f"prefect.flow.{flow.id}",
            "prefect.resource.role": "flow",
            "prefect.resource.name": flow.name,
        }
        related = [RelatedResource.model_validate(of_flow)]
        while not over.is_set():
            with suppress(Exception):  # this one is lost; three in a row would count as the death of the run
                emit_event(EVENT, resource=resource, related=related)
            over.wait(seconds)
