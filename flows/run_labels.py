"""What tells the runs of a project apart in Prefect's pages: their names, tags, and a state for a refused candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from prefect import get_client, runtime
from prefect.states import Completed

from flows.run_summary import RunSummary
from refit.plain_text import one_line

MOST_CHARACTERS = 60  # of a name: what Prefect's lists show of it


def named(verb: str, *parameters: str) -> Callable[[], str]:
    """Return a function that names a flow run by these of its parameters, for `flow(flow_run_name=...)`."""

    def name() -> str:
        given = runtime.flow_run.parameters or {}
        return one_line(" ".join([verb, *(str(given.get(each)) for each in parameters)]))[:MOST_CHARACTERS]

    return name


def ended(summary: RunSummary, trigger: str) -> RunSummary:
    """Return the result of a retraining run; where its candidate was refused, the run ends in the state `Refused`.

    The run itself has completed: nothing failed, and the champion stays. The run is tagged with its model, with what
    started it, and with the decision.
    """
    decision = "promoted" if summary.decision.promote else "refused"
    if (flow_run := runtime.flow_run.id) is not None:
        with get_client(sync_client=True) as client:
            tags = {*runtime.flow_run.tags, summary.model.name, one_line(trigger)[:MOST_CHARACTERS], decision}
            client.update_flow_run(flow_run, tags=sorted(tags))
    if summary.decision.promote:
        return summary
    reason = one_line("; ".join(summary.decision.reasons))
    state: Any = Completed(name="Refused", message=reason, data=summary)
    return cast(RunSummary, state)
