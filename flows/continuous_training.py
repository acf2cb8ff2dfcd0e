"""The main flow: from raw rows to a new champion, or to the reasons why there is none."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime

from flows import shared_data
from flows.admission import admitted, own_project, own_settings, refused_in_one_line
from flows.early_end import may_end_early
from flows.retraining_policy import require_due
from flows.run_labels import ended, named
from flows.run_options import RunOptions
from flows.run_summary import RunSummary
from flows.session import session
from flows.summary_display import publish
from tasks.prefect_tasks import evaluate, featurize, ingest, register, train, validate


@flow(
    name="continuous-training",
    flow_run_name=named("retrain", "as_of", "reason"),
    persist_result=False,
    validate_parameters=True,
)
@refused_in_one_line
@may_end_early
def continuous_training(
    project: str = ".",
    as_of: str = "latest",
    overrides: dict[str, Any] | None = None,
    reason: str = "manual",
    window: dict[str, str] | None = None,
    columns: list[str] | None = None,
    emitted: str | None = None,
    force: bool = False,
    allow_uncommitted: bool = True,
    wait_seconds: float = 0,
) -> RunSummary:
    """Ingest, validate, featurize, train, evaluate, register: each stage only if something it depends on changed.

    Args:
        project: the project's folder; of a deployed run, the one that the deployment was made for.
        as_of: `latest`, or the date or time at which this run pretends to happen, in the project's time zone.
        overrides: `section.key` -> value, for this run only; a deployed run takes numbers, true and false, and none of
            `validate`, `evaluate` and `register`.
        reason: what started the run; it goes into the ledger. One that `schedule` started ends after `validate` if
            `drift.retrain_on` does not list it, unless there is no champion, or code or params have changed.
        window: `first` and `end` of the data that drifted, ISO 8601. Where a retraining for it, or for a newer one,
            has ended, this run ends at once and changes nothing.
        columns: those that drifted; they go into the ledger.
        emitted: when the event was emitted that started the run, ISO 8601.
        force: run every stage, changed or not.
        allow_uncommitted: whether code that is not committed may be used; deployments say no.
        wait_seconds: how long to wait for another run of the same project to end.
    """
    folder = own_project(project)
    options = RunOptions(
        as_of=as_of,
        overrides=own_settings(overrides),
        trigger=admitted(reason, window, columns, emitted),
        force=force,
        allow_uncommitted=allow_uncommitted,
        flow_run=runtime.flow_run.id,
        wait_seconds=wait_seconds,
    )
    with session(folder, options) as run:
        with shared_data.ingesting(run.context()):
            ingest(run)
        validate(run)
        require_due(run.context(), options)
        featurize(run)
        train(run)
        evaluate(run)
        shared_data.share(run.context())
        register(run)
        summary = publish(run)
        zone = run.context().params.project.zone
        return ended(summary, reason, zone, decided=run.has_decided(summary.model.version))
