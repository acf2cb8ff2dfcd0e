"""A replay does what production would have done, sees nothing of the future, and leaves the project alone."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from refit.cli.replays import replay
from refit.config import DriftParams
from refit.config.windows import as_numpy
from refit.errors import RefitError, UserError
from refit.operations.replay import ReplayOptions, bounds_of, policies
from refit.operations.replay.comparing import Contender, against_chance, best_of, schedules
from refit.operations.replay.history import history
from refit.operations.replay.policies import RetrainingPolicy
from refit.operations.replay.simulation import Parts, Simulator
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.schemas.replay_result import Gain, ReplayResult, WindowResult

pytestmark = pytest.mark.ci

EVERYTHING: dict[str, Any] = {
    "every": "month",
    "policies": "never,always,schedule:retrain_every_days=45,performance,drift",
    "metric": None,
    "budget": None,
    "random": 0,
    "overrides": {},
    "wait_seconds": 0,
    "quiet": True,
}


def lived(project: Path, **changed: Any) -> ReplayResult:
    return replay(project, **{"start": "2024-06-01", "end": "2024-10-01", **EVERYTHING, **changed})


@pytest.fixture(scope="module")
def told(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReplayResult, dict[str, str]]:
    """A project, what a replay of it tells, and the digests of its files before."""
    import shutil

    project = tmp_path_factory.mktemp("replayed") / "demo"
    shutil.copytree(finished, project, symlinks=True)
    before = digests(project)
    return project, lived(project), before


def untimed(windows: Sequence[WindowResult]) -> list[WindowResult]:
    """Windows without what the clock says of them."""
    return [window.model_copy(update={"train_seconds": 0.0}) for window in windows]


def digests(project: Path) -> dict[str, str]:
    """Every file but those of the replay's own place."""
    return {
        path.relative_to(project).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(project.rglob("*"))
        if path.is_file() and not path.relative_to(project).as_posix().startswith(".refit/replay/")
    }


@pytest.mark.slow
def test_a_replay_changes_no_file_of_the_project(told: tuple[Path, ReplayResult, dict[str, str]]) -> None:
    project, _, before = told
    assert digests(project) == before


def test_the_result_tells_each_policy_window_by_window(told: tuple[Path, ReplayResult, dict[str, str]]) -> None:
    project, found, _ = told
    names = ["never", "always", "schedule:retrain_every_days=45", "performance", "drift"]
    assert list(found.policies) == names
    assert found.best in names
    for each in found.policies.values():
        assert [f"{window.start:%Y-%m}" for window in each.by_window] == ["2024-06", "2024-07", "2024-08", "2024-09"]
        assert each.promotions + each.refusals == each.retrainings
        assert 0.5 < each.score < 1
    assert found.policies["never"].retrainings == 0
    assert found.policies["always"].retrainings == 3
    assert found.policies["schedule:retrain_every_days=45"].retrainings == 1
    stored = ReplayResult.read(project / ".refit/replay/replay.json")
    assert stored == found.model_copy(update={"report": None})
    page = (project / ".refit/replay/report.html").read_text()
    assert all(name in page for name in names)
    assert "http" not in page.replace("http://www.w3.org", "").replace("<meta http-equiv=", "")


def test_a_step_of_a_schedule_says_when_the_next_training_is_due(
    told: tuple[Path, ReplayResult, dict[str, str]],
) -> None:
    _, found, _ = told
    steps = found.policies["schedule:retrain_every_days=45"].steps[1:]
    assert [step.reasons[0] for step in steps if not step.retrain] == [
        "schedule: the newest version was trained 30.0 days ago, a new one is due every 45",
        "schedule: the newest version was trained 31.0 days ago, a new one is due every 45",
    ]


