"""`register.approval: required`: the gate says yes, then a person says yes, and nothing promotes before that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from quick import quick
from servers import postgresql, postgresql_server  # noqa: F401

from flows import judging
from refit import config
from refit.errors import RefitError, UserError
from refit.files.artifacts import DECISION, read_json
from refit.operations import retention
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.schemas.gate_decision import Decision
from registry import approval, versions
from registry.client import client
from registry.ledger import Entry
from tasks import register
from tasks.register import lineage
from tests.tasks.register.conftest import decision_of

pytestmark = pytest.mark.usefixtures("same_process")


def requiring(project: Any, within: str = "7d", required: str = "required", *, days: float = 0) -> Context:
    """The project's context where approval is required, so many days after its clock stood still."""
    section = {"golden_rows": 20, "approval": required, "approval_within": within}
    params = project.context.params.model_copy(update={"register_": config.RegisterParams(**section)})
    now = datetime(2014, 1, 1, tzinfo=UTC) + timedelta(days=days)
    return replace(project.context, params=params, now=lambda: now)


@pytest.fixture
def waiting(project: Any) -> Any:
    """A project with champion 1, and version 2, which the gate would promote and which waits."""
    project.registered(0)
    project.context = requiring(project)
    project.registered(1)
    return project


@pytest.mark.ci
def test_a_version_that_the_gate_would_promote_waits_and_the_ledger_says_until_when(waiting: Any) -> None:
    assert waiting.aliases == {"challenger": "2", "champion": "1"}
    assert waiting.told == [("promote", None, "1"), ("await", "1", "2")]
    assert waiting.ledger[-1].digests["until"] == "2014-01-08T00:00:00Z"
    assert waiting.receipt["alias"] == "challenger"
    assert waiting.receipt["outcome"]["action"] == "await"
    assert "until 2014-01-08T00:00:00Z" in waiting.receipt["outcome"]["reasons"][0]


@pytest.mark.ci
def test_the_first_model_of_a_project_waits_too_and_show_says_so(project: Any) -> None:
    project.context = requiring(project)
    project.registered(0)
    assert project.aliases == {"challenger": "1"}
    with pytest.raises(UserError, match=r"champion yet; version 1 waits for a person's approval.*judged against the b"):
        register.champion_summary(project.context)
    register.approve(project.context, "1", "looks right")
    assert project.aliases["champion"] == "1"


@pytest.mark.ci
def test_an_approval_promotes_and_who_and_why_are_in_the_ledger(waiting: Any) -> None:
    told = register.approve(waiting.context, "2", "checked the slices")
    assert told == "toy version 2 is champion in place of version 1, as the gate said and you approved"
    assert waiting.aliases == {"challenger": "2", "champion": "2", "previous": "1"}
    line = waiting.ledger[-1]
    assert (line.action, line.from_version, line.reasons[0]) == ("promote", "1", "approved: checked the slices")
    assert "@" in line.who
    assert register.needs_rerun(waiting.context) == "version 2 of toy is the champion now"
    register.run(waiting.context)
    assert waiting.receipt["alias"] == "champion"
    assert len(waiting.ledger) == 3


def test_a_rejection_refuses_and_a_run_later_reports_it_without_asking_again(waiting: Any) -> None:
    assert register.needs_rerun(waiting.context) is None
    register.reject(waiting.context, "2", "the slice of nights is worse")
    assert waiting.aliases["champion"] == "1"
    assert waiting.told[-1] == ("refuse", "1", "2")
    assert register.needs_rerun(waiting.context) == "the approval of version 2 of toy was answered"
    register.run(waiting.context)
    assert waiting.receipt["outcome"] == {"action": "refuse", "reasons": ["rejected: the slice of nights is worse"]}
    assert register.needs_rerun(waiting.context) is None
    assert len(waiting.ledger) == 3


def test_who_only_judges_hears_that_a_person_must_approve_or_has_refused_the_same_model(waiting: Any) -> None:
    asks_nobody = requiring(waiting, required="none")
    assert register.prospects(asks_nobody) == register.Prospects(waits=True), "the ledger requires it"
    register.reject(waiting.context, "2", "the slice of nights is worse")
    client(waiting.store).delete_model_version("toy", "2")
    prospects = register.prospects(asks_nobody)
    assert "rejected: the slice of nights is worse; `refit promote 2 --why" in prospects.objections[0]
    judgement = judging.Judgement(Decision.read(waiting.folder / DECISION), None, prospects, waiting.store.shown)
    first, second, *_ = judging.lines(waiting.folder, judgement)
    assert first == "would not be promoted, although the gate says yes, against version 1"
    assert second == f"  {prospects.objections[0]}"
    waiting.trained(2)
    assert register.prospects(asks_nobody) == register.Prospects(waits=True), "another model was not refused"
    register.lift_approval(asks_nobody, "no more")
    assert register.prospects(asks_nobody) == register.Prospects()


