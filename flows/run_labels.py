"""What tells the runs of a project apart in Prefect: their names, tags, and states for one whose candidate waits."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, tzinfo
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
        return _short(" ".join([verb, *(_day(str(given.get(each))) for each in parameters)]))

    return name


def label(name: str, *tags: str) -> None:
    """Name this flow run by what it turned out to be about, instead of `latest` or `now`, and add tags to it."""
    if (flow_run := runtime.flow_run.id) is not None:
        with get_client(sync_client=True) as client:
            all_tags = {*runtime.flow_run.tags, *map(_short, tags)}
            client.update_flow_run(flow_run, name=_short(name), tags=sorted(all_tags))


def moment(time: datetime, zone: tzinfo) -> str:
    """Format a time for a name: a day, with the time of day unless that is midnight.

    >>> from datetime import UTC
    >>> [moment(datetime(2013, 12, 1, hour, tzinfo=UTC), UTC) for hour in (0, 6)]
    ['2013-12-01', '2013-12-01 06:00']
    """
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def ended(summary: RunSummary, trigger: str, zone: tzinfo, *, decided: bool) -> RunSummary:
    """Return the result of a retraining run, which ends as `Refused`, or as `AwaitingApproval` until a person answers.

    Both are of the type Completed: nothing failed, the champion stays, and no worker waits for the person. The run is
    named by its `as_of` in `zone`, and tagged with its model, with what started it, and with what became of its
    candidate, which an event announces.

    Args:
        decided: whether that is the ledger's news since the run began; nobody hears of an earlier decision again.
    """
    if decided:
        announce_run(summary)
    model = summary.model  # not the gate's decision alone: another machine, or a person, may have kept the champion
    outcome = "awaiting approval" if model.awaits_approval else "promoted" if model.is_champion else "refused"
    label(f"retrain {moment(summary.as_of, zone)} {trigger}", model.name, trigger, outcome)
    if model.is_champion:
        return summary
    reason = one_line("; ".join(summary.reasons))
    state: Any = Completed(name=AWAITING if model.awaits_approval else "Refused", message=reason, data=summary)
    return cast(RunSummary, state)


def _day(text: str) -> str:
    """Shorten a time to its day, which is enough in a name.

    >>> [_day(text) for text in ("2026-11-29T23:05:26Z", "2026-11-29", "latest", "drift: performance")]
    ['2026-11-29', '2026-11-29', 'latest', 'drift: performance']
    """
    return re.sub(r"^(\d{4}-\d{2}-\d{2})T[\d:.Z+-]+$", r"\1", text)


def _short(text: str) -> str:
    return one_line(text)[:MOST_CHARACTERS]