def test_random_schedules_are_told_of_in_one_line_and_a_fault_with_its_moment(
    told: tuple[Path, ReplayResult, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _, _ = told
    said: list[str] = []
    context = Context(project, run_file.params_of(project), progress=lambda what, *_: said.append(what))
    days = [datetime(2024, month, 1, tzinfo=UTC) for month in (6, 7, 8, 9)]
    end = datetime(2024, 10, 1, tzinfo=UTC)
    simulator = Simulator(context, history(context, end, end), days, Parts())
    drift = context.params.drift
    simulation = simulator.run(RetrainingPolicy("mine", "given", drift, frozenset({2})))
    said.clear()
    assert len(schedules(simulator, simulation, 5, seed=0)) == 5
    assert {what for what in said if "random" in what} == {"5 random schedules against mine"}
    assert not any(what.startswith("mine: ") for what in said)

    def broken(*_: Any) -> Any:
        raise RefitError("learner 'logistic' predicted 3 values that are no probability")

    monkeypatch.setattr(simulator.fits, "at", broken)
    with pytest.raises(RefitError, match=r"always: 2024-06-01: learner 'logistic' predicted 3 values"):
        simulator.run(RetrainingPolicy("always", "always", drift))


def test_a_second_replay_with_another_threshold_trains_nothing(
    told: tuple[Path, ReplayResult, dict[str, str]],
) -> None:
    project, first, _ = told
    again = lived(project, policies="always,performance:min_skill_loss=0.001", overrides={"drift.cooldown_days": 1})
    assert first.trained_now == 4
    assert again.trained_now == 0
    assert again.policies["always"].by_window == first.policies["always"].by_window


@pytest.mark.slow
def test_what_was_kept_and_is_damaged_is_made_again(told: tuple[Path, ReplayResult, dict[str, str]]) -> None:
    project, first, _ = told
    kept = project / ".refit/replay"
    fits = sorted((kept / "fits").iterdir())
    torn = [fits[0] / "fit.json", fits[1] / "unseen.npy", *kept.glob("predicted/*.npz"), *kept.glob("features-*")]
    assert len(torn) == 2 + 4 + 1
    for path in torn:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = lived(project, policies="always")
    assert again.trained_now == 2
    assert untimed(again.policies["always"].by_window) == untimed(first.policies["always"].by_window)


@pytest.mark.slow
def test_windows_are_named_by_the_days_of_the_projects_own_time_zone(
    told: tuple[Path, ReplayResult, dict[str, str]],
) -> None:
    project, _, _ = told  # where batches of another declaration lie
    east = lived(project, start="2024-08-01", policies="never", overrides={"project.timezone": "Asia/Tokyo"})
    windows = east.policies["never"].by_window
    assert [str(window.day) for window in windows] == ["2024-08-01", "2024-09-01"]
    assert windows[0].start == datetime(2024, 7, 31, 15, tzinfo=UTC)


@pytest.mark.slow
def test_months_without_any_label_are_told_and_end_no_replay(project: Path) -> None:
    [path] = (project / "raw").glob("*.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["renewal"] >= "2024-06-01":
            row["churned"] = ""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = lived(project, start="2024-05-01", end="2024-09-01", policies="always")
    steps = found.policies["always"].steps
    assert [step.promoted for step in steps] == [True, True, True, False], "a test window has two months"
    assert steps[3].gate == ("not judged: its test window holds no labelled row",)
    assert [window.labelled > 0 for window in found.policies["always"].by_window] == [True, False, False, False]


def test_it_trains_the_very_model_that_a_run_at_that_moment_trains(project: Path) -> None:
    training = json.loads((project / "models/training.json").read_text())
    features = json.loads((project / "data/features/features.json").read_text())
    decision = json.loads((project / "reports/decision.json").read_text())
    as_of = datetime.fromisoformat(features["as_of"])
    context = Context(project=project, params=run_file.params_of(project))
    simulator = Simulator(context, history(context, as_of, as_of), [as_of], Parts())
    simulation = simulator.run(RetrainingPolicy("never", "never", DriftParams()))
    fit = simulation.champion
    assert fit is not None
    assert fit.record.model_digest == training["model_digest"]
    assert fit.record.threshold == training["threshold"]
    assert len(fit.tested) == features["windows"]["test"]["rows"]
    assert list(simulation.steps[0].gate) == decision["reasons"]


def test_what_lies_in_the_future_changes_no_decision_before_it(
    told: tuple[Path, ReplayResult, dict[str, str]], tmp_path: Path
) -> None:
    import shutil

    project, found, _ = told
    poisoned = tmp_path / "demo"
    shutil.copytree(project, poisoned, symlinks=True, ignore=shutil.ignore_patterns("replay"))
    canary = "2024-08-15"  # every row from here on says the opposite, and is drawn from elsewhere
    [path] = (poisoned / "raw").glob("*.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["renewal"] >= canary:
            row["churned"] = "no" if row["churned"] == "yes" else "yes"
            row["logins"], row["monthly_price"] = "900", "900.0"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    again = lived(poisoned)
    for name, each in again.policies.items():
        before = [step for step in found.policies[name].steps if step.as_of < datetime(2024, 8, 15, tzinfo=UTC)]
        assert before, "the canary has to sing after some steps"
        assert list(each.steps[: len(before)]) == before, name
        assert untimed(each.by_window[:2]) == untimed(found.policies[name].by_window[:2]), name
    assert again.policies["always"].score != found.policies["always"].score  # it did sing


def test_a_model_is_never_asked_about_rows_it_may_have_learned_from(project: Path) -> None:
    features = json.loads((project / "data/features/features.json").read_text())
    as_of = datetime.fromisoformat(features["as_of"])
    context = Context(project=project, params=run_file.params_of(project))
    past = history(context, as_of, as_of)
    fit = Simulator(context, past, [as_of], Parts()).fits.at(as_of, None)
    assert (past.event_time[fit.learned] < as_numpy(fit.seen_until)).all()
    assert (past.known_at[fit.learned] <= as_numpy(as_of)).all()
    with pytest.raises(RefitError, match="may have learned"):
        fit.p(fit.learned[-1:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alway", "did you mean 'always'"),
        ("performance:min_skil_loss=1", "did you mean 'min_skill_loss'"),
        ("schedule:retrain_every_days=-3", "greater than 0"),
        ("never:windows=3", "has no settings"),
        ("never,never", "leave one out"),
        ("drift:alpha=0.1:alpha=0.2", "alpha is set twice"),
        ("drift:alpha", "'alpha' gives no value; write drift:key=value"),
        ("drift:alpha=x", "a valid number; found 'x'"),
        ("drift:retrain_on=input", "the policy's name says"),
        ("drift:min_effect.psi=0.1", "--set drift.min_effect"),
        (" , ", "names none"),
    ],
)
def test_a_policy_that_does_not_stand_is_refused_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        policies.parse(text, DriftParams())


def test_settings_of_one_policy_change_no_other() -> None:
    ours, theirs = policies.parse("performance:breached=1,performance", DriftParams())
    assert (ours.drift.breached, theirs.drift.breached) == (1, 2)
    assert ours.drift.retrain_on == ("performance",)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2024-03-01", "2024-02-01", "is not before"),
        ("2024-03-01", "2999-01-01", "future"),
        ("soon", "2024", "--from 'soon' is no time; write a date"),
        ("2024-03-01", "latest", "--to 'latest' is no time; write a date"),
        ("0001-01-01T00:00+14:00", "2024-03-01", "--from .* is no time"),
        ("2020-01-01", "2021-01-01", "--to lies before all rows: the first are of 2024-01-01"),
        ("2025-01-01", "2026-01-01", "no row lies between .*; the newest before is of 2024-1"),
    ],
)
def test_a_time_that_cannot_be_lived_through_is_refused(project: Path, start: str, end: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        lived(project, start=start, end=end)


def test_a_time_before_any_model_could_be_trained_says_from_when_on_one_can(project: Path) -> None:
    with pytest.raises(UserError, match="earliest moment"):
        lived(project, start="2024-01-05", end="2024-02-05", policies="never")


@pytest.mark.slow
def test_windows_without_any_row_have_no_score_and_end_no_replay(project: Path) -> None:
    """Those before the first row, and a month in which nothing happened."""
    path = project / "raw/subscriptions.csv"
    header, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *(line for line in lines if ",2024-08-" not in line)]))
    found = lived(project, start="2023-12-01", end="2024-10-01", policies="never")
    windows = found.policies["never"].by_window
    empty = [f"{window.start:%Y-%m}" for window in windows if not window.rows]
    assert empty == ["2023-12", "2024-08"]
    assert all(window.score is None for window in windows if f"{window.start:%Y-%m}" in empty)
    assert windows[-1].score > 0.5


