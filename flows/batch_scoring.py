"""The flow that scores rows with the champion: those of a batch or file, or upcoming ones."""

from __future__ import annotations

from prefect import flow
from pydantic import JsonValue

from flows.admission import own_file, own_project, own_window, refused_in_one_line
from flows.run_labels import label, moment, named
from flows.session import watching
from flows.summary_display import publish_scores
from tasks.prefect_tasks import score


@flow(
    name="batch-scoring", flow_run_name=named("score", "rows", "as_of"), persist_result=False, validate_parameters=True
)
@refused_in_one_line
def batch_scoring(
    project: str = ".",
    rows: str = "next 24h",
    as_of: str = "now",
    out: str | None = None,
    wait_seconds: float = 0,
) -> dict[str, JsonValue]:
    """Score rows with the champion, write and log the predictions.

    Args:
        project: the project's folder.
        rows: a CSV or Parquet file, a batch such as `2013-11`, `next 24h`, or of forecasts `newest`.
        as_of: `now` (of a deployed run: the time of its schedule), or the date or time, in the project's zone, up to
            which things are known.
        out: where to write the predictions; `reports/scores/` if None.
        wait_seconds: how long to wait for another run of the same project to end.
    """
    with watching(own_project(project), trigger="batch scoring", wait_seconds=wait_seconds) as context:
        files = own_file(context.project, "rows", rows), own_file(context.project, "out", out)
        report = score(context, files[0], own_window(as_of), files[1])
        label(f"score {rows} {moment(report.as_of, context.params.project.zone)}", report.model)
        return publish_scores(report).to_json()
