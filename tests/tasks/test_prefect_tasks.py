"""Retries under a real Prefect server and a real DVC: a machine's passing fault is tried again, a mistake is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from quick import quick

from refit.errors import RefitError, UserError
from refit.runtime.context import Context
from tasks import prefect_tasks, stages

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the next calls of a stage raise, one after the other; then it does its work."""
    coming: list[Exception] = []
    real = stages.stage_function

    def failing_first(stage: str) -> Callable[[Context], None]:
        def function(context: Context) -> None:
            if coming:
                raise coming.pop(0)
            real(stage)(context)

        return function

    monkeypatch.setattr(stages, "stage_function", failing_first)
    return coming


def ingest(project: Path) -> str:
    """The task in a flow of its own, without the pause between its tries; how the stage ended."""
    from prefect import flow

    from flows.run_options import RunOptions
    from flows.session import session

    task = prefect_tasks.ingest.with_options(retry_delay_seconds=0)

    @flow(name="ingest-only")
    def only() -> str:
        with session(project, RunOptions(force=True)) as run:
            task(run)
            return str(run.stages["ingest"].state)

    return only()


@pytest.mark.ci
def test_a_passing_fault_of_the_machine_is_tried_again_and_succeeds(project: Path, faults: list[Exception]) -> None:
    told = RefitError("the store cannot be reached")
    told.__cause__ = ConnectionResetError("reset by peer")
    faults += [OSError("stale file handle"), told]
    assert ingest(project) == "executed"
    assert not faults


def test_the_users_mistake_is_not_tried_again_though_the_machine_told_of_it(
    project: Path, faults: list[Exception]
) -> None:
    mistake = UserError("there is no such file")
    mistake.__cause__ = FileNotFoundError("rows.csv")
    faults += [mistake, RefitError("a second try")]
    with pytest.raises(UserError, match="no such file"):
        ingest(project)
    assert len(faults) == 1


@pytest.mark.parametrize("fault", quick([RefitError("the batch has changed"), ZeroDivisionError("by zero")]))
def test_a_fault_that_no_machine_caused_is_not_tried_again(
    project: Path, faults: list[Exception], fault: Exception
) -> None:
    faults += [fault, RefitError("a second try")]
    with pytest.raises(RefitError, match=str(fault)):
        ingest(project)
    assert len(faults) == 1