def test_windows_are_those_of_the_calendar_between_both_ends(project: Path) -> None:
    params = run_file.params_of(project)
    asked = ReplayOptions("2024-01-20", "2024-03-10", "month", (), "roc_auc")
    found = bounds_of(asked, params, datetime(2026, 1, 1, tzinfo=UTC))
    assert [f"{bound:%m-%d}" for bound in found] == ["01-20", "02-01", "03-01", "03-10"]
    assert len(bounds_of(replace(asked, every="week"), params, datetime(2026, 1, 1, tzinfo=UTC))) == 9


def test_the_best_policy_keeps_the_budget_and_of_equals_is_the_thriftier() -> None:
    found = {
        "always": Contender(0.8, 8),
        "schedule": Contender(0.8, 4),
        "never": Contender(0.7, 0),
        "empty": Contender(None, 0),
    }
    assert best_of(found, "roc_auc", None) == "schedule"
    assert best_of(found, "roc_auc", 3) == "never"
    assert best_of(found, "log_loss", None) == "never"  # less is better there
    assert best_of({"always": Contender(0.8, 8)}, "roc_auc", 1) is None


def test_no_change_says_the_label_known_last_and_never_the_rows_own() -> None:
    import numpy as np

    from refit.operations.replay.scoring import _last_known

    hours = np.datetime64("2024-01-01T00", "us") + np.arange(4) * np.timedelta64(1, "h")
    at_once = _last_known(hours, hours, hours)  # each label is known at its own prediction
    assert at_once.tolist() == [-1, 0, 1, 2]
    later = _last_known(hours, hours, hours + np.timedelta64(1, "h"))
    assert later.tolist() == [0, 1, 2, 3]


