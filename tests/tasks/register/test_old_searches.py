"""What `refit gc` deletes of the searches that are stored in the ledger's database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import pytest
from servers import execute, postgresql, postgresql_server  # noqa: F401

from refit.config import RetentionParams
from refit.operations import retention
from refit.runtime.context import Context
from registry import studies

pytestmark = pytest.mark.usefixtures("same_process")


def asking(project: Any, **wanted: Any) -> Context:
    """The project's context with these params of retention, months after the last run."""
    params = project.context.params.model_copy(update={"retention": RetentionParams(**wanted)})
    later = datetime.now(UTC) + timedelta(days=100)
    return replace(project.context, params=params, now=lambda: later)


def named(plan: retention.DeletionPlan) -> list[tuple[str, str]]:
    return [(item.kind, item.what) for item in plan.items]


@pytest.mark.ci
def test_searches_in_the_shared_database_go_once_their_newest_trial_is_old(
    project: Any,
    postgresql: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REFIT_LEDGER_URI", postgresql)
    assert named(retention.collect(asking(project))) == []
    assert not studies.exists(postgresql), "asking what could be deleted makes nothing"
    storage = studies.storage(postgresql)
    unused = optuna.create_study(storage=storage, study_name="toy: without a trial")
    studies.mark_used(unused)
    for name, days in (("toy: old", [0, 1]), ("toy: in use", [0, 90]), ("toys: of another model", [0])):
        study = optuna.create_study(storage=storage, study_name=name)
        for age in days:
            trial = optuna.create_trial(value=0.5)
            trial.datetime_start = datetime.now() + timedelta(days=age)  # noqa: DTZ005, as Optuna stores it
            study.add_trial(trial)
    context = asking(project)
    assert named(retention.collect(asking(project, runs_days=None))) == []
    assert named(retention.collect(context, delete=True)) == [
        ("search", "toy: old"),
        ("search", "toy: without a trial"),
    ]
    assert named(retention.collect(context)) == []
    left = optuna.get_all_study_names(studies.storage(postgresql))
    assert left == ["toy: in use", "toys: of another model"]


def test_the_age_of_a_search_does_not_depend_on_the_time_zone_of_a_machine(postgresql: str) -> None:  # noqa: F811
    storage, now = studies.storage(postgresql), datetime.now(UTC)
    for name in ("toy: marked", "toy: of trials alone"):
        study = optuna.create_study(storage=storage, study_name=name)
        trial = optuna.create_trial(value=0.5)
        trial.datetime_start = (now - timedelta(hours=12)).replace(tzinfo=None)  # now, in the zone furthest west
        study.add_trial(trial)
        if name == "toy: marked":
            studies.mark_used(study)
    found = studies.last_used(postgresql, "toy")
    assert abs(found["toy: marked"] - now) < timedelta(minutes=1)
    assert found["toy: of trials alone"] == now + timedelta(hours=12), "late rather than early"


def test_searches_that_cannot_be_read_are_a_note_and_what_is_to_stay_is_not_read(
    project: Any,
    postgresql: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REFIT_LEDGER_URI", postgresql)
    studies.storage(postgresql)
    execute(postgresql, "drop table refit_tuning.studies cascade")
    (note,) = retention.collect(asking(project)).notes
    assert note.startswith("stored searches are left alone: the database postgresql://")
    assert "UndefinedTable" in note
    assert retention.collect(asking(project, runs_days=None)).notes == ()
