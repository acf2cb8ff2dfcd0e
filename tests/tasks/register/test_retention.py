"""What `refit gc` may delete: by the params, and never what is, was or may become champion."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from quick import quick
from snapshots import batch_of, write_snapshot

from refit.config import RetentionParams
from refit.errors import RefitError
from refit.files import artifacts
from refit.files.artifacts import write_json
from refit.files.scratch_folders import scratch_folder
from refit.models import incumbent, model_cache
from refit.operations import retention
from refit.runtime import lock
from refit.runtime.context import Context
from refit.storage import prediction_log, quarantine
from registry import deletion, relocation, tracking, versions
from registry.client import client
from registry.store import RegistryError
from tasks import register
from tasks.drift.watch import DECISIONS
from tasks.register import lineage

pytestmark = pytest.mark.usefixtures("same_process")


def asking(project: Any, **wanted: Any) -> Context:
    """The project's context with these params of retention, months after the last run."""
    params = project.context.params.model_copy(update={"retention": RetentionParams(**wanted)})
    later = datetime.now(UTC) + timedelta(days=100)
    return replace(project.context, params=params, now=lambda: later)


def named(plan: retention.DeletionPlan) -> list[tuple[str, str]]:
    return [(item.kind, item.what) for item in plan.items]


def numbers(project: Any) -> list[str]:
    return [each.version for each in versions.tagged_by_client(project.store, "toy", {})]


