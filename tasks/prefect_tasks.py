"""Defines the six stages as Prefect tasks, with all names, retries and timeouts; nothing else here imports prefect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from refit.errors import UserError, chain
from refit.runtime.context import Context
from refit.schemas.drift_decision import DriftDecision
from refit.schemas.score_report import ScoreReport
from tasks.stages import StageRun, run_in

HOUR = 3600
RETRY_DELAY_SECONDS = 10


def _is_worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry temporary machine faults: any failure caused by an `OSError`. A user's mistake would only fail again."""
    try:
        state.result()
    except (UserError, TimeoutError, KeyboardInterrupt):  # a stage that used up its hours would use them up again
        return False
    except Exception as error:
        return any(isinstance(cause, OSError) for cause in chain(error, explicit=True))
    return False


def _stage(name: str, *, timeout_hours: float, retries: int = 0) -> Task[[StageRun], State[str]]:
    def stage(run: StageRun) -> State[str]:
        outcome = run_in(run, name)
        if outcome == "executed":
            return Completed(data=outcome)
        return Completed(name="Cached", message=outcome, data=outcome)

    decorated: Callable[[StageRun], State[str]] = stage
    return task(
        name=name,
        task_run_name=name,  # a flow run has one of each
        cache_policy=NO_CACHE,  # DVC caches stages; a second cache could only disagree with it
        persist_result=False,
        retries=retries,
        retry_delay_seconds=RETRY_DELAY_SECONDS,
        retry_condition_fn=_is_worth_retrying,
        timeout_seconds=timeout_hours * HOUR,
    )(decorated)


ingest = _stage("ingest", timeout_hours=2, retries=2)
validate = _stage("validate", timeout_hours=2)
featurize = _stage("featurize", timeout_hours=6)
train = _stage("train", timeout_hours=24)
evaluate = _stage("evaluate", timeout_hours=6)
register = _stage("register", timeout_hours=1, retries=2)


@task(name="drift", task_run_name="drift", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=2 * HOUR)
def drift(context: Context, as_of: str) -> DriftDecision:
    """Judge the newest windows against the champion's reference."""
    from tasks.drift import watch

    return watch.run(context, as_of=as_of)


@task(name="score", task_run_name="score", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=2 * HOUR)
def score(context: Context, rows: str, as_of: str, out: str | None) -> ScoreReport:
    """Score rows with the champion."""
    from tasks.score import run

    return run(context, rows, as_of=as_of, out=Path(out) if out else None)