@pytest.mark.parametrize("answer", [register.approve, register.reject])
def test_a_version_is_answered_once(waiting: Any, answer: Callable[[Context, str, str], str]) -> None:
    register.reject(waiting.context, "2", "no")
    with pytest.raises(UserError, match=r"version 2 of toy does not wait for approval: refuse at .*; waiting: none"):
        answer(waiting.context, "2", "after all")
    assert waiting.aliases["champion"] == "1"


@pytest.mark.parametrize("number", ["1", "7"])
def test_only_a_version_that_waits_can_be_approved(waiting: Any, number: str) -> None:
    with pytest.raises(UserError, match=rf"version {number} of toy does not wait|toy has no version '7'"):
        register.approve(waiting.context, number, "please")
    assert len(waiting.ledger) == 2


def test_after_its_time_an_approval_refuses(waiting: Any) -> None:
    late = requiring(waiting, days=7)
    with pytest.raises(UserError, match="version 2 of toy is refused: nobody approved it before 2014-01-08"):
        register.approve(late, "2", "finally")
    assert (waiting.aliases["champion"], waiting.told[-1]) == ("1", ("refuse", "1", "2"))


def test_after_its_time_a_run_refuses_whatever_the_time_by_its_own_params(waiting: Any) -> None:
    almost, late = requiring(waiting, days=6.99), requiring(waiting, "99d", days=7)
    assert register.needs_rerun(almost) is None
    assert register.needs_rerun(late) == "nobody approved version 2 of toy in time"
    register.run(late)
    assert waiting.told[-1] == ("refuse", "1", "2")
    assert waiting.receipt["outcome"]["reasons"] == ["nobody approved it before 2014-01-08T00:00:00Z"]


@pytest.mark.ci
def test_an_approval_of_what_was_compared_with_another_champion_is_refused_and_a_run_judges_again(
    waiting: Any,
) -> None:
    waiting.registered(2)  # waits next to version 2
    assert [each.version for each in approval.waits(waiting.ledger)] == ["2", "3"]
    register.approve(waiting.context, "3", "the newer one")
    with pytest.raises(UserError, match="was judged against version 1, but version 3 is the champion now; `refit run`"):
        register.approve(waiting.context, "2", "this one as well")
    assert waiting.aliases["champion"] == "3"
    waiting.registered(1)  # judged again, against version 3
    assert (waiting.told[-1], waiting.aliases["champion"]) == (("await", "3", "2"), "3")
    register.approve(waiting.context, "2", "now it is")
    assert waiting.aliases["champion"] == "2"


def test_a_version_that_an_experiment_judged_again_is_not_approved_by_the_earlier_decision(waiting: Any) -> None:
    waiting.evaluated(promote=False)
    register.run(replace(waiting.context, may_promote=False))
    with pytest.raises(UserError, match="was judged again since it began to wait"):
        register.approve(waiting.context, "2", "yes")
    assert waiting.aliases["champion"] == "1"


def test_promote_without_a_reason_is_no_way_round(waiting: Any) -> None:
    with pytest.raises(UserError, match=r'a person approves what becomes champion of toy.*`refit approve 2 --why "'):
        register.promote(waiting.context, "2")
    assert (waiting.aliases["champion"], len(waiting.ledger)) == ("1", 2)
    register.promote(waiting.context, "2", "I am that person")
    assert (waiting.ledger[-1].action, waiting.ledger[-1].reasons[0]) == ("promote", "I am that person")
    register.rollback(waiting.context)
    with pytest.raises(UserError, match="does not wait for approval"):
        register.approve(waiting.context, "2", "again")


def test_the_ledgers_champion_needs_no_approval_to_have_its_alias_back(waiting: Any) -> None:
    client(waiting.store).set_registered_model_alias("toy", "champion", "2")
    assert "version 1 is champion again in place of version 2" in register.promote(waiting.context, "1")
    assert "version 2 is champion" in register.approve(waiting.context, "2", "yes"), "it still waits"


def test_promoting_what_a_person_refused_overrules_that_person(waiting: Any) -> None:
    register.reject(waiting.context, "2", "no")
    with pytest.raises(UserError, match=r"it was refused at .*: rejected: no"):
        register.promote(waiting.context, "2")
    register.promote(waiting.context, "2", "a later look")
    assert waiting.ledger[-1].action == "overrule"


