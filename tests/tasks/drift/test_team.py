"""What a machine saw and decided about drift holds on every other one, and outlives its checkout."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pyarrow.parquet as pq
import pytest
from driving import later_months
from servers import execute, postgresql, postgresql_server  # noqa: F401

from flows import retrain_dedup
from flows.admission import admitted
from flows.run_options import RunOptions
from flows.session import session
from refit.errors import RefitError
from refit.files.artifacts import PREDICTIONS, write_json
from refit.operations import ledger_move, retention
from refit.runtime import registry_store, run_file
from refit.runtime.context import Context
from refit.storage import drift_answers, prediction_log
from refit.storage.adoption import ADOPTED
from refit.storage.shared_log import SharedLog
from registry import run_files
from tasks.drift import watch
from tasks.score.champion_model import load_champion

MADE_THERE = (".refit", "reports", "predictions", "models", "features", "__pycache__")


def context(project: Path, day: int = 1) -> Context:
    """The project's, `day` being that of the clock."""
    return Context(project=project, params=run_file.params_of(project), now=lambda: datetime(2026, 1, day, tzinfo=UTC))


class Machines:
    """The folder of the first machine, and clones of it, which have its sources, batches and params."""

    def __init__(self, first: Path) -> None:
        self.first = first

    def clone(self, name: str) -> Path:
        to = self.first.with_name(name)
        shutil.copytree(self.first, to, symlinks=True, ignore=shutil.ignore_patterns(*MADE_THERE))
        return to


@pytest.fixture
def machines(project: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Machines:  # noqa: F811
    """A machine that watched its champion alone for a week, and then moved its ledger to the team's database."""
    later_months(project, turned=True)
    assert watch.run(context(project), as_of="2024-11-18").verdict == "warn"
    with session(project, RunOptions(trigger=admitted("drift", window(4), None, None))):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / '.refit/mlflow.db'}")
    monkeypatch.setenv("REFIT_LEDGER_URI", postgresql)
    assert "1 line about demo is in the ledger at postgresql://" in ledger_move.move_ledger(context(project))
    return Machines(project)


def window(day: int) -> dict[str, str]:
    return {"first": "2024-11-01T00:00:00Z", "end": f"2024-11-{day:02d}T00:00:00Z"}


def retrain(project: Path, day: int) -> bool:
    """Whether a run for the window that ends on `day` got as far as its stages."""
    try:
        with session(project, RunOptions(trigger=admitted("drift", window(day), None, None))):
            return True
    except retrain_dedup.AlreadyAnswered:
        return False


def predicted_at(project: Path) -> dict[str, str]:
    """When each row of the checkout's log was predicted."""
    return {
        key: moment
        for path in (project / PREDICTIONS).glob("day=*/v1-*.parquet")
        for key, moment in zip(
            *(pq.read_table(path)[name].to_pylist() for name in ("_key", "_predicted_at")), strict=True
        )
    }


@pytest.mark.slow
def test_cool_down_budget_and_predictions_outlive_the_checkouts_that_made_them(machines: Machines) -> None:
    alone = predicted_at(machines.first)
    one = machines.clone("one")
    assert watch.run(context(one, 2), as_of="2024-11-25").verdict == "retrain"
    made = predicted_at(one)
    assert made.keys() > alone.keys()
    assert alone.items() <= made.items(), "what the first machine predicted before is part of the log"
    shutil.rmtree(one)

    two = machines.clone("two")
    assert not (two / PREDICTIONS).exists()
    decision = watch.run(context(two, 3), as_of="2024-11-26")
    assert decision.verdict == "warn"
    assert "the last retraining was decided 1.0 days ago" in decision.blocked[0]
    assert decision.windows[-1].performance.breached, (
        "performance is judged by the predictions of machines that are gone"
    )
    assert predicted_at(two) == made, "no row is scored twice"
    assert [each.verdict for each in watch.decisions(context(two))] == ["warn", "retrain", "warn"]

    three = machines.clone("three")
    text = (three / "params.yaml").read_text()
    (three / "params.yaml").write_text(
        text.replace("  window: week\n", "  window: week\n  monthly_budget: 1\n  cooldown_days: 0\n")
    )
    assert "1 retrainings were decided within 30 days" in watch.run(context(three, 4), as_of="2024-11-27").blocked[0]


@pytest.mark.ci
def test_drift_that_two_machines_see_is_answered_once(machines: Machines) -> None:
    one, two = machines.clone("one"), machines.clone("two")
    assert not retrain(one, 4), "the first machine answered it before it moved its ledger"
    trigger = admitted("drift", window(20), None, None)
    with session(one, RunOptions(trigger=trigger)), pytest.raises(RefitError, match=rf"held by pid {os.getpid()} on "):
        retrain(two, 20)
    shutil.rmtree(one)
    assert not retrain(two, 20)
    with pytest.raises(ZeroDivisionError), session(two, RunOptions(trigger=admitted("drift", window(21), None, None))):
        raise ZeroDivisionError
    assert retrain(machines.clone("three"), 21), "a run that failed has answered nothing"
    assert not retrain(two, 21)


@pytest.mark.slow
def test_a_retraining_that_lost_its_lock_answers_no_drift(machines: Machines, postgresql: str) -> None:  # noqa: F811
    one, two = machines.clone("one"), machines.clone("two")
    trigger = admitted("drift", window(20), None, None)
    with (
        pytest.raises(RefitError, match="the drift counts as not answered"),
        session(one, RunOptions(trigger=trigger)),
    ):
        lose_connections(postgresql)
        assert retrain(two, 21)
    assert not retrain(one, 21), "what the second machine answered is not overwritten"


