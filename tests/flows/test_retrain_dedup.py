"""One drift, one retraining: reporting it again, in any order, starts nothing."""

from __future__ import annotations

import os
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from driving import copy_project, drive, later_months, states
from quick import quick

from flows import retrain_dedup
from flows.admission import admitted
from flows.run_options import RunOptions
from flows.session import context_of, session
from refit.cli import doctor
from refit.errors import RefitError, UserError
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.storage import drift_answers
from tasks import ingest


def window(day: int) -> dict[str, str]:
    return {"first": "2024-10-01T00:00:00Z", "end": f"2024-10-{day:02d}T00:00:00Z"}


def answer_of(project: Path) -> object:
    return drift_answers.newest(Context(project, run_file.params_of(project)))


def drift_in(window: dict[str, str], **settings: Any) -> RunOptions:
    """The options of a run for an event that names this window."""
    return RunOptions(trigger=admitted("drift", window, None, None), **settings)


def retrain(project: Path, day: int) -> bool:
    """Whether a run for the window that ends on `day` got as far as its stages."""
    try:
        with session(project, drift_in(window(day))):
            return True
    except retrain_dedup.AlreadyAnswered:
        return False


@pytest.mark.ci
def test_the_same_window_a_hundred_times_is_one_run(project: Path) -> None:
    assert sum(retrain(project, 20) for _ in range(100)) == 1


@pytest.mark.slow
def test_an_older_window_that_comes_late_starts_nothing_and_a_newer_one_does(project: Path) -> None:
    days = [*range(1, 29)] * 3
    random.Random(7).shuffle(days)
    newest_so_far = 0
    for day in days:
        assert retrain(project, day) is (day > newest_so_far), day
        newest_so_far = max(newest_so_far, day)


def test_a_run_that_failed_has_answered_nothing(project: Path) -> None:
    with pytest.raises(ZeroDivisionError), session(project, drift_in(window(20))):
        raise ZeroDivisionError
    assert retrain(project, 20)


@pytest.mark.ci
def test_a_run_for_an_answered_window_changes_nothing(project: Path) -> None:
    drive(project, trigger=drift_in(window(20)).trigger)
    before = (project / "run.yaml").read_bytes()
    with pytest.raises(retrain_dedup.AlreadyAnswered, match="nothing to do: drift up to 2024-10-19"):
        drive(project, trigger=drift_in(window(19)).trigger, overrides={"train.seed": 5})
    assert (project / "run.yaml").read_bytes() == before
    assert states(drive(project)) == ["unchanged"] * 6


def test_each_model_has_its_own_answers(project: Path) -> None:
    assert retrain(project, 20)
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("name: demo", "name: other", 1))
    assert retrain(project, 20)


def test_times_in_other_zones_are_the_same_moment(project: Path) -> None:
    with session(project, drift_in({"first": "2024-10-01", "end": "2024-10-08T02:00:00+02:00"})):
        pass
    assert not retrain(project, 8)


