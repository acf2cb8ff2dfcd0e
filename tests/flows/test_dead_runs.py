"""No run counts as running whose process is gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flows import dead_runs

NOW = timedelta()
LONG = timedelta(hours=1)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_runs_of_a_process_that_was_killed_end_as_crashed_and_others_go_on() -> None:
    from prefect import flow, get_client, task
    from prefect.states import Crashed, Running

    @flow(name="drift-watch")
    def watch() -> None: ...

    @flow(name="somebody-else's")
    def other() -> None: ...

    @task
    def work() -> None: ...

    async def look(silence: timedelta, grace: timedelta) -> tuple[int, int]:
        silent = await dead_runs.end_silent_flow_runs(silence=silence)
        return silent, await dead_runs.end_left_behind(grace=grace)

    with get_client(sync_client=True) as client:
        killed, alive = (client.create_flow_run(watch, state=Running()) for _ in range(2))
        foreign = client.create_flow_run(other, state=Running())
        tasks = [client.create_task_run(work, each.id, "0", state=Running()) for each in (killed, alive)]
        assert asyncio.run(look(LONG, LONG)) == (0, 0), "both were heard of within the hour"

        client.set_flow_run_state(killed.id, Crashed(), force=True)
        assert asyncio.run(look(LONG, LONG)) == (0, 0), "its last words may still arrive"
        assert asyncio.run(look(LONG, NOW)) == (0, 1)
        states = [client.read_task_run(each.id).state for each in tasks]
        assert [state.type.value for state in states if state] == ["CRASHED", "RUNNING"]

        assert asyncio.run(look(NOW, NOW)) == (1, 1), "nothing was heard of the other for long enough"
        assert str(client.read_flow_run(alive.id).state_name) == "Crashed"
        assert client.read_task_run(tasks[1].id).state_name == "Crashed"
        assert client.read_flow_run(foreign.id).state_name == "Running", "Refit knows nothing of it"
