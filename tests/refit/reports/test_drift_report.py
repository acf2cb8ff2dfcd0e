"""The drift report says what the stored decision says, in every case, and runs nothing that comes from data."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flows.summary_display import drift_rows
from refit.reports.drift import drift_report, report_words
from refit.schemas.drift_decision import ColumnDrift, DriftDecision

FIRST = date(2024, 3, 4)
HOSTILE = "<script>alert('x')</script>"

Told = dict[str, Any]


def column(name: str, effect: float, *, kind: str = "number", calibrated: bool = True) -> Told:
    effects = {"psi": effect, "wasserstein" if kind == "number" else "jensen_shannon": effect / 2, "missing": 0.0}
    return {
        "column": name,
        "kind": kind,
        "effects": effects,
        "thresholds": {"psi": 0.2, "wasserstein": 0.3, "jensen_shannon": 0.3, "missing": 0.02},
        "p": 0.0004 if calibrated else None,
        "breached": effect >= 0.2,
    }


def measured(skill: float | None, *, calibrated: bool = True) -> Told:
    known = skill is not None
    return {
        "metric": "roc_auc",
        "rows": 1234,
        "labelled": 1200 if known else 0,
        "value": None if skill is None else skill + 0.5,
        "skill": skill,
        "lower": None if skill is None else skill - 0.031,
        "upper": None if skill is None else skill + 0.031,
        "expected": 0.262,
        "spread": 0.02,
        "threshold": 0.217 if calibrated else None,
        "estimated": 0.757,
        "estimated_skill": 0.257,
        "suspected": False,
        "breached": calibrated and skill is not None and skill < 0.217,
        "reasons": [],
    }


def drifted(columns: list[Told], *reasons: str) -> Told:
    return {
        "rows": 1234,
        "calibrated": False,
        "reference_windows": 3,
        "columns": columns,
        "breached": any(each["breached"] for each in columns),
        "reasons": list(reasons or ("1 of 2 columns moved", "uncalibrated: too short")),
    }


def span(place: int) -> dict[str, str]:
    return {
        "first": str(FIRST + timedelta(weeks=place)),
        "end": str(FIRST + timedelta(weeks=place + 1)),
    }


def decision(verdict: str, *, skill: float | None = 0.25, calibrated: bool = True, windows: int = 4) -> Told:
    columns = [column("amount", 0.41, calibrated=calibrated), column("shop", 0.05, kind="category")]
    shown = [
        {
            **span(place),
            "inputs": drifted(columns),
            "performance": measured(skill, calibrated=calibrated),
        }
        for place in range(windows)
    ]
    return {
        "model": "demo",
        "version": "7",
        "as_of": "2024-04-02T00:00:00Z",
        "verdict": verdict,
        "reasons": [f"performance: a reason to {verdict}", "input: amount (3 of 3) drifted"],
        "causes": ["performance"] if verdict == "retrain" else [],
        "blocked": [],
        "window": span(windows - 1) if windows else None,
        "columns": ["amount"],
        "multivariate": None,
        "trained_as_of": "2024-03-01T00:00:00Z",
        "new_labelled": 4321,
        "windows": shown,
        "seen_until": "2024-02-01",
        "policy": {
            "window": "week",
            "windows": 3,
            "breached": 2,
            "retrain_on": ["performance"],
            "cooldown_days": 7,
            "monthly_budget": 4,
            "alpha": 0.05,
            "min_skill_loss": 0.02,
            "false_discovery": 0.05,
            "metric": "roc_auc",
            "confidence": 0.95,
        },
        "backtest": [
            {**span(place - 9), "skill": 0.26, "lower": 0.2, "upper": 0.3, "estimated_skill": 0.25}
            for place in range(8)
        ],
        "distributions": [
            {
                "column": "amount",
                "kind": "number",
                "rows": [900, 100],
                "edges": [0.0, 1.0, 2.0],
                "then": [0.25, 0.75],
                "now": [0.5, 0.4],
                "beyond": [0.0, 0.1],
                "missing": [0.0, 0.034],
            },
            {
                "column": "shop",
                "kind": "category",
                "rows": [900, 100],
                "names": ["north", "south"],
                "then": [0.6, 0.4],
                "now": [0.5, 0.25],
                "other": [0.0, 0.0],
                "unseen": [0.0, 0.25],
                "missing": [0.0, 0.0],
            },
        ]
        if windows
        else [],
        "report": "reports/drift/report.html",
    }


def stored(told: Told) -> DriftDecision:
    return DriftDecision.from_json(told, "a decision")


def colours_of(page: str, tip: str) -> list[set[str]]:
    """The colours of each part of a chart whose tooltip contains a text."""
    charts = [ElementTree.fromstring(chart) for chart in re.findall("<svg.*?</svg>", page, re.DOTALL)]
    parts = [part for chart in charts for part in chart.iter("g") if tip in part.findtext("title", "")]
    return [set(re.findall(r"--\w+", " ".join(each.get("style", "") for each in part.iter()))) for part in parts]


def page(told: Told) -> str:
    return drift_report.render(stored(told), [stored(told)])


CASES = {
    "ok": (decision("ok"), "Version 7 still fits."),
    "warn": (decision("warn"), "Look at version 7"),
    "retrain": (decision("retrain", skill=0.1), "Train version 7 again: it has lost skill."),
    "held back": (decision("warn") | {"blocked": ["the last one is new"]}, "Version 7 should be trained again"),
    "nothing to judge": (decision("ok", windows=0) | {"backtest": []}, "Nothing to judge yet."),
    "uncalibrated": (decision("ok", calibrated=False), "Its backtest is too short to say how low is unusual"),
    "unlabelled": (decision("ok", skill=None), "No window of production has enough labels yet."),
    "no backtest": (decision("ok", skill=None) | {"backtest": []}, "as far as can be seen without labels"),
    "one window": (decision("ok", windows=1), "Version 7 still fits."),
}


def test_what_was_never_looked_at_is_not_called_ok() -> None:
    empty = decision("ok", skill=None)
    empty["windows"] = [{**each, "inputs": {**each["inputs"], "columns": []}} for each in empty["windows"]]
    for told in (decision("ok", windows=0), empty):
        assert ("verdict", "nothing judged yet") in drift_rows(stored(told))
        assert report_words.verdict(stored(told)) == "Nothing to judge yet."
    for told in (decision("ok"), decision("ok", skill=None), decision("warn", windows=0)):
        assert ("verdict", told["verdict"]) in drift_rows(stored(told))


@pytest.mark.parametrize("case", CASES)
def test_terminal_and_page_name_the_same_next_step(case: str) -> None:
    sentence, command = report_words.next_step(stored(CASES[case][0]))
    assert drift_rows(stored(CASES[case][0]))[-1] == ("next", f"{sentence} {command}")
    assert command in ("refit run", "refit drift")


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_page_that_fetches_nothing_and_runs_nothing(case: str) -> None:
    told, sentence = CASES[case]
    found = page(told)
    assert sentence in found
    assert all(reason in found for reason in told["reasons"])
    assert not re.findall(r"href=(?!\"#)|src=|url\(|@import|<script|<link|<iframe|\son\w+=|https?:", found)
    assert "nan" not in re.sub(r"[A-Za-z]{4,}", "", found)


def test_a_window_without_rows_and_a_column_that_comes_late_leave_empty_cells() -> None:
    told = decision("ok")
    told["windows"][0]["inputs"] = drifted([], "no row lies in the window")
    told["windows"][0]["performance"] = {**measured(None), "estimated": None, "estimated_skill": None, "rows": 0}
    assert page(told).count(": not measured</title>") == 2


def test_what_cannot_be_judged_is_said_with_its_reason_instead_of_numbers() -> None:
    told, wild = decision("ok"), "they differ too much"
    for window in told["windows"]:
        window["inputs"]["columns"][0] |= {
            "effects": {"psi": 6.9},
            "thresholds": {"psi": None},
            "breached": False,
            "unjudged": {"psi": "weeks are too unlike"},
        }
        brier = {"name": "brier", "value": 0.1, "expected": 0.2, "threshold": None, "breached": False, "unjudged": wild}
        window["performance"] |= {"threshold": None, "unjudged": wild, "others": [brier], "breached": False}
    found = page(told)
    assert "6.900" not in found
    assert found.count('<small title="weeks are too unlike">cannot be judged</small>') == 1
    assert "cannot be judged: weeks are too unlike." in found
    assert found.count(": cannot be judged</title>") == len(told["windows"])
    assert "brier cannot be judged" in found
    assert found.count(f'<small title="{wild}">cannot be judged</small>') == len(told["windows"])
    assert "its skill cannot be judged" in found
    nothing = DriftDecision.model_validate_json(json.dumps(told))
    assert nothing.anything_judged, "the shop's column can be"


def test_what_comes_from_data_is_escaped() -> None:
    told = decision("warn")
    for window in told["windows"]:
        window["inputs"]["columns"] = [column(HOSTILE, 0.41)]
    told["distributions"] = [{**told["distributions"][1], "column": HOSTILE, "names": [HOSTILE, "south"]}]
    told |= {"model": HOSTILE, "reasons": [HOSTILE]}
    found = page(told)
    assert "<script" not in found
    assert "&lt;script&gt;" in found


def test_the_page_states_the_numbers_of_the_decision() -> None:
    told = decision("retrain", skill=0.123)
    found = page(told)
    for number in ("0.123", "0.217", "0.262", "0.623", "0.410", "0.757", "4,936", "4,800", "4,321", "3.4%"):
        assert number in found, number
    assert "psi 0.410 of 0.200" in found.lower()
    assert colours_of(found, "· drifted") == [{"--bad"}] * len(told["windows"])
    assert colours_of(found, "breached below 0.217") == [{"--bad"}] * len(told["windows"])


def test_columns_are_ranked_by_their_worst_window_and_the_rest_is_counted() -> None:
    told = decision("ok", windows=2)
    many = [column(f"c{place:02}", place / 1000) for place in range(drift_report.MOST_COLUMNS + 5)]
    told["windows"][0]["inputs"]["columns"] = [column("once", 0.9), *many]
    told["windows"][1]["inputs"]["columns"] = many
    told["distributions"] = []
    found = page(told)
    assert "6 columns that moved less are left out" in found
    assert found.index(">once<") < found.index(">c40<") < found.index(">c39<")


def test_history_ends_with_this_decision_and_is_of_its_model_alone() -> None:
    told = decision("ok")
    earlier = {**told, "as_of": "2024-03-01T00:00:00Z", "reasons": ["an early reason"]}
    later = {**told, "as_of": "2024-05-01T00:00:00Z", "reasons": ["a late reason"]}
    foreign = {**earlier, "model": "other", "reasons": ["a foreign reason"]}
    found = drift_report.render(stored(told), [*map(stored, (foreign, earlier, told, later))])
    assert "an early reason" in found
    assert "a late reason" not in found
    assert "a foreign reason" not in found


def test_a_threshold_of_zero_is_no_drift_by_itself() -> None:
    zero = {"column": "a", "kind": "number", "effects": {"psi": 0.0}, "thresholds": {"psi": 0.0}}
    assert ColumnDrift(**zero, p=None, breached=False).severity == 0.0


def test_a_drift_run_leaves_its_report_next_to_its_decision_and_in_mlflow(project: Path) -> None:
    from refit.runtime import registry_store, run_file
    from refit.runtime.context import Context
    from registry.client import client
    from tasks.drift import watch

    context = Context(project=project, params=run_file.params_of(project))
    told = watch.run(context)
    assert (project / told.report).read_text() == drift_report.render(told, watch.decisions(context))
    assert json.loads(next((project / watch.DECISIONS).glob("*.json")).read_text()) == told.to_json()
    with registry_store.opened(context) as store:
        mlflow = client(store)
        experiment = mlflow.get_experiment_by_name(told.model)
        [run] = mlflow.search_runs([experiment.experiment_id], "tags.`refit.role` = 'drift'")
        assert [each.path for each in mlflow.list_artifacts(run.info.run_id, "drift")] == ["drift/report.html"]
