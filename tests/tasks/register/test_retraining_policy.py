"""A run that the clock started trains only what the policy leaves to the clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flows import retraining_policy
from flows.admission import admitted
from flows.retraining_policy import NotDue, require_due
from flows.run_options import RunOptions
from refit.config import override, parse
from refit.models.incumbent import RECIPE
from refit.runtime import run_file
from tasks import register

pytestmark = pytest.mark.usefixtures("same_process")
WINDOW = {"first": "2013-12-01T00:00:00Z", "end": "2013-12-08T00:00:00Z"}


@pytest.fixture(autouse=True)
def labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a flow run there is nothing to name."""
    monkeypatch.setattr(retraining_policy, "label", lambda *_: None)


def asked(project: Any, reason: str = "schedule", window: object = None, **settings: object) -> None:
    """Ask whether a run goes on to train; the policy lists performance alone unless `settings` say otherwise."""
    raw = project.context.params.model_dump(mode="json", by_alias=True, exclude_unset=True)
    params = parse(override(raw, {"drift.retrain_on": ["performance"], **settings}))
    options = RunOptions(trigger=admitted(reason, window, None, None))
    require_due(replace(project.context, params=params), options)


def test_the_clock_trains_nothing_where_the_policy_leaves_it_to_drift(project: Any) -> None:
    project.registered()
    with pytest.raises(NotDue, match=r"nothing is trained: drift\.retrain_on does not list schedule") as ended:
        asked(project)
    assert (ended.value.state, ended.value.result) == ("NotDue", {"champion": "1"})
    with pytest.raises(NotDue):  # how the gate decides is nothing that a model is made by
        asked(project, **{"evaluate.gate.max_loss": 0.9, "drift.retrain_on": []})


def test_a_person_a_drift_decision_and_a_policy_that_lists_schedule_train(project: Any) -> None:
    project.registered()
    asked(project, "manual")
    asked(project, "drift: performance", WINDOW)
    asked(project, **{"drift.retrain_on": ["schedule"]})


def test_the_clock_trains_the_first_champion(project: Any) -> None:
    project.registered(promote=False)
    asked(project)


def test_the_clock_trains_by_other_params_or_code_than_those_of_the_newest_version(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.registered()
    asked(project, **{"train.seed": 5})
    asked(project, **{"featurize.windows.test": 2})
    monkeypatch.setattr(run_file, "code_digest", lambda stage: f"{stage} of a later Refit")
    asked(project)
    recorded = project.version("1").tags[RECIPE]
    register.run(project.context)  # the later Refit made the same model
    assert project.version("1").tags[RECIPE] != recorded
    with pytest.raises(NotDue):
        asked(project)


def test_a_class_of_the_project_that_reads_a_source_is_part_of_what_makes_a_model(project: Any) -> None:
    (project.context.project / "feed.py").write_text("class Feed: ...")
    raw = project.context.params.model_dump(mode="json", by_alias=True, exclude_unset=True)
    source = {"kind": "feed.py:Feed", "columns": {"id": "integer"}, "key": ["id"], "event_time": None}
    params = parse({**raw, "ingest": {**raw["ingest"], "sources": {**raw["ingest"]["sources"], "extra": source}}})
    before = run_file.recipe_digest(project.context.project, params)
    (project.context.project / "feed.py").write_text("class Feed: size = 2")
    assert run_file.recipe_digest(project.context.project, params) != before