@pytest.mark.parametrize("wrong", [{}, {"first": "2024-10-01"}, {"first": "2024-10-01", "end": "last week"}])
def test_a_window_without_an_end_is_refused_in_words(project: Path, wrong: dict[str, str]) -> None:
    with (
        pytest.raises(UserError, match=r"window .*expected `first` and `end`, ISO 8601"),
        session(project, drift_in(wrong)),
    ):
        pass


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_the_flow_ends_as_answered_with_what_answered_it(project: Path) -> None:
    from flows.continuous_training import continuous_training

    assert retrain(project, 20)
    state = continuous_training(project=str(project), window=window(20), return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Answered")
    assert "was answered at" in str(state.message)
    told = continuous_training(project=str(project), window=window(3), columns=["logins"])
    assert told["answered"]["window"] == window(20)
    assert told["window"] == window(3)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"first": "2024-10-01", "end": "9999-12-31"}, "it lies in the future"),
        ({"first": "9999-12-01T00:00:00Z", "end": "9999-12-31T23:59:59-23:59"}, "is no time"),
        ({"first": "0001-01-01", "end": "0001-01-01"}, "it lies outside of the data"),
        ({"first": "1999-10-01", "end": "1999-11-01"}, "it lies outside of the data: rows are of 2024-01-01 to"),
        ({"first": "2025-06-01", "end": "2025-06-08"}, "it lies outside of the data"),
        ({"first": "2024-10-01", "end": "2025-10-01"}, "it lies outside of the data"),
        ({"first": "2024-10-08", "end": "2024-10-01"}, "it ends before it begins"),
    ],
)
def test_a_window_that_no_data_can_have_shown_is_refused_and_later_drift_is_answered(
    project: Path, wrong: dict[str, str], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as error, session(project, drift_in(wrong)):
        pass
    assert "\n" not in str(error.value)
    assert answer_of(project) is None
    assert retrain(project, 20)


def test_a_window_is_held_against_the_data_once_more_when_it_is_kept(project: Path) -> None:
    batches, hidden = project / "data/batches", project / "hidden"
    batches.rename(hidden)  # as in a fresh checkout
    with (
        pytest.raises(UserError, match="outside of the data"),
        session(project, drift_in({"first": "1999-10-01", "end": "1999-11-01"})),
    ):
        hidden.rename(batches)  # the run reads them
    assert answer_of(project) is None


@pytest.mark.parametrize("end", quick(["9999-12-31T00:00:00Z", "2026-01-01", "no time"]))
def test_an_impossible_answer_that_was_kept_is_shown_by_doctor_and_forgotten_by_the_next_run(
    project: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from refit.files.artifacts import read_json, write_json

    kept = {"window": {"first": "2024-10-01", "end": end}, "flow_run": None, "at": "2024-11-01T00:00:00+00:00"}
    write_json(project / drift_answers.ANSWERS, {"demo": kept, "another": kept})
    (finding,) = [finding for finding in doctor.examine(project) if "answered.json" in finding.what]
    assert (finding.level, finding.advice) == ("warning", "the next `refit run` that answers drift replaces it")
    assert retrain(project, 20)
    assert not [finding for finding in doctor.examine(project) if "answered.json" in finding.what]
    assert not retrain(project, 20), "and this one is kept"
    assert list(read_json(project / drift_answers.ANSWERS)) == ["another"]


def test_a_run_as_of_a_time_to_come_is_refused(project: Path) -> None:
    before = (project / "run.yaml").read_bytes()
    with pytest.raises(UserError, match=r"as_of 9999-01-01 lies in the future: it is .*newest row is of 2024-10-31"):
        drive(project, as_of="9999-01-01")
    assert (project / "run.yaml").read_bytes() == before


def test_a_run_as_of_a_time_before_its_window_ends_answers_nothing(project: Path) -> None:
    with (
        pytest.raises(UserError, match=r"as_of 2024-10-05 lies before its end.*would not see it"),
        session(project, drift_in(window(20), as_of="2024-10-05")),
    ):
        pass
    assert answer_of(project) is None
    with session(project, drift_in(window(20), as_of="2024-10-20")):
        pass
    assert not retrain(project, 20), "and the one that sees it counts"


def test_answers_that_cannot_be_read_stop_only_the_run_that_answers_drift(project: Path) -> None:

    (project / drift_answers.ANSWERS).write_text('["not", "ours"]')
    assert [f.level for f in doctor.examine(project) if "answered.json" in f.what] == ["error"]
    with session(project):
        pass
    with (
        pytest.raises(RefitError, match="is not what a retraining writes; delete it"),
        session(project, drift_in(window(20))),
    ):
        pass


def test_an_answer_that_an_older_refit_recorded_in_the_checkout_holds(project: Path) -> None:
    from refit.files.artifacts import write_json

    kept = {"window": window(20), "flow_run": None, "at": "2024-11-01T00:00:00+00:00"}
    write_json(project / drift_answers.ANSWERS, {"demo": kept})
    assert not retrain(project, 19)
    assert retrain(project, 21)
    assert not retrain(project, 21)


def test_an_answer_outlives_its_checkout_and_holds_in_every_one_that_shares_the_registry(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared/mlflow.db'}")
    two = copy_project(project, tmp_path / "two")
    with session(project, drift_in(window(20))):  # a second checkout waits for the first one's end, and names it
        with pytest.raises(RefitError, match=rf"retraining.lock is held by pid {os.getpid()} on "):
            retrain(two, 20)
        assert retrain_without_drift(two)
    shutil.rmtree(project)
    assert not retrain(two, 20)
    assert retrain(two, 21)


def test_an_answer_for_rows_that_another_checkout_has_read_is_not_deleted(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = copy_project(project, tmp_path / "behind")
    later_months(project, turned=False)
    ingest.run(context_of(project))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared/mlflow.db'}")
    drift = RunOptions(trigger=admitted("drift", {"first": "2024-12-01", "end": "2024-12-20"}, None, None))
    with session(project, drift):
        pass
    assert retrain_without_drift(behind), "whose rows end in October"
    assert not [finding for finding in doctor.examine(behind) if "was answered" in finding.what]
    with pytest.raises(retrain_dedup.AlreadyAnswered), session(project, drift):
        pass


def test_an_answer_of_others_that_lies_in_the_future_by_this_clock_is_ignored_and_not_deleted(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared/mlflow.db'}")
    assert retrain(project, 20)
    slow_clock = datetime(2024, 10, 10, tzinfo=UTC)
    (said,) = retrain_dedup.repair(project, run_file.params_of(project), slow_clock)
    assert said.endswith("it lies in the future: it is 2024-10-10; ignored")
    assert not retrain(project, 20), "by the right clock it counts"


def retrain_without_drift(project: Path) -> bool:
    with session(project):
        return True
