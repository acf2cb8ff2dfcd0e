"""The main flow: from raw rows to a model in charge, or to the reasons why not."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime

from flows.session import session
from flows.summary import publish
from tasks.prefect_tasks import evaluate, featurize, ingest, register, train, validate


@flow(name="continuous-training", persist_result=False, validate_parameters=True)
def continuous_training(
    project: str = ".",
    as_of: str = "latest",
    overrides: dict[str, Any] | None = None,
    reason: str = "manual",
    force: bool = False,
    wait_seconds: float = 0,
) -> dict[str, Any]:
    """Ingest, validate, featurize, train, evaluate, register: each stage only if something it depends on changed.

    Args:
        project: the project's folder.
        as_of: `latest`, or the date or time at which this run pretends to happen, in the project's time zone.
        overrides: `section.key` -> value, for this run only.
        reason: what started the run; it goes into the ledger.
        force: run every stage, changed or not.
        wait_seconds: how long to wait for another run of the same project to end.
    """
    with session(
        project,
        as_of=as_of,
        overrides=overrides,
        reason=reason,
        force=force,
        flow_run=runtime.flow_run.id,
        wait_seconds=wait_seconds,
    ) as run:
        ingest(run)
        validate(run)
        featurize(run)
        train(run)
        evaluate(run)
        register(run)
        return publish(run)
