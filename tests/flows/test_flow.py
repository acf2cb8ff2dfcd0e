"""The flow under a real Prefect server: tasks by name, states as they were, links both ways."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from driving import summary_of

from flows.summary_display import summary_rows
from refit.config import STAGES

BEGAN = time.monotonic()

pytestmark = pytest.mark.usefixtures("prefect_server")


def task_states(flow_run: str) -> dict[str, str]:
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    async def ask() -> dict[str, str]:
        async with get_client() as client:
            found = await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run)]))
            )
            return {run.name: run.state_name or "" for run in found}

    for _ in range(40):  # the server learns of task runs by events, a moment later
        states = asyncio.run(ask())
        if len(states) == len(STAGES) and set(states.values()) <= {"Completed", "Cached", "Failed"}:
            break
    return states


def artifacts_of(flow_run: str) -> dict[str, Any]:
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    async def ask() -> dict[str, Any]:
        async with get_client() as client:
            chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(flow_run)]))
            return {
                artifact.key or "": artifact.data for artifact in await client.read_artifacts(artifact_filter=chosen)
            }

    return asyncio.run(ask())


@pytest.mark.ci
def test_a_flow_run_shows_its_tasks_its_summary_and_its_mlflow_run(project: Path) -> None:
    from flows.continuous_training import continuous_training

    told = continuous_training(project=str(project))
    assert task_states(str(told.flow_run_id)) == dict.fromkeys(STAGES, "Cached")
    shown = artifacts_of(str(told.flow_run_id))
    assert "version 1" in str(shown["refit-summary"])
    assert str(told.mlflow_run_id) in str(shown["refit-mlflow"])

    changed = continuous_training(project=str(project), overrides={"train.seed": 3}, reason="a test")
    states = task_states(str(changed.flow_run_id))
    assert (states["featurize"], states["train"], states["register"]) == ("Cached", "Completed", "Completed")
    with sqlite3.connect(project / ".refit/mlflow.db") as connection:
        tags = dict(connection.execute("select key, value from tags where run_uuid = ?", [changed.mlflow_run_id]))
    assert tags["refit.prefect_flow_run"] == str(changed.flow_run_id)


def flow_run(identifier: str | None) -> Any:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(str(identifier)))


@pytest.mark.slow
def test_a_run_is_named_and_tagged_by_what_it_does_and_a_refusal_is_seen_in_its_state(project: Path) -> None:
    from flows.continuous_training import continuous_training

    kept = continuous_training(project=str(project), reason="a \n test")
    run = flow_run(kept.flow_run_id)
    assert run.name == rf"retrain {kept.as_of:%Y-%m-%d} a \n test"
    assert {"promoted", kept.model.name} <= set(run.tags)
    assert (run.state.name, run.state.type.value) == ("Completed", "COMPLETED")

    never = {"evaluate.gate.mode": "superiority", "evaluate.gate.min_gain": 0.9, "train.seed": 4}
    refused = continuous_training(project=str(project), overrides=never)
    assert not refused.decision.promote
    run = flow_run(refused.flow_run_id)
    assert run.name == f"retrain {refused.as_of:%Y-%m-%d} manual"
    assert {"refused", "manual", kept.model.name} <= set(run.tags)
    assert (run.state.name, run.state.type.value) == ("Refused", "COMPLETED")
    assert run.state.message == "; ".join(refused.decision.reasons)


@pytest.mark.ci
def test_a_run_by_the_clock_ends_as_not_due_where_the_policy_leaves_it_to_drift(project: Path) -> None:
    from flows.continuous_training import continuous_training

    params = yaml.safe_load((project / "params.yaml").read_text())
    params.setdefault("drift", {})["retrain_on"] = ["performance"]
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    state = continuous_training(project=str(project), reason="schedule", return_state=True)
    run = flow_run(str(state.state_details.flow_run_id))
    assert (run.state.name, run.state.type.value) == ("NotDue", "COMPLETED")
    assert "`refit run` trains at once" in run.state.message
    assert {"not due", "schedule"} <= set(run.tags)
    trained = continuous_training(project=str(project), reason="manual")
    assert trained.model.version == "1", "a person's run goes through all stages"


@pytest.mark.slow
def test_a_run_whose_candidate_another_machine_kept_from_promotion_is_no_promotion(project: Path) -> None:
    """The gate would promote it, and a champion that was promoted meanwhile stays."""
    from prefect import flow

    from flows.run_labels import ended

    promoted = summary_of(project)
    why = "judged against version 1, but version 2 is the champion now"
    kept = promoted.model.model_copy(update={"version": "3", "alias": "challenger", "why_not": (why,)})
    summary = promoted.model_copy(update={"model": kept})
    assert summary.decision.promote

    @flow
    def retrained() -> Any:
        return ended(summary, "manual", UTC, decided=True)

    state = retrained(return_state=True)
    run = flow_run(str(state.state_details.flow_run_id))
    assert "refused" in run.tags
    assert "promoted" not in run.tags
    assert (run.state.name, run.state.type.value, run.state.message) == ("Refused", "COMPLETED", why)
    assert ("not champion", why) in summary_rows(summary)


@pytest.mark.slow
def test_a_run_whose_candidate_waits_for_a_person_ends_at_once_and_says_how_to_answer(project: Path) -> None:
    from flows.continuous_training import continuous_training

    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("register:\n", "register:\n  approval: required\n"))
    other = {"train.learners.logistic.params.C": 0.5, "train.learners.boosting.params.max_iter": 40}
    easy = {"evaluate.gate.max_loss": 0.9, **other}
    summary = continuous_training(project=str(project), overrides=easy)
    assert (summary.model.alias, summary.model.awaits_approval) == ("challenger", True)
    run = flow_run(summary.flow_run_id)
    assert {"awaiting approval"} <= set(run.tags)
    assert (run.state.name, run.state.type.value) == ("AwaitingApproval", "COMPLETED")
    assert run.state.message.startswith("version 2 waits for a person's approval until ")
    shown = str(artifacts_of(str(summary.flow_run_id))["refit-approval"])
    assert 'refit approve 2 --why "..."' in shown
    assert r"model\_card.html" in shown
    assert "approval, 7d at most" in (project / "reports/model_card.html").read_text()

    again = continuous_training(project=str(project), overrides=easy)
    assert task_states(str(again.flow_run_id)) == dict.fromkeys(STAGES, "Cached")
    assert flow_run(again.flow_run_id).state.name == "AwaitingApproval"


def test_a_failed_stage_fails_the_flow_with_its_own_words(project: Path) -> None:
    from flows.continuous_training import continuous_training
    from refit.errors import UserError

    (project / "raw/broken.csv").write_text("subscription,renewal\nS1,2024-01-01\n")
    with pytest.raises(UserError, match=r"broken\.csv"):
        continuous_training(project=str(project))


def test_the_flow_takes_the_parameters_that_deployments_give_it() -> None:
    from flows.continuous_training import continuous_training

    names = set(continuous_training.parameters.properties)
    assert {"project", "as_of", "overrides", "reason", "force"} <= names
    assert continuous_training.parameters.required in (None, [])


@pytest.mark.slow
def test_the_seconds_of_a_run_are_those_of_its_whole_process(project: Path) -> None:
    from flows.run_options import RunOptions
    from refit.cli import running

    told = running.run(project, RunOptions(), quiet=True)
    assert told.seconds > time.monotonic() - BEGAN > sum(stage.seconds for stage in told.stages.values())
