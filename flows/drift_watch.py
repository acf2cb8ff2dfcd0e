"""The flow that watches for drift: it judges the newest windows, and requests a retraining where one is needed."""

from __future__ import annotations

from prefect import flow

from flows.admission import own_project, refused_in_one_line
from flows.drift_events import announce
from flows.run_labels import label, moment, named
from flows.session import watching
from flows.summary_display import publish_drift
from refit.runtime import run_file
from refit.schemas.drift_decision import DriftDecision
from tasks.prefect_tasks import drift


@flow(name="drift-watch", flow_run_name=named("drift", "as_of"), persist_result=False, validate_parameters=True)
@refused_in_one_line
def drift_watch(project: str = ".", as_of: str = "latest", wait_seconds: float = 0) -> DriftDecision:
    """Judge inputs and performance of the champion; emit `drift.detected` where it should be retrained.

    Args:
        project: the project's folder.
        as_of: `latest` (now, or where the data ends), `now`, or a date or time in the project's zone.
        wait_seconds: how long to wait for another run of the same project to end.
    """
    with watching(
        own_project(project), trigger="drift watch", wait_seconds=wait_seconds, obeys=run_file.OF_DRIFT
    ) as context:
        decision = publish_drift(drift(context, as_of), context.project)
        label(f"drift {moment(decision.as_of, context.params.project.zone)}", decision.model, decision.verdict)
        return announce(decision, context.project)
