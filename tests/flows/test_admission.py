"""What a deployed run may be asked for, whatever an event or a request says; a person's own run is not held to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows import admission
from refit.errors import UserError


@contextmanager
def deployed(**parameters: Any) -> Iterator[None]:
    """As Prefect's engine has it while a deployed run's flow is called."""
    from prefect.context import _deployment_id, _deployment_parameters

    marks = _deployment_id.set(uuid4()), _deployment_parameters.set(parameters)
    try:
        yield
    finally:
        _deployment_id.reset(marks[0])
        _deployment_parameters.reset(marks[1])


def test_a_deployed_run_works_on_the_project_that_its_deployment_was_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    with deployed(project="."):
        for own in (".", str(tmp_path / "own"), str(tmp_path / "link"), "../own"):
            assert admission.own_project(own) == (tmp_path / "own").resolve()
        for other in ("..", str(tmp_path), "/", "../other", "own"):
            with pytest.raises(UserError, match="is not the one that this deployment was made for") as error:
                admission.own_project(other)
            assert "\n" not in str(error.value)
    with deployed(project="sub"):
        assert admission.own_project("sub") == tmp_path / "own" / "sub"
    assert admission.own_project(str(tmp_path)) == tmp_path, "a person's run goes where the person says"


def test_a_deployed_run_that_starts_late_scores_the_window_of_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import runtime

    schedule = datetime(2024, 10, 1, 4, tzinfo=UTC)
    monkeypatch.setattr(runtime.flow_run, "scheduled_start_time", schedule, raising=False)
    with deployed():
        assert datetime.fromisoformat(admission.own_window("now")) == schedule
        assert admission.own_window("2024-11-03") == "2024-11-03"
    assert admission.own_window("now") == "now", "a person's run has no schedule"


def test_a_deployed_run_reads_and_writes_in_its_project(tmp_path: Path) -> None:
    with deployed():
        for own in (None, "next 24h", "2024-10", "reports/scores.csv", str(tmp_path / "rows.csv")):
            assert admission.own_file(tmp_path, "out", own) == own
        for other in ("/etc/passwd", "../rows.csv", "reports/../../rows.csv"):
            with pytest.raises(UserError, match="lies outside of"):
                admission.own_file(tmp_path, "out", other)
    assert admission.own_file(tmp_path, "out", "/tmp/rows.csv") == "/tmp/rows.csv"


def test_a_deployed_run_takes_numbers_for_settings_and_no_texts() -> None:
    fine = {"train.seed": 1, "train.refit": True, "drift.alpha": 0.1, "drift.retrain_every_days": None}
    with deployed():
        assert admission.own_settings(fine) == fine
        assert admission.own_settings(None) == {}
        for value in ("os:system", ["a"], {"kind": "evil.py:Learner"}, {"a": 1}):
            with pytest.raises(UserError, match="a deployed run takes numbers, true and false"):
                admission.own_settings({"train.learners": value})
    assert admission.own_settings({"registry.tracking_uri": "sqlite:///m.db"}), "a person's run takes all"


@pytest.mark.parametrize(
    "loosened",
    [
        {"evaluate.gate.max_loss": 0.9},
        {"evaluate.gate.min_rows": 1},
        {"evaluate.gate.floors": None},
        {"evaluate.behaviour": None},
        {"register.golden_tolerance": 1e9},
        {"register.approval": None},
        {"validate.max_quarantined_share": 1},
    ],
)
def test_who_may_start_a_deployment_may_not_loosen_the_gate_for_that_run(loosened: dict[str, Any]) -> None:
    """A worse model would be promoted within a margin that `params.yaml` never stated."""
    with deployed(), pytest.raises(UserError, match=r"decides on rows and models .*: change params\.yaml"):
        admission.own_settings({"train.seed": 3, **loosened})
    assert admission.own_settings(loosened) == loosened, "a person's own run takes all"


NESTED: Any = "x"
for _ in range(200):
    NESTED = [NESTED]

WINDOW = {"first": "2024-10-01", "end": "2024-10-08"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reason", "x" * 10_000_000),
        ("reason", 5),
        ("reason", None),
        ("reason", ["drift"]),
        ("window", []),
        ("window", "2024"),
        ("window", float("nan")),
        ("window", {"first": 1, "end": 2}),
        ("window", {"first": "2024-10-01", "end": "9" * 101}),
        ("window", {"first": NESTED, "end": "2024-10-08"}),
        ("window", {"first": "2024-10-01", "end": float("nan")}),
        ("window", {str(n): "x" for n in range(100_000)}),
        ("columns", "logins"),
        ("columns", {"logins": 1}),
        ("columns", [1]),
        ("columns", [None]),
        ("columns", [float("nan")]),
        ("columns", NESTED),
        ("columns", ["x" * 1_001]),
        ("columns", ["x"] * 10_001),
        ("emitted", "yesterday"),
        ("emitted", 5),
        ("emitted", []),
        ("emitted", "1999-01-01T00:00:00Z"),
        ("emitted", "9999-12-31T23:59:59Z"),
        ("emitted", "0001-01-01T00:00:00+14:00"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_event_of_the_wrong_type_size_or_age_is_refused_in_one_line(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"reason": "drift", "window": WINDOW, "columns": ["logins"], "emitted": None}
    with pytest.raises(UserError) as error:
        admission.admitted(**fields | {field: value})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_an_event_of_just_now_is_let_in() -> None:
    for age in (timedelta(), timedelta(days=6), timedelta(minutes=-4)):
        emitted = str(datetime.now(UTC) - age)
        assert admission.admitted("drift", WINDOW, ["logins"], emitted).reason == "drift"


@pytest.mark.ci
@pytest.mark.usefixtures("prefect_server")
def test_a_deployed_run_that_is_refused_ends_so_with_the_line_that_says_why(project: Path) -> None:
    from flows.continuous_training import continuous_training

    before = (project / "run.yaml").read_bytes()
    with deployed(project=str(project)):
        state = continuous_training(project="/", return_state=True)
        assert (state.type.value, state.name) == ("FAILED", "NotStarted")
        assert state.message == str(admission_error("/", project))
        wrong = {"first": "2024-10-01", "end": "9999-12-31"}
        state = continuous_training(project=str(project), window=wrong, return_state=True)
        assert state.name == "NotStarted"
        assert "it lies in the future" in str(state.message)
    assert (project / "run.yaml").read_bytes() == before


def admission_error(project: str, made_for: Path) -> UserError:
    with deployed(project=str(made_for)), pytest.raises(UserError) as error:
        admission.own_project(project)
    return error.value