def test_promoting_what_waited_too_long_overrules_also_where_no_run_refused_it_yet(waiting: Any) -> None:
    late = requiring(waiting, days=400)
    with pytest.raises(UserError, match=r"it was refused at .*: nobody approved it before 2014-01-08"):
        register.promote(late, "2")
    register.promote(late, "2", "a later look")
    assert [each.action for each in waiting.ledger[2:]] == ["refuse", "refuse", "overrule"]


def test_rollback_repair_and_an_experiment_never_promote_what_waits(waiting: Any) -> None:
    with pytest.raises(UserError, match="never champion"):
        register.rollback(waiting.context, "2")
    client(waiting.store).delete_registered_model_alias("toy", "champion")
    register.repair(waiting.context)
    register.run(replace(waiting.context, may_promote=False))
    register.run(waiting.context)
    assert waiting.aliases["champion"] == "1"
    assert [action for action, *_ in waiting.told] == ["promote", "await"]


@pytest.mark.ci
def test_a_checkout_whose_params_ask_for_no_approval_waits_all_the_same(waiting: Any) -> None:
    waiting.context = requiring(waiting, required="none")
    waiting.registered(2)
    assert (waiting.told[-1], waiting.aliases["champion"]) == (("await", "1", "3"), "1")
    register.lift_approval(waiting.context, "a pilot ends")
    assert waiting.told[-1] == ("lift", "1", "1")
    waiting.registered(3)
    assert (waiting.told[-1], waiting.aliases["champion"]) == (("promote", "1", "4"), "4")


def judged_again_without_approval(project: Any) -> None:
    """A run with the same candidate after approval was lifted; the decision differs by its note, as in a project."""
    project.context = requiring(project, required="none")
    register.lift_approval(project.context, "a pilot ends")
    decision = decision_of(**{**read_json(project.folder / DECISION), "notes": ["no note of approval any more"]})
    decision.write(project.folder / DECISION)
    register.run(project.context)


@pytest.mark.parametrize("late", quick([False, True], 1))
def test_what_a_person_refused_stays_refused_once_approval_is_lifted(waiting: Any, late: bool) -> None:
    if late:
        with pytest.raises(UserError, match="nobody approved it before"):
            register.approve(requiring(waiting, days=8), "2", "finally")
    else:
        register.reject(waiting.context, "2", "the slice of nights is worse")
    judged_again_without_approval(waiting)
    assert (waiting.aliases["champion"], waiting.told[-1]) == ("1", ("refuse", "1", "2"))
    (reason,) = waiting.receipt["outcome"]["reasons"]
    assert reason.startswith("it was refused at 2014-01-")
    assert '`refit promote 2 --why "..."` overrules' in reason
    register.promote(waiting.context, "2", "after all")
    assert (waiting.aliases["champion"], waiting.ledger[-1].action) == ("2", "overrule")


def test_what_a_person_refused_does_not_wait_again_because_waits_are_longer_now(waiting: Any) -> None:
    register.reject(waiting.context, "2", "no")
    waiting.context = requiring(waiting, "14d")
    decision = decision_of(**{**read_json(waiting.folder / DECISION), "notes": ["14d at most"]})
    decision.write(waiting.folder / DECISION)
    register.run(waiting.context)
    assert (approval.waits(waiting.ledger), waiting.aliases["champion"]) == ([], "1")


def test_what_waits_still_waits_as_long_as_before_once_approval_is_lifted(waiting: Any) -> None:
    judged_again_without_approval(waiting)
    assert waiting.aliases["champion"] == "1"
    (wait,) = approval.waits(waiting.ledger)
    assert (wait.version, wait.until) == ("2", datetime(2014, 1, 8, tzinfo=UTC))
    assert not approval.is_required(waiting.ledger)
    register.approve(waiting.context, "2", "checked")
    assert waiting.aliases["champion"] == "2"


def test_approval_is_not_lifted_where_the_params_require_it_or_nothing_does(waiting: Any, new_project: Any) -> None:
    with pytest.raises(UserError, match="set it to none there first"):
        register.lift_approval(waiting.context, "why not")
    with pytest.raises(UserError, match="nothing to lift"):
        register.lift_approval(new_project("other").context, "why not")


def test_no_setting_of_one_run_lifts_the_requirement(tmp_path: Path) -> None:
    for name in ("register.approval", "register.approval_within"):
        with pytest.raises(UserError, match=f"{name} is no setting of one run"):
            run_file.check(tmp_path, run_file.RunFile(overrides={name: "none"}))