def files_of(project: Any) -> dict[Path, bytes]:
    changing = (".db", ".db-journal", "registry.lock")
    return {p: p.read_bytes() for p in project.folder.rglob("*") if p.is_file() and not p.name.endswith(changing)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where projects with versions lie once they are made; a copy of one takes its artifacts with it."""
    return tmp_path_factory.mktemp("retention")


def with_versions(project: Any, original: Path, runs: Path, *, count: int, promoted: int) -> Any:
    """The project with versions of which the first were promoted: a copy of one that is made where there is none."""
    if not original.is_dir():
        shutil.copytree(project.folder, original)
        first = type(project)(original, runs)
        for seed in range(count):
            first.registered(seed, promote=seed < promoted)
    shutil.rmtree(project.folder)
    shutil.copytree(original, project.folder)
    relocation.settle(project.store)
    return project


@pytest.fixture
def seven(project: Any, made: Path, runs: Path) -> Any:
    """Version 1 is the anchor, 3 was champion before 4, 7 is the challenger; 2 was champion once, 5 and 6 never."""
    return with_versions(project, made / "seven/toy", runs, count=7, promoted=4)


@pytest.fixture
def four(project: Any, made: Path, runs: Path) -> Any:
    """Version 1 is the anchor, 3 was champion before 4, and 2 once."""
    return with_versions(project, made / "four/toy", runs, count=4, promoted=4)


@pytest.mark.ci
def test_the_champion_the_one_before_the_anchor_the_challenger_and_the_newest_always_stay(seven: Any) -> None:
    plan = retention.collect(asking(seven, versions=2), delete=True)
    assert plan.stay == {
        "1": "anchor",
        "3": "previous",
        "4": "champion",
        "6": "among the newest",
        "7": "challenger",
    }
    assert numbers(seven) == ["1", "3", "4", "6", "7"]
    assert [what for kind, what in named(plan) if kind == "version"] == ["2 (logistic)", "5 (logistic)"]
    for number in numbers(seven):
        assert incumbent.fetch_model(seven.context, number).is_dir()


@pytest.mark.ci
def test_without_being_told_to_delete_it_deletes_nothing_and_counts_the_bytes(seven: Any) -> None:
    before, lines = files_of(seven), seven.ledger
    plan = retention.collect(asking(seven, versions=1))
    assert (files_of(seven), numbers(seven)) == (before, list("1234567"))
    assert plan.bytes > 10_000
    retention.collect(asking(seven, versions=1), delete=True)
    freed = sum(map(len, before.values())) - sum(map(len, files_of(seven).values()))
    assert freed == plan.bytes
    assert seven.ledger == lines, "the ledger is never touched"


@pytest.mark.ci
def test_afterwards_nothing_is_left_to_delete_and_what_stays_can_be_shown_explained_and_put_back(seven: Any) -> None:
    retention.collect(asking(seven, versions=1), delete=True)
    assert named(retention.collect(asking(seven, versions=1))) == []
    assert register.champion_summary(seven.context).version == "4"
    assert "was promoted" in lineage.explain(seven.context, "2")[0]
    register.rollback(seven.context)
    assert seven.aliases["champion"] == "3"
    assert incumbent.check_champion(seven.context) == "3"
    mlflow = client(seven.store)
    left = mlflow.search_runs([mlflow.get_experiment_by_name("toy").experiment_id])
    staying = versions.tagged_by_client(seven.store, "toy", {})
    assert {run.data.tags["refit.candidate"] for run in left} == {each.tags["refit.candidate"] for each in staying}


@pytest.mark.slow
def test_null_keeps_every_version_and_every_run_for_ever(seven: Any) -> None:
    seven.trained(50)
    tracking_only(seven)
    asked = asking(seven, versions=None, runs_days=None)
    assert named(retention.collect(asked)) == []


def tracking_only(project: Any) -> str:
    """A training that was logged to MLflow and never registered; its run."""
    from refit.models import run_logging as told

    run_id = told.log_training(project.context, required=True)
    assert run_id is not None
    return run_id


def test_a_run_that_no_version_came_of_goes_once_it_is_old_and_not_the_present_candidates(project: Any) -> None:
    project.registered(0)
    project.trained(50)
    run_id = tracking_only(project)
    assert named(retention.collect(asking(project))) == [], "it may be about to be registered"
    project.trained(0)
    young = replace(asking(project), now=lambda: datetime.now(UTC) + timedelta(days=29))
    assert named(retention.collect(young)) == []
    (item,) = retention.collect(asking(project), delete=True).items
    assert (item.kind, item.runs[0].run_id) == ("run", run_id)
    assert client(project.store).get_run(run_id).info.lifecycle_stage == "deleted"


def test_a_run_that_someone_made_by_hand_is_left_alone(project: Any) -> None:
    project.registered(0)
    experiment = tracking.ensure_experiment(project.store, "toy")
    client(project.store).create_run(experiment, run_name="my own")
    assert named(retention.collect(asking(project, runs_days=1))) == []


@pytest.mark.slow
def test_what_a_version_that_stays_was_trained_on_from_stays_too_and_only_that(project: Any) -> None:
    def trained_on(seed: int, start: str) -> None:
        project.judged(seed)
        training = artifacts.read_json(project.folder / artifacts.TRAINING)
        started = {"version": start, "folder": "x", "model_digest": "y", "seen_until": training["seen_until"]}
        write_json(project.folder / artifacts.TRAINING, {**training, "started_from": started})
        register.run(project.context)

    project.registered(0)
    project.registered(1)
    trained_on(2, "2")
    trained_on(3, "3")
    for seed in (4, 5):
        project.registered(seed)
    client(project.store).set_registered_model_alias("toy", "watched-by-ann", "4")
    stay = retention.collect(asking(project, versions=1)).stay
    assert stay["4"] == "watched-by-ann"
    assert stay["3"] == "version 4 was trained on from it"
    assert "2" not in stay


def test_with_the_champion_lost_nothing_goes_since_its_repair_may_need_it(seven: Any) -> None:
    client(seven.store).delete_model_version("toy", "4")
    with pytest.raises(RefitError, match="`refit repair` registers it again"):
        retention.collect(asking(seven, versions=1), delete=True)
    register.repair(seven.context)
    assert retention.collect(asking(seven, versions=1), delete=True).stay["8"] == "champion"


def test_the_artifacts_are_listed_once_and_not_for_each_version_that_goes(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    monkeypatch.setattr(deletion, "_size", lambda mlflow, run: listed.append(run.info.run_id) or 0)
    plan = retention.collect(asking(seven, versions=1), delete=True)
    assert sum(item.kind == "version" for item in plan.items) >= 2
    assert len(listed) == len(set(listed))


def test_local_copies_go_with_their_versions(seven: Any) -> None:
    retention.collect(asking(seven, versions=1), delete=True)
    copies = {path.name.partition("-")[0] for path in (seven.folder / model_cache.MODELS).iterdir()}
    notes = {path.stem for path in (seven.folder / model_cache.RECORDS).iterdir()}
    assert copies == notes == {"1", "3", "4"}


def test_logs_decisions_and_quarantine_go_by_age_and_only_where_asked(project: Any) -> None:
    project.registered(0)
    folder = project.folder
    for day in ("2013-01-01", "2013-11-30", "2013-12-31"):
        (folder / prediction_log.LOG / f"day={day}").mkdir(parents=True)
        (folder / prediction_log.LOG / f"day={day}/v1-x.parquet").write_bytes(b"rows")
    for stem in ("20130101T000000Z", "20131231T000000Z.2"):
        write_json(folder / DECISIONS / f"{stem}.json", {})
    for batch in ("2013-11", "gone"):
        quarantine.write(folder / quarantine.path_of("rows", batch), [])
    write_snapshot(folder, [batch_of("rows", "2013-11")])
    assert named(retention.collect(asking(project))) == []
    asked = asking(project, predictions_days=31, decisions_days=90, quarantine_days=30)
    expected = [("predictions", "2013-01-01"), ("decisions", "20130101T000000Z.json"), ("quarantine", "rows gone")]
    assert named(retention.collect(asked, delete=True)) == expected
    assert not (folder / prediction_log.LOG / "day=2013-01-01").exists()
    assert (folder / prediction_log.LOG / "day=2013-11-30/v1-x.parquet").is_file()
    assert named(retention.collect(asked)) == []


def test_what_lies_among_the_logs_under_a_name_without_a_time_is_left_alone_and_said(project: Any) -> None:
    project.registered(0)
    folder = project.folder
    for day in ("2013-01-01", "2013-12-31", "old"):
        (folder / prediction_log.LOG / f"day={day}").mkdir(parents=True)
        (folder / prediction_log.LOG / f"day={day}/v1-x.parquet").write_bytes(b"rows")
    for stem in ("20130101T000000Z", "20131231T000000Z", "copy"):
        write_json(folder / DECISIONS / f"{stem}.json", {})
    plan = retention.collect(asking(project, predictions_days=31, decisions_days=90), delete=True)
    assert named(plan) == [("predictions", "2013-01-01"), ("decisions", "20130101T000000Z.json")]
    assert [note.partition(":")[0] for note in plan.notes if "no time" in note] == [
        f"{prediction_log.LOG}/day=old is left alone",
        f"{DECISIONS}/copy.json is left alone",
    ]
    kept = prediction_log.files(asking(project), "1", date.min, date.max)
    assert [path.parent.name for path in kept] == ["day=2013-12-31"]


def test_what_killed_runs_left_and_what_replays_keep_goes(project: Any) -> None:
    project.registered(0)
    left = (".refit/models/.copy-x/a", ".refit/reproduce/y/b", "data/.features.z.partial/c", ".refit/replay/7/d")
    with scratch_folder(project.folder / ".refit/models", ".copy-") as in_use:
        for name in left:
            (project.folder / name).parent.mkdir(parents=True)
            (project.folder / name).write_text("left")
        os.utime(project.folder / ".refit/models/.copy-x", (0, 0))
        plan = retention.collect(asking(project), delete=True)
        assert in_use.is_dir(), "`refit doctor` checks the champion without the project's lock"
    assert [(item.kind, item.bytes) for item in plan.items] == [("leftover", 4)] * 3 + [("replay", 4)]
    assert not any((project.folder / name).parent.exists() for name in left)


FOLDERS = ("data", "reports", "data/quarantine", "data/predictions", ".refit/models", ".refit/versions")


@pytest.mark.parametrize("folder", [*FOLDERS, ".refit/reproduce"])
def test_nothing_is_deleted_that_a_linked_folder_places_outside_the_project(
    project: Any, tmp_path: Path, folder: str
) -> None:
    project.registered(0)
    elsewhere = tmp_path / "elsewhere"
    linked = project.folder / folder
    linked.parent.mkdir(parents=True, exist_ok=True)
    if linked.is_dir():
        shutil.move(linked, elsewhere)
    for name in (".x.partial", "9-abcdef/f", "9.json", "other/f", "other/2020-01.parquet", "f", "day=2020-01-01/f"):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text("theirs")
    for day in ("2020-01-02", "2021-01-01"):
        (elsewhere / f"day={day}").mkdir()
    linked.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    plan = retention.collect(
        asking(project, versions=1, predictions_days=0, quarantine_days=0, decisions_days=30), delete=True
    )
    artifacts.sweep(project.folder)
    assert sorted(elsewhere.rglob("*")) == before
    assert any(f"leads to {elsewhere}" in note for note in plan.notes), plan.notes


def test_a_link_goes_without_what_it_leads_to(project: Any, tmp_path: Path) -> None:
    project.registered(0)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/f").write_text("theirs")
    links = [project.folder / name for name in ("data/.a.partial", ".refit/models/9-abcdef", ".refit/replay")]
    for link in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "kept")
    retention.collect(asking(project), delete=True)
    assert not any(os.path.lexists(link) for link in links)
    assert (tmp_path / "kept/f").read_text() == "theirs"


@pytest.mark.parametrize("way", quick(["database", "link"], 1))
def test_a_run_whose_artifacts_are_not_in_its_own_folder_is_left_alone(seven: Any, tmp_path: Path, way: str) -> None:
    theirs = tmp_path / "theirs/artifacts"
    theirs.mkdir(parents=True)
    (theirs / "f").write_text("theirs")
    run_id = next(each.run_id for each in versions.tagged_by_client(seven.store, "toy", {}) if each.version == "2")
    own = Path(client(seven.store).get_run(run_id).info.artifact_uri.removeprefix("file://"))
    if way == "database":
        with sqlite3.connect(seven.store.database) as connection:
            connection.execute("update runs set artifact_uri = ? where run_uuid = ?", (theirs.as_uri(), run_id))
    else:
        shutil.rmtree(own.parent)
        own.parent.symlink_to(theirs.parent)
    plan = retention.collect(asking(seven, versions=2), delete=True)
    assert "2" in numbers(seven)
    assert "5" not in numbers(seven)
    assert (theirs / "f").read_text() == "theirs"
    assert any("version 2 (logistic) is left alone: its files are said to be in" in note for note in plan.notes)
    (run,) = (run for run in deletion.runs(seven.store, "toy") if run.run_id == run_id)
    with pytest.raises(RegistryError, match="is not a folder of its own"):
        deletion.delete_run(seven.store, run)
    assert (theirs / "f").read_text() == "theirs"


def test_what_a_replay_under_way_uses_stays(project: Any) -> None:
    project.registered(0)
    with lock.project_lock(project.folder / retention.REPLAYS):
        plan = retention.collect(asking(project), delete=True)
        assert (project.folder / retention.REPLAYS).is_dir()
    assert plan.notes == (".refit/replay is left alone: a replay is under way",)
    assert named(retention.collect(asking(project))) == [("replay", ".refit/replay")]


@pytest.mark.ci
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("MlflowClient", "set_tag"),
        pytest.param("MlflowClient", "delete_model_version", marks=pytest.mark.slow),
        ("LocalArtifactRepository", "delete_artifacts"),
        pytest.param("MlflowClient", "delete_run", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.slow), "after"])
def test_cut_off_anywhere_it_is_finished_by_the_next_one(four: Any, owner: str, name: str, when: str) -> None:
    def killed() -> None:
        from mlflow import MlflowClient
        from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

        kind: Any = {"MlflowClient": MlflowClient, "LocalArtifactRepository": LocalArtifactRepository}[owner]
        original = getattr(kind, name)

        def last(*arguments: Any, **keys: Any) -> None:
            if when == "after":
                original(*arguments, **keys)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(kind, name, last)
        retention.collect(asked, delete=True)

    def again() -> None:
        for number in numbers(four):
            if number in ("1", "3", "4"):
                incumbent.fetch_model(four.context, number)
        retention.collect(asked, delete=True)
        assert numbers(four) == ["1", "3", "4"]
        assert named(retention.collect(asked)) == []

    asked = asking(four, versions=1, runs_days=None)  # what a run's age would let go anyhow shows nothing
    assert [in_child(each) for each in (killed, again)] == [-signal.SIGKILL, 0]
    stored = {path.parents[1].name for path in (four.folder / ".refit/mlartifacts").glob("*/*/artifacts/model")}
    assert len(stored) == 3


def in_child(function: Any) -> int:
    """The exit status of a forked process that calls `function`; negative: the signal that ended it."""
    import traceback

    if not (pid := os.fork()):
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
