"""What tells the runs of a project apart in Prefect: their names, tags, and states for one whose candidate waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from prefect import get_client, runtime
from prefect.states import Completed

from flows.notifications import announce_run
from flows.run_summary import RunSummary
from refit.plain_text import one_line

AWAITING = "AwaitingApproval"
MOST_CHARACTERS = 60  # of a name: what Prefect's lists show of it


def named(verb: str, *parameters: str) -> Callable[[], str]:
    """Return a function that names a flow run by these of its parameters, for `flow(flow_run_name=...)`."""

    def name() -> str:
        given = runtime.flow_run.parameters or {}
        return one_line(" ".join([verb, *(str(given.get(each)) for each in parameters)]))[:MOST_CHARACTERS]

    return name


def ended(summary: RunSummary, trigger: str) -> RunSummary:
    """Return the result of a retraining run, which ends as `Refused`, or as `AwaitingApproval` until a person answers.

    Both are of the type Completed: nothing failed, the champion stays, and no worker waits for the person. The run is
    tagged with its model, with what started it, and with the decision, which an event announces.
    """
    announce_run(summary)
    awaits, promotes = summary.model.awaits_approval, summary.decision.promote
    decision = "awaiting approval" if awaits else "promoted" if promotes else "refused"
    if (flow_run := runtime.flow_run.id) is not None:
        with get_client(sync_client=True) as client:
            tags = {*runtime.flow_run.tags, summary.model.name, one_line(trigger)[:MOST_CHARACTERS], decision}
            client.update_flow_run(flow_run, tags=sorted(tags))
    if promotes and not awaits:
        return summary
    reason = one_line("; ".join(summary.model.why_not if awaits else summary.decision.reasons))
    state: Any = Completed(name=AWAITING if awaits else "Refused", message=reason, data=summary)
    return cast(RunSummary, state)
