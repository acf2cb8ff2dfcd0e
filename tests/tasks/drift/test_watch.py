"""Watching a champion: quiet while nothing changes, clear when skill is lost, the same when asked twice."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest
from driving import drive, later_months
from quick import quick

from flows.drift_events import payload_of
from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json
from refit.runtime import registry_store, run_file
from refit.runtime.context import Context
from refit.schemas.drift_decision import DayWindow, DriftDecision
from registry import tracking as mlflow_runs
from registry.client import client
from tasks.drift import watch


def context(project: Path) -> Context:
    return Context(project=project, params=run_file.params_of(project), now=lambda: datetime(2026, 1, 1, tzinfo=UTC))


def metrics_of(project: Path, version: str) -> dict[str, list[tuple[int, float]]]:
    """The metrics of the run that shows a version's drift: name -> (step, value)."""
    with registry_store.opened(context(project)) as store:
        experiment = mlflow_runs.ensure_experiment(store, "demo")
        run = mlflow_runs.find_run(store, experiment, {"refit.drift": version})
        assert run is not None
        history = partial(client(store).get_metric_history, run.info.run_id)
        return {name: [(each.step, each.value) for each in history(name)] for name in run.data.metrics}


@pytest.mark.ci
def test_quiet_months_are_ok_and_every_window_is_accounted_for(project: Path) -> None:
    later_months(project, turned=False)
    told = watch.run(context(project), as_of="2024-11-25")
    assert told.verdict == "ok", told.reasons
    assert told.window == DayWindow(first=date(2024, 11, 18), end=date(2024, 11, 25))
    assert told.windows[-1].end == date(2024, 11, 25)
    newest = told.windows[-1].performance
    assert newest.labelled == newest.rows > 100
    assert newest.skill == pytest.approx(newest.value - 0.5)
    assert {column.column for column in told.windows[-1].inputs.columns} >= {"plan", "label", "prediction"}
    kept = sorted((project / watch.DECISIONS).glob("*.json"))
    assert [path.name for path in kept] == ["20241125T000000Z.json"]
    assert read_json(kept[0]) == told.to_json()
    assert DriftDecision.read(kept[0]) == told
    steps = [step for step, _ in metrics_of(project, told.version)["skill"]]
    assert steps[-1] == (date(2024, 11, 25) - date(1970, 1, 1)).days


@pytest.mark.ci
def test_silent_change_of_concept_asks_for_a_retraining_once(project: Path) -> None:
    later_months(project, turned=True)
    told = watch.run(context(project), as_of="2024-11-25")
    assert (told.verdict, told.causes) == ("retrain", ("performance",)), told.reasons
    assert told.windows[-1].performance.breached
    assert payload_of(told, project) == {
        "project": str(project),
        "model": "demo",
        "version": told.version,
        "reason": "drift: performance",
        "window": {"first": "2024-11-18", "end": "2024-11-25"},
        "columns": list(told.columns),
        "as_of": "2024-11-25T00:00:00Z",
    }
    again = watch.run(context(project), as_of="2024-11-25")
    assert again == told
    next_day = watch.run(context(project), as_of="2024-11-26")
    assert next_day.verdict == "warn"
    assert "the last retraining was decided 1.0 days ago" in next_day.blocked[0]


@pytest.mark.slow
def test_retraining_that_was_asked_for_counts_although_it_was_answered_and_decided_otherwise(project: Path) -> None:
    later_months(project, turned=True)
    asked = watch.run(context(project), as_of="2024-11-25")
    settings = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(settings.replace("  window: week\n", "  window: week\n  retrain_on: []\n"))
    answered = watch.run(context(project), as_of="2024-11-25")
    assert (asked.verdict, answered.verdict) == ("retrain", "warn")
    assert watch.run(context(project), as_of="2024-11-25") == answered
    kept = sorted((project / watch.DECISIONS).glob("*.json"))
    assert [path.name for path in kept] == ["20241125T000000Z.2.json", "20241125T000000Z.json"]
    assert watch.decisions(context(project)) == [asked, answered]
    (project / "params.yaml").write_text(settings)
    assert "decided 1.0 days ago" in watch.run(context(project), as_of="2024-11-26").blocked[0]


