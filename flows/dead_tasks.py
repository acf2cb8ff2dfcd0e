"""Ends task runs whose flow run has crashed: a process that was killed cannot, and Prefect leaves them `Running`."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

SECONDS = 5
GRACE = timedelta(seconds=10)  # in which the flow run's own last words may still arrive


async def watch() -> None:
    """Look every few seconds, inside of Prefect's server, for as long as it serves."""
    while True:
        await asyncio.sleep(SECONDS)
        try:
            await end_left_behind()
        except Exception as error:  # the tables are being made, or the database is busy: the next look may do
            logging.getLogger("refit").debug("task runs were not looked at: %s", error)


async def end_left_behind() -> int:
    """Mark task runs as crashed that count as under way in a flow run that has ended; returns how many."""
    from prefect.server import models
    from prefect.server.database import provide_database_interface
    from prefect.server.schemas import filters
    from prefect.server.schemas.states import TERMINAL_STATES, Crashed, StateType
    from prefect.types._datetime import now

    under_way = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED]
    task_runs: Any = models.task_runs
    async with provide_database_interface().session_context(begin_transaction=True) as session:
        left = await task_runs.read_task_runs(
            session,
            flow_run_filter=filters.FlowRunFilter(
                state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
                end_time=filters.FlowRunFilterEndTime(before_=now("UTC") - GRACE),
            ),
            task_run_filter=filters.TaskRunFilter(
                state=filters.TaskRunFilterState(type=filters.TaskRunFilterStateType(any_=under_way))
            ),
        )
        for task_run in left:
            await task_runs.set_task_run_state(
                session, task_run.id, Crashed(message="its flow run has ended: its process died"), force=True
            )
    return len(left)
