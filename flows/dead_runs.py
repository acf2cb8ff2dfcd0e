"""Ends runs whose process is gone: Prefect would leave them `Running` for ever."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from flows.deployments import FLOW_NAMES

SECONDS = 5
GRACE = timedelta(seconds=10)  # in which the flow run's last states may still arrive
SILENCE = timedelta(seconds=120)  # four heartbeats of a flow run


async def watch() -> None:
    """Check every few seconds, inside Prefect's server, for as long as it runs."""
    while True:
        await asyncio.sleep(SECONDS)
        try:
            await end_silent_flow_runs()
            await end_left_behind()
        except Exception as error:  # the tables are being made, or the database is busy: the next check may succeed
            logging.getLogger("refit").debug("task runs were not looked at: %s", error)


async def end_silent_flow_runs(*, silence: timedelta = SILENCE) -> int:
    """Mark running flow runs without recent events as crashed; return how many."""
    import sqlalchemy as sa
    from prefect.server import models
    from prefect.server.database import provide_database_interface
    from prefect.server.schemas.states import Crashed, StateType
    from prefect.types._datetime import now

    db: Any = provide_database_interface()
    flow_runs: Any = models.flow_runs
    since = now("UTC") - silence
    async with db.session_context(begin_transaction=True) as session:
        running = (
            sa.select(db.FlowRun.id)
            .join(db.Flow, db.Flow.id == db.FlowRun.flow_id)
            .where(
                db.Flow.name.in_(FLOW_NAMES),
                db.FlowRun.state_type == StateType.RUNNING,
                db.FlowRun.state_timestamp < since,
            )
        )
        ended = 0
        for (flow_run_id,) in (await session.execute(running)).all():
            events = sa.select(sa.func.count()).where(
                db.Event.resource_id == f"prefect.flow-run.{flow_run_id}", db.Event.occurred >= since
            )
            if not (await session.execute(events)).scalar():
                message = f"no heartbeat for {silence.total_seconds():.0f} s: its process died"
                await flow_runs.set_flow_run_state(session, flow_run_id, Crashed(message=message), force=True)
                ended += 1
    return ended


async def end_left_behind(*, grace: timedelta = GRACE) -> int:
    """Mark unfinished task runs of ended flow runs as crashed; return how many."""
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
            flow_filter=filters.FlowFilter(name=filters.FlowFilterName(any_=list(FLOW_NAMES))),
            flow_run_filter=filters.FlowRunFilter(
                state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
                end_time=filters.FlowRunFilterEndTime(before_=now("UTC") - grace),
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