def test_chance_is_compared_with_only_where_there_is_another_schedule() -> None:
    from refit.operations.replay.scoring import Scores

    assert against_chance(Scores((), (), ()), [], "accuracy", 0.95, 0) is None


def test_chance_gives_no_interval_of_windows_too_few_to_be_drawn_unlike() -> None:
    import numpy as np

    from refit.gate.comparison import LeftOut
    from refit.operations.replay.scoring import Scores

    def scores(values: list[float]) -> Scores:
        windows = tuple(LeftOut(value, np.array([value]), 1.0) for value in values)
        return Scores((10,) * len(values), (10,) * len(values), windows)

    few = against_chance(scores([0.7, 0.8, 0.9, 0.8]), [scores([0.6] * 4)], "accuracy", 0.95, 0)
    assert few is not None
    assert few.gain == Gain(value=0.2, lower=None, upper=None)
    many = against_chance(scores([0.7, 0.8, 0.9] * 4), [scores([0.6] * 12)], "accuracy", 0.95, 0)
    assert many is not None
    assert many.gain.lower <= many.gain.value <= many.gain.upper


def test_the_screen_tells_apart_policies_that_differ_in_their_last_setting(
    told: tuple[Path, ReplayResult, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    from refit.cli.replays import show
    from refit.runtime.terminal import Terminal

    _, found, _ = told
    never = found.policies["never"]
    names = [f"performance:retrain_every_days=60:alpha=0.{n}" for n in (1, 2)]
    changes = {"policies": dict.fromkeys(names, never), "best": None, "knee": None, "report": "/a [b]/c"}
    show(found.model_copy(update=changes), Terminal(width=80))
    shown = capsys.readouterr().out
    assert shown.count("alpha=0.1") == shown.count("alpha=0.2") == 2
    assert "no policy keeps the budget" in shown
    assert "/a [b]/c" in shown