def test_a_model_that_fails_its_check_does_not_wait(project: Any) -> None:
    project.registered(0)
    project.judged(1)
    register.run(project.without_leave())
    (stored,) = (project.folder / ".refit/mlartifacts").rglob(f"{project.receipt['run_id']}/artifacts/model/golden.p*")
    stored.write_bytes(b"?")
    with pytest.raises(RefitError, match="is not promoted: the stored model did not pass its check"):
        register.run(requiring(project))
    assert project.told[-1] == ("refuse", "1", "2")
    assert approval.waits(project.ledger) == []


def test_a_model_that_was_changed_while_it_waited_is_not_promoted(waiting: Any) -> None:
    (stored,) = (waiting.folder / ".refit/mlartifacts").rglob(f"{waiting.receipt['run_id']}/artifacts/model/golden.p*")
    stored.write_bytes(b"?")
    with pytest.raises(RefitError, match="did not pass its check"):
        register.approve(waiting.context, "2", "yes")
    assert waiting.aliases["champion"] == "1"


def test_a_version_still_waits_after_a_check_that_failed_and_a_repaired_one_is_approved(waiting: Any) -> None:
    (stored,) = (waiting.folder / ".refit/mlartifacts").rglob(f"{waiting.receipt['run_id']}/artifacts/model/golden.p*")
    whole = stored.read_bytes()
    stored.write_bytes(b"?")
    with pytest.raises(RefitError, match="did not pass its check"):
        register.approve(waiting.context, "2", "yes")
    assert waiting.told[-1] == ("refuse", "1", "2")
    assert [each.version for each in approval.waits(waiting.ledger)] == ["2"]
    assert register.needs_rerun(waiting.context) is None
    stored.write_bytes(whole)
    register.approve(waiting.context, "2", "yes, now")
    assert waiting.aliases["champion"] == "2"


@pytest.mark.slow
def test_show_explain_and_gc_know_that_a_version_waits(waiting: Any) -> None:
    (wait,) = register.champion_summary(waiting.context).waiting
    assert (wait.version, wait.against, wait.until) == ("2", "1", datetime(2014, 1, 8, tzinfo=UTC))
    *_, judged, state = lineage.explain(waiting.context, "2")
    assert "passed the gate and began to wait" in judged
    assert state.startswith("It waits for a person's approval until 2014-01-08T00:00:00Z")
    waiting.context = replace(
        waiting.context,
        params=waiting.context.params.model_copy(update={"retention": config.RetentionParams(versions=1)}),
    )
    waiting.registered(2, promote=False)
    assert retention.collect(waiting.context).stay["2"] == "waits for approval"


@pytest.mark.slow
def test_the_wait_of_a_deleted_version_can_be_ended(waiting: Any) -> None:
    waiting.registered(2, promote=False)
    client(waiting.store).delete_model_version("toy", "2")
    register.reject(waiting.context, "2", "it is gone")
    assert approval.waits(waiting.ledger) == []
    assert versions.version(waiting.store, "toy", "2") is None


def test_the_note_of_a_decision_says_that_a_person_approves(project: Any) -> None:
    (remark,) = requiring(project, "36h").params.register_.remarks
    assert remark == "a version that the gate would promote waits for a person's approval, 36h at most"
    assert project.context.params.register_.remarks == ()


def test_a_damaged_time_of_a_wait_ends_it() -> None:
    line = Entry("k", "2014-01-01T00:00:00Z", "ann", "test", "await", "toy", None, "1", ())
    assert approval.Wait(line).until == datetime(2014, 1, 1, tzinfo=UTC)


@pytest.mark.ci
def test_every_clone_that_shares_a_ledger_sees_the_wait_and_its_answer(
    new_project: Callable[[str], Any],
    postgresql: str,  # noqa: F811
) -> None:
    first, second = new_project("first"), new_project("second")
    shared = f"sqlite:///{first.folder / '.refit/mlflow.db'}"
    for clone in (first, second):
        registry = config.RegistryParams(tracking_uri=shared, ledger_uri=postgresql)
        object.__setattr__(clone.context, "params", clone.context.params.model_copy(update={"registry": registry}))
        clone.context = requiring(clone)
    first.registered(0)
    for reader in (first, second):
        assert [each.version for each in approval.waits(reader.ledger)] == ["1"]
    register.approve(requiring(second, days=9999), "1", "seen from the other clone, whose clock is wrong")
    assert first.aliases["champion"] == "1"
    assert register.needs_rerun(first.context) == "version 1 of toy is the champion now"
    with pytest.raises(UserError, match="version 1 of toy does not wait"):
        register.reject(first.context, "1", "too late")