@pytest.mark.slow
def test_what_was_predicted_without_the_lock_is_not_logged(
    machines: Machines,
    postgresql: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, store = machines.clone("one"), run_files.store

    def store_and_lose(*arguments: Any) -> None:
        store(*arguments)
        lose_connections(postgresql)

    logged = pq.read_table(sorted((machines.first / PREDICTIONS).glob("day=*/v1-*.parquet"))[0])
    before = prediction_log.keys(context(one), "1").num_rows
    new = logged.set_column(logged.column_names.index("_key"), "_key", [[f"new {n}" for n in range(logged.num_rows)]])
    with monkeypatch.context() as patched:
        patched.setattr(run_files, "store", store_and_lose)
        with pytest.raises(RefitError, match="these predictions and later ones are not logged"):
            prediction_log.append(context(one), "1", new)
    assert prediction_log.keys(context(one), "1").num_rows == before
    assert prediction_log.append(context(one), "1", new) == logged.num_rows


def lose_connections(url: str) -> None:
    execute(
        url,
        "select pg_terminate_backend(pid) from pg_stat_activity where pid != pg_backend_pid() "
        "and datname = current_database()",
    )


@pytest.mark.slow
def test_a_team_that_shared_its_ledger_before_its_records_loses_nothing(
    machines: Machines,
    postgresql: str,  # noqa: F811
) -> None:
    """A checkout as an older Refit left it: lines in the database; answers, decisions and predictions in files."""
    first, alone = machines.first, predicted_at(machines.first)
    answer = execute(postgresql, "select content from refit.records where kind = 'answer'")[0][0]
    write_json(first / drift_answers.ANSWERS, {"demo": json.loads(str(answer))})
    execute(postgresql, "delete from refit.records where kind != 'registry'")
    (first / ADOPTED).unlink()
    assert watch.run(context(first, 2), as_of="2024-11-25").verdict == "retrain"
    assert alone.items() <= predicted_at(first).items()
    two = machines.clone("two")
    assert [each.verdict for each in watch.decisions(context(two))] == ["warn", "retrain"]
    prediction_log.keys(context(two), "1")
    assert predicted_at(two) == predicted_at(first)
    assert not retrain(two, 4)
    execute(postgresql, "delete from refit.records where kind != 'registry'")
    watch.run(context(first, 3), as_of="2024-11-26")
    assert len(watch.decisions(context(first))) == 1, "what the team deletes later does not come back"


@pytest.mark.slow
def test_two_machines_that_score_at_once_log_each_row_once(machines: Machines) -> None:
    rows, start = {}, Barrier(2)
    folders = [machines.clone("one"), machines.clone("two")]
    for place, folder in enumerate(folders):
        load_champion(context(folder))
        logged = pq.read_table(sorted((machines.first / PREDICTIONS).glob("day=*/v1-*.parquet"))[0])
        rows[folder] = logged.set_column(
            logged.column_names.index("_key"), "_key", [[f"new {each + place}" for each in range(logged.num_rows)]]
        )
    new: list[int] = []

    def log(folder: Path) -> None:
        start.wait(60)
        new.append(prediction_log.append(context(folder), "1", rows[folder]))

    threads = [Thread(target=log, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == rows[folders[0]].num_rows + 1
    keys = prediction_log.keys(context(machines.first), "1")["_key"].to_pylist()
    assert len(keys) == len(set(keys))


@pytest.mark.slow
def test_a_file_of_the_log_that_was_changed_where_it_is_stored_is_not_used(machines: Machines) -> None:
    stored = next((machines.first / ".refit/mlartifacts").rglob("predictions/**/v1-*.parquet"))
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    with pytest.raises(RefitError, match="of the prediction log is not as it was written"):
        prediction_log.keys(context(machines.clone("one")), "1")
    stored.unlink()
    with pytest.raises(RefitError, match=r"cannot be read: .*restore the artifact store from a copy"):
        prediction_log.keys(context(machines.clone("two")), "1")


@pytest.mark.slow
def test_what_is_deleted_by_retention_is_gone_for_every_machine(machines: Machines) -> None:
    text = (machines.first / "params.yaml").read_text()
    one = machines.clone("one")
    limits = "\nretention:\n  predictions_days: 7\n  decisions_days: 30\n"
    (one / "params.yaml").write_text(text + limits)
    watch.run(context(one, 2), as_of="2024-12-25")
    before = set(predicted_at(one))
    retention.collect(context(one), delete=True)
    two = machines.clone("two")
    assert [f"{each.as_of:%m-%d}" for each in watch.decisions(context(two))] == ["12-25"]
    keys = set(prediction_log.keys(context(two), "1")["_key"].to_pylist())
    assert keys < before
    assert keys == set(predicted_at(two)) == set(predicted_at(one))
    with registry_store.opened(context(two)) as store:
        log = SharedLog.of(context(two), store)
        assert log is not None
        stored = {
            "/".join(path.parts[-2:]) for path in (machines.first / ".refit/mlartifacts").rglob("day=*/v1-*.parquet")
        }
        assert stored == set(log.names())


@pytest.mark.slow
def test_predictions_of_another_model_of_the_same_number_are_not_taken_over(
    project: Path,
    postgresql: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later_months(project, turned=False)
    watch.run(context(project), as_of="2024-11-18")
    monkeypatch.setenv("REFIT_LEDGER_URI", postgresql)
    assert prediction_log.adopt(context(project), {"1": "0" * 64}) == 0
    assert prediction_log.adopt(context(project), {}) == 0
