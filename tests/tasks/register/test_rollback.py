"""Going back to an earlier version: only to one that proves to be what it was, and told in the ledger."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from quick import quick

from refit.cli.inspection import print_champion
from refit.errors import RefitError, UserError
from refit.models import incumbent, verification
from refit.operations import moving
from registry import versions
from registry.client import client
from registry.ledger import Ledger
from tasks import register
from tasks.register import lineage

pytestmark = pytest.mark.usefixtures("same_process")  # that a fresh process is asked is tested separately


def test_the_version_before_comes_back_and_the_ledger_tells_it(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    assert register.rollback(project.context, why="it fails on Mondays") == (
        "toy version 1 is champion again in place of version 2"
    )
    assert (project.aliases["champion"], project.aliases["previous"]) == ("1", "2")
    line = register.history(project.context)[-1]
    assert (line.action, line.from_version, line.to_version) == ("rollback", "2", "1")
    assert line.reasons == ("it fails on Mondays",)
    (objection,) = register.prospects(project.context).objections
    assert objection.startswith("it was replaced by hand at ")
    register.run(project.context)
    assert project.aliases["champion"] == "1", "the next run must not undo it"
    assert project.receipt["outcome"]["reasons"] == [objection], "and says why, not what the gate had found"


@pytest.mark.ci
def test_a_rollback_that_is_typed_twice_does_not_undo_itself(project: Any) -> None:
    for seed in range(3):
        project.registered(seed)
    register.rollback(project.context, why="it fails on Mondays")
    told = project.told
    for _ in range(2):
        with pytest.raises(UserError, match=r"rolled back already, from version 3 to version 2 at .*it fails on Mon"):
            register.rollback(project.context, why="it fails on Mondays")
    assert (project.aliases["champion"], project.told) == ("2", told)
    register.rollback(project.context, "1")
    with pytest.raises(UserError, match="rolled back already, from version 2 to version 1 at "):
        register.rollback(project.context)
    assert "version 2 is champion" in register.promote(project.context, "2", why="Mondays are over")
    assert "version 1 is champion again" in register.rollback(project.context), "it was replaced by a promotion"


def test_a_decision_of_before_that_another_version_followed_says_so(project: Any) -> None:
    project.registered(0)
    first = {
        path: path.read_bytes()
        for folder in ("models", "reports")
        for path in (project.folder / folder).rglob("*")
        if path.is_file()
    }
    project.registered(1)
    for path, content in first.items():
        path.write_bytes(content)
    register.run(project.context)
    assert (project.receipt["version"], project.aliases["champion"]) == ("1", "2")
    (reason,) = project.receipt["outcome"]["reasons"]
    assert reason == "it was champion by this decision, and another one is now; `refit promote 1` puts it back"


def test_any_version_may_be_named_and_going_back_twice_is_refused(project: Any) -> None:
    for seed in range(3):
        project.registered(seed)
    register.rollback(project.context, "1")
    assert project.aliases["champion"] == "1"
    with pytest.raises(UserError, match="version 1 is the champion already"):
        register.rollback(project.context, "1")
    with pytest.raises(UserError, match="toy has no version '9'; `refit history`"):
        register.rollback(project.context, "9")


def test_a_version_that_the_gate_refused_is_no_earlier_one_to_go_back_to(project: Any) -> None:
    project.registered(0)
    project.registered(1, promote=False)
    told = register.history(project.context)
    with pytest.raises(UserError, match=r"version 2 of toy was never champion.*`refit promote 2`"):
        register.rollback(project.context, "2")
    with pytest.raises(UserError, match="toy has no version ''"):
        register.rollback(project.context, "")
    assert project.aliases["champion"] == "1"
    assert register.history(project.context) == told


def test_a_refused_version_whose_alias_was_set_in_mlflow_is_no_earlier_one_to_go_back_to(project: Any) -> None:
    project.registered(0)
    project.registered(1, promote=False)
    set_alias = client(project.store).set_registered_model_alias
    set_alias("toy", "champion", "2")
    with pytest.raises(UserError, match=r"version 2 of toy has the alias champion, but by the ledger version 1 is"):
        register.rollback(project.context)
    register.promote(project.context, "1", why="nobody judged 2")
    with pytest.raises(UserError, match="toy has no previous version to go back to"):
        register.rollback(project.context)
    set_alias("toy", "previous", "2")  # as an older Refit left it
    for to in (None, "2"):
        with pytest.raises(UserError, match="version 2 of toy was never champion"):
            register.rollback(project.context, to)
    assert project.aliases["champion"] == "1"


def test_a_version_that_someone_registered_and_made_champion_by_hand_can_be_shown_and_left(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    project.registered(0)
    mlflow = client(project.store)
    foreign = mlflow.create_model_version("toy", "file:///elsewhere").version
    mlflow.set_registered_model_alias("toy", "champion", foreign)
    print_champion(register.champion_summary(project.context))
    assert f"toy version {foreign}" in capsys.readouterr().out
    register.rollback(project.context, "1")
    assert project.aliases["champion"] == "1"


@pytest.mark.slow
def test_anchor_that_is_taken_out_of_charge_is_no_anchor_any_more(project: Any) -> None:
    project.registered(0)
    project.registered(1, mode="superiority")
    assert register.champion_summary(project.context).anchor == "2"
    register.rollback(project.context)
    assert register.champion_summary(project.context).anchor == "1"


def test_without_an_earlier_version_there_is_nothing_to_go_back_to(project: Any) -> None:
    with pytest.raises(UserError, match="toy has no previous version to go back to"):
        register.rollback(project.context)
    project.registered(0)
    with pytest.raises(UserError, match="toy has no previous version to go back to"):
        register.rollback(project.context)


def test_an_alias_deleted_in_mlflow_is_put_back_from_the_ledger(project: Any) -> None:
    from registry.client import client

    project.registered(0)
    assert "nothing to repair" in register.repair(project.context)
    client(project.store).delete_registered_model_alias("toy", "champion")
    with pytest.raises(RefitError, match="`refit repair`"):
        register.champion_summary(project.context)
    with pytest.raises(RefitError, match="`refit repair` puts it back"):
        register.rollback(project.context, "1")
    lines = len(project.ledger)
    assert register.repair(project.context).startswith("toy version 1 has its alias champion back")
    assert register.champion_summary(project.context).version == "1"
    assert len(project.ledger) == lines, "nothing was decided"


def test_version_whose_files_were_touched_does_not_come_back(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    run_id = next(line for line in project.ledger if line.to_version == "1")
    assert run_id is not None
    weights = sorted(Path(project.store.home / "mlartifacts").rglob("data/candidate/model.skops"))
    assert len(weights) == 2
    for path in weights:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RefitError, match="did not pass its check"):
        register.rollback(project.context)
    assert project.aliases["champion"] == "2"
    assert register.history(project.context)[-1].action == "refuse"


def test_what_a_person_rolled_back_goes_to_no_other_environment(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    register.rollback(project.context, why="it fails on Mondays")
    with (
        pytest.raises(UserError, match=r"replaced version 2 of toy by version 1 on .* \(it fails on Mondays\)"),
        moving.fetched(project.context, "2", None),
    ):
        pass


@pytest.mark.ci
@pytest.mark.parametrize(
    "fault",
    quick(
        [
            OSError(errno.ENOSPC, "No space left on device"),
            OSError(errno.EIO, "Input/output error"),
            MemoryError(),
            ValueError("The following failures occurred: OSError(28, 'No space left on device')"),
            TimeoutError("loading it took more than 600 s"),
            versions.Unavailable("the files of version 2 of toy cannot be read: Connection refused"),
        ],
        *(0, 3, 5),
    ),
    ids=["full disk", "failing disk", "no memory", "a library's words for a full disk", "slow", "network"],
)
def test_a_fault_of_the_machine_is_no_verdict_on_a_model(
    project: Any, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    project.registered(0)
    project.judged(1)
    before = project.ledger

    def fails(*_: Any, **__: Any) -> float:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(verification, "in_fresh_process", fails)
        with pytest.raises(RefitError, match=r"version 2 of toy could not be checked: .*; nothing was decided"):
            register.run(project.context)
        with pytest.raises(RefitError, match="could not be checked"):
            register.promote(project.context, "2")
    assert project.ledger == before
    register.run(project.context)
    assert project.aliases["champion"] == "2"


def test_a_broken_ledger_lets_nobody_take_charge_until_a_person_accepts_it_and_says_why(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    with closing(sqlite3.connect(project.folder / ".refit/ledger.db")) as connection, connection:
        connection.executescript("drop trigger ledger_no_update; update ledger set who = 'eve' where id = 1")
    for move in (register.rollback, register.repair, register.run):
        with pytest.raises(RefitError, match=r"ledger\.db is broken: line 1 .*--accept-ledger"):
            move(project.context)
    with pytest.raises(RefitError, match="is broken: line 1 "):
        register.promote(project.context, "1", why="it must")
    assert project.aliases["champion"] == "2"
    assert register.champion_summary(project.context).since == "2014-01-01T00:00:00Z"
    assert "goes on with its 2 lines" in register.repair(project.context, accept_ledger="the disk failed")
    register.rollback(project.context)
    assert project.aliases["champion"] == "1"
    accepted = project.ledger[2]
    assert (accepted.action, accepted.to_version) == ("accept", "2")
    assert accepted.reasons[0].startswith("the disk failed; what was wrong: line 1 (promote of version 1, ")
    with pytest.raises(UserError, match="is whole: there is nothing to accept"):
        register.repair(project.context, accept_ledger="again")


def test_where_the_alias_is_gone_an_older_version_needs_a_reason_to_be_promoted(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    client(project.store).delete_registered_model_alias("toy", "champion")
    with pytest.raises(
        UserError, match="version 1 of toy may not be promoted: version 2 of toy is the champion by the"
    ):
        register.promote(project.context, "1")
    assert "champion" not in project.aliases
    assert register.promote(project.context, "1", why="2 failed") == "toy version 1 is champion"
    assert project.told[-1] == ("overrule", None, "1")


@pytest.mark.ci
def test_no_run_replaces_a_champion_whose_alias_was_set_outside_of_refit(project: Any) -> None:
    project.registered(0)
    project.registered(1, promote=False)
    client(project.store).set_registered_model_alias("toy", "champion", "2")
    project.trained(2)
    seen = r"version 2 of toy has the alias champion, but by the ledger version 1 is .* until then no run promotes"
    incumbent.refresh(project.context)  # with a warning
    project.evaluated()
    told = project.told
    with pytest.raises(RefitError, match=seen):
        register.run(project.context)
    assert project.told == told, "nothing is decided: once the alias is right, the same run goes on"

    with pytest.raises(UserError, match="version 2 of toy may not be promoted: version 2 of toy has the alias"):
        register.promote(project.context, "2")
    assert register.promote(project.context, "2", why="it is the new one") == "toy version 2 is champion"
    assert project.told[-1] == ("overrule", "2", "2")
    register.run(project.context)
    assert project.told[-1] == ("promote", "2", "3")

    accepted = next(each for each in lineage.explain(project.context, "2") if "it is the new one" in each)
    assert "version 2 was promoted against the gate (it is" in accepted, "and not in place of itself"
    assert Ledger.of(project.store).demotion("toy", "2") is None, "the gate replaced it, and no person"


@pytest.mark.slow
def test_no_run_replaces_a_refused_version_that_has_the_alias_of_a_model_without_a_champion(project: Any) -> None:
    project.registered(0, promote=False)
    client(project.store).set_registered_model_alias("toy", "champion", "1")
    (warning,) = register.ledger_warnings(project.context)
    assert "version 1 of toy has the alias champion, but by the ledger none was promoted" in warning
    project.judged(1)
    with pytest.raises(RefitError, match=r"but by the ledger none was promoted.* until then no run promotes"):
        register.run(project.context)
    register.promote(project.context, "1", why="it is the old model")
    register.run(project.context)
    assert project.told == [("refuse", None, "1"), ("overrule", "1", "1"), ("promote", "1", "2")]


@pytest.mark.ci
def test_an_alias_set_outside_of_refit_is_undone_by_the_command_that_the_warning_names(project: Any) -> None:
    project.registered(0)
    project.registered(1, mode="superiority")
    client(project.store).set_registered_model_alias("toy", "champion", "1")
    (warning,) = register.ledger_warnings(project.context)
    assert "`refit promote 2` undoes that" in warning
    assert register.promote(project.context, "2") == "toy version 2 is champion again in place of version 1"
    assert project.told[-2:] == [("promote", "1", "2"), ("promote", "1", "2")], "nothing was refused, or overruled"
    assert project.ledger[-1].reasons == ("the alias of version 1 was set outside of Refit",)
    assert (project.aliases["previous"], register.champion_summary(project.context).anchor) == ("1", "2")
    assert register.promote(project.context, "2") == "toy version 2 is the champion already"
    assert "version 1 is champion again" in register.rollback(project.context), "the undone alias was no rollback"


@pytest.mark.slow
def test_a_model_that_a_person_replaced_does_not_come_back_under_another_number(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    register.rollback(project.context, why="it fails on Mondays")
    demoted = project.version("2")
    client(project.store).delete_model_version("toy", "2")  # as `refit gc` does after ten more
    project.judged(1)
    register.run(project.context)
    assert project.receipt["version"] == "3"
    assert project.receipt["model_digest"] == demoted.tags["refit.model_digest"]
    assert project.aliases["champion"] == "1"
    assert "the same model, version 2, was replaced by hand at" in project.receipt["outcome"]["reasons"][0]
    assert "version 3 is champion" in register.promote(project.context, "3", why="Mondays are over")