@pytest.mark.parametrize("content", quick(["[]", "null", '{"a": 1}'], 2))
def test_file_that_is_no_decision_is_named(project: Path, content: str) -> None:
    (project / watch.DECISIONS).mkdir(parents=True)
    (project / watch.DECISIONS / "notes.json").write_text(content)
    with pytest.raises(RefitError, match=r"notes\.json is damaged or was changed \(DriftDecision: .*; move it away"):
        watch.run(context(project), as_of="2024-11-25")


@pytest.mark.slow
def test_labels_that_are_not_ripe_do_not_count(project: Path) -> None:
    later_months(project, turned=True)
    settings = (project / "params.yaml").read_text().replace("delay_hours: 0", "delay_hours: 240")
    (project / "params.yaml").write_text(settings)
    told = watch.run(context(project), as_of="2024-11-25")
    measured = {str(window.end): window.performance for window in told.windows}
    assert measured["2024-11-25"].labelled == 0
    assert measured["2024-11-25"].estimated is not None
    assert measured["2024-11-11"].labelled == measured["2024-11-11"].rows > 0


def test_a_key_that_comes_again_in_a_later_month_is_refused_as_in_training(project: Path) -> None:
    later_months(project, turned=False)
    text = (project / "raw/later.csv").read_text()
    (project / "raw/later.csv").write_text(text.replace("\nLS", "\nS"))
    with pytest.raises(UserError, match=r"'cases' has 2 rows with subscription = S.*give a key that names each row"):
        watch.run(context(project), as_of="2024-11-25")


def test_before_the_first_window_is_over_there_is_nothing_to_judge(project: Path) -> None:
    told = watch.run(context(project), as_of="2024-10-05")
    assert (told.verdict, told.window, told.windows) == ("ok", None, ())
    assert told.reasons[-1].startswith("nothing to judge yet")


def test_time_in_which_no_data_came_is_told(project: Path) -> None:
    told = watch.run(context(project), as_of="now")
    assert told.verdict == "warn"
    assert any("no row came; does the source still deliver?" in reason for reason in told.reasons), told.reasons


@pytest.mark.slow
def test_a_retraining_is_not_asked_for_while_its_windows_would_hold_no_labelled_row(project: Path) -> None:
    later_months(project, turned=False)
    told = watch.run(context(project), as_of="2025-06-01")
    assert (told.verdict, told.causes) == ("warn", ("schedule",)), told.reasons
    assert told.new_labelled >= 500  # enough, but all are too old
    assert told.reasons[0] == (
        "held back: no row with a label lies in the validation window of a retraining now, which ends 2025-03-31; the "
        "newest row with a label is of 2024-12-31"
    )
    with pytest.raises(UserError, match="no row with a label lies in the validation window, which ends 2025-04-01"):
        drive(project, as_of="2025-06-01")


@pytest.mark.slow
def test_month_whose_labels_are_all_yet_to_come_is_watched_without_them(project: Path) -> None:
    later_months(project, turned=False)
    rows = list(csv.DictReader((project / "raw/later.csv").open()))
    with (project / "raw/later.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"churned": ""} for row in rows)
    told = watch.run(context(project), as_of="2024-11-25")
    newest = told.windows[-1].performance
    assert newest.labelled == 0
    assert newest.rows > 100
    assert newest.estimated is not None


def test_a_missing_champion_is_said(project: Path) -> None:
    for name in ("mlflow.db", "ledger.db"):
        (project / ".refit" / name).unlink()
    with pytest.raises(UserError, match="no version of demo is champion yet"):
        watch.run(context(project))
