"""A champion that was deleted in MLflow is registered again, and whatever asks about it finds its way."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from quick import quick

from refit import learners
from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json, write_json
from refit.models import incumbent, model_cache
from refit.models.verification import GOLDEN
from registry import versions
from registry.client import client
from registry.ledger import Ledger
from tasks import register
from tasks.register import lineage

pytestmark = pytest.mark.usefixtures("same_process")


@pytest.fixture
def bereft(project: Any) -> Any:
    """Version 2 was promoted after version 1, and was deleted."""
    project.registered(0)
    project.registered(1, mode="superiority")
    client(project.store).delete_model_version("toy", "2")
    return project


def local(project: Any, number: str) -> Path:
    (found,) = (project.folder / model_cache.MODELS).glob(f"{number}-*")
    return Path(found)


def stored(project: Any) -> Path:
    """The folder that MLflow keeps for version 2."""
    return Path(project.folder / ".refit/mlartifacts/toy" / project.receipt["run_id"] / "artifacts/model")


def test_a_version_that_takes_charge_leaves_a_local_copy_and_a_note_of_its_tags(project: Any) -> None:
    project.registered(0)
    found = versions.version(project.store, "toy", "1")
    assert model_cache.record(project.context, "1") == found
    assert (local(project, "1") / GOLDEN).is_file()
    project.registered(1, promote=False)
    assert model_cache.record(project.context, "2") is None


@pytest.mark.ci
def test_it_comes_back_under_a_new_number_with_its_files_and_all_of_its_tags(bereft: Any) -> None:
    before = model_cache.record(bereft.context, "2")
    assert before is not None
    with pytest.raises(RefitError, match="its version was deleted; `refit repair` registers it again"):
        register.champion_summary(bereft.context)
    assert register.repair(bereft.context).endswith("the same model is champion again as version 3")
    found = versions.version(bereft.store, "toy", "3")
    assert found is not None
    assert found.tags == {**before.tags, "refit.restored_from": "2"}
    assert found.run_id == before.run_id
    assert bereft.aliases == {"challenger": "3", "champion": "3", "previous": "1"}
    head = Ledger.of(bereft.store).examine().head
    assert versions.registered(bereft.store, "toy").tags == {"refit.anchor": "3", "refit.ledger": head}
    assert bereft.told[-1] == ("restore", "2", "3")
    assert "nothing to repair" in register.repair(bereft.context)


def test_what_asks_about_it_makes_sense_afterwards(bereft: Any) -> None:
    register.repair(bereft.context)
    shown = register.champion_summary(bereft.context)
    assert (shown.version, shown.previous, shown.anchor, shown.action) == ("3", "1", "3", "restore")
    assert shown.why[0] == "version 2 was deleted in MLflow; this is the same model, registered again"
    assert shown.decision is not None
    assert shown.decision.promote is True
    gone, again = lineage.explain(bereft.context, "2"), lineage.explain(bereft.context, "3")
    assert gone[-1].endswith("version 2 of toy was deleted in MLflow, version 3 is the same model.")
    assert "version 2 was promoted in place of version 1" in gone[0]
    assert "version 3 was registered again in place of version 2" in again[-2]
    assert again[-1] == "It is the champion now."
    assert lineage.lineage(bereft.context, "3").model_digest == shown.decision.candidate
    for ask in (lineage.lineage, register.promote, register.rollback):
        with pytest.raises(UserError, match="version 2 of toy was deleted in MLflow, version 3 is the same model"):
            ask(bereft.context, "2")


@pytest.mark.ci
def test_a_rollback_and_the_next_run_go_on_from_it(bereft: Any) -> None:
    register.repair(bereft.context)
    assert "no longer in the registry" in (register.needs_rerun(bereft.context) or "")
    incumbent.refresh(bereft.context)
    register.run(bereft.context)
    assert (bereft.receipt["version"], bereft.receipt["alias"]) == ("3", "champion")
    assert register.needs_rerun(bereft.context) is None
    assert len(client(bereft.store).search_model_versions("name = 'toy'")) == 2, "no second one for the candidate"
    register.rollback(bereft.context)
    assert (bereft.aliases["champion"], bereft.aliases["previous"]) == ("1", "3")
    register.rollback(bereft.context, "3")
    assert bereft.aliases["champion"] == "3"


@pytest.mark.slow
def test_a_challenger_judged_against_it_may_still_take_charge(project: Any) -> None:
    project.registered(0)
    project.judged(1)
    register.run(project.without_leave())
    client(project.store).delete_model_version("toy", "1")
    register.repair(project.context)
    assert project.aliases["champion"] == "3"
    assert register.promote(project.context, "2") == "toy version 2 is champion in place of version 3"


@pytest.mark.parametrize("lost", ["the local copy", "a file of the local copy", "the files in MLflow", "the run"])
def test_one_whole_copy_of_its_files_is_enough(bereft: Any, lost: str) -> None:
    if lost == "the local copy":
        shutil.rmtree(local(bereft, "2"))
    elif lost == "a file of the local copy":
        (local(bereft, "2") / GOLDEN).write_bytes(b"?")
    elif lost == "the files in MLflow":
        shutil.rmtree(stored(bereft))
    else:
        client(bereft.store).delete_run(bereft.receipt["run_id"])
        shutil.rmtree(stored(bereft).parents[1])
    register.repair(bereft.context)
    folder = incumbent.fetch_model(bereft.context, "3")
    golden = pq.read_table(folder.parents[1] / GOLDEN)
    predicted = learners.load(folder).predict(golden.drop_columns(["_prediction"]))
    assert predicted.tolist() == golden.column("_prediction").to_pylist()
    assert client(bereft.store).get_run(bereft.receipt["run_id"]).info.lifecycle_stage == "active"


def test_without_the_note_the_tags_that_mlflow_kept_of_the_deleted_version_do(bereft: Any) -> None:
    shutil.rmtree(bereft.folder / model_cache.RECORDS)
    register.repair(bereft.context)
    assert bereft.aliases["champion"] == "3"


def test_where_the_whole_model_was_deleted_its_number_is_none_that_the_ledger_knows(bereft: Any) -> None:
    client(bereft.store).delete_registered_model("toy")
    register.repair(bereft.context)
    assert bereft.aliases == {"challenger": "3", "champion": "3"}
    assert [found.version for found in versions.tagged_by_client(bereft.store, "toy", {})] == ["3"]


def test_with_no_whole_copy_it_says_what_is_lost_and_what_can_be_done(bereft: Any) -> None:
    (local(bereft, "2") / GOLDEN).write_bytes(b"?")
    shutil.rmtree(stored(bereft))
    with pytest.raises(
        UserError, match=r"local copy is lost .*golden.*files of its run .*`refit promote VERSION --why"
    ):
        register.repair(bereft.context)
    client(bereft.store).delete_registered_model("toy")
    shutil.rmtree(bereft.folder / model_cache.RECORDS)
    with pytest.raises(UserError, match=r"\.refit/versions/2\.json, which would tell its tags, is not there"):
        register.repair(bereft.context)
    assert bereft.told[-1] == ("promote", "1", "2")


def test_a_note_about_another_model_is_not_believed(bereft: Any) -> None:
    note = bereft.folder / model_cache.RECORDS / "2.json"
    told = read_json(note)
    write_json(note, {**told, "tags": {**told["tags"], "refit.manifest": "other"}})
    with pytest.raises(UserError, match="is about another model"):
        register.repair(bereft.context)


def test_what_does_not_predict_its_golden_rows_does_not_come_back(bereft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from refit.models import verification

    def otherwise(*_: Any, **__: Any) -> float:
        raise RefitError("golden row 5: 0.1 predicted, 0.9 recorded")

    monkeypatch.setattr(verification, "in_fresh_process", otherwise)
    with pytest.raises(RefitError, match="golden row 5"):
        register.repair(bereft.context)
    assert "champion" not in bereft.aliases
    assert bereft.told[-1] == ("promote", "1", "2")


LATER = [pytest.param(name, marks=pytest.mark.slow) for name in ("begin", "set_registered_model_alias")]


@pytest.mark.parametrize("name", quick(["create_model_version", *LATER, "finish"]))
@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.slow), "after"])
def test_killed_anywhere_and_called_again_there_is_one_version_and_one_line(project: Any, name: str, when: str) -> None:
    from mlflow import MlflowClient

    owner = Ledger if name in ("begin", "finish") else MlflowClient

    def lose() -> None:
        project.registered(0)
        client(project.store).delete_model_version("toy", "1")

    def killed() -> None:
        original = getattr(owner, name)

        def last(*arguments: Any, **named: Any) -> None:
            if when == "after":
                original(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, last)
        register.repair(project.context)

    statuses = [in_child(function) for function in (lose, killed, lambda: register.repair(project.context))]
    assert statuses == [0, -signal.SIGKILL, 0]
    assert project.aliases["champion"] == "2"
    assert project.told == [("promote", None, "1"), ("restore", "1", "2")]
    assert versions.version(project.store, "toy", "3") is None


def in_child(function: Any) -> int:
    """The exit status of a forked process that calls `function`; negative: the signal that ended it."""
    if not (pid := os.fork()):
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
