"""Drift reports, replays and the checks themselves in a real browser: narrow, wide, dark and printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import chromium, looked_at

from refit.reports import home_page, replay_report, templates
from refit.reports.home_page import Overview
from refit.schemas.replay_result import ReplayResult
from registry.ledger import Entry
from tests.refit.reports.test_drift_report import CASES, page

pytestmark = pytest.mark.slow


def policy(name: str, score: float) -> dict[str, Any]:
    months = range(1, 7)
    return {
        "score": score,
        "behind_best": {"value": 0.75 - score, "lower": -0.001, "upper": 0.02},
        "trainings": 3,
        "retrainings": 2,
        "promotions": 1,
        "refusals": 1,
        "train_seconds": 4.5,
        "train_cost": 0.001,
        "first": {"as_of": "2024-01-01T00:00:00Z", "learner": "boosting"},
        "rows": 600,
        "labelled": 590,
        "by_window": [
            {
                "day": f"2024-0{month}-01",
                "start": f"2024-0{month}-01T00:00:00Z",
                "end": f"2024-0{month + 1}-01T00:00:00Z",
                "rows": 100,
                "scored": 100,
                "labelled": 98,
                "score": score + month / 100,
                "train_seconds": 1.5,
                "trained": month % 2 == 0,
                "promoted": month == 2,
                "refused": month == 4,
                "in_charge": "2024-01-01T00:00:00Z",
            }
            for month in months
        ],
        "steps": [
            {
                "as_of": f"2024-0{month}-01T00:00:00Z",
                "asked": True,
                "reasons": [f"{name} was due"],
                "learner": "boosting",
                "promoted": month == 2,
                "gate": ["a gain of 0.01, needed more than -0.005"],
            }
            for month in months
        ],
    }


def replay() -> ReplayResult:
    names = ("never", "schedule", "drift", "drift:breached=1,windows=5,retrain_on=[performance,schedule]")
    content = {
        "model": "flight_delays",
        "from": "2024-01-01",
        "to": "2024-07-01",
        "every": "month",
        "metric": "roc_auc",
        "confidence": 0.95,
        "currency": "USD",
        "no_change": 0.6,
        "budget": None,
        "best": "drift",
        "trained_now": 3,
        "parts": {"features": 1.0},
        "seconds": 9.5,
        "policies": {name: policy(name, 0.7 + place / 100) for place, name in enumerate(names)},
    }
    return ReplayResult.from_json(content, "a replay")


def test_drift_and_replay_pages_are_whole_at_every_width_in_the_dark_and_on_paper(tmp_path: Path) -> None:
    written = [replay_report.write(tmp_path, replay())]
    for name in ("ok", "warn", "retrain", "nothing to judge"):
        written.append(tmp_path / f"drift {name}.html")
        written[-1].write_text(page(CASES[name][0]), encoding="utf-8")
    assert looked_at(*written) == []


def test_a_ledger_has_room_for_its_reasons_and_stacks_them_where_the_page_is_narrow(tmp_path: Path) -> None:
    reasons = ("+0.4566 ROC AUC against the baseline, at least +0.4448 with 96% confidence; more than +0.0200",) * 3
    trigger = "drift: performance; window 2024-11-18 to 2024-11-25; columns support_calls, tenure_months, monthly_price"
    digests = {"candidate": "68f85273ab"}
    line = Entry(
        "k", "2024-03-04T00:00:00Z", "ann@a-machine", trigger, "refuse", "toy", "1", "2", reasons, None, digests
    )
    pages = [tmp_path / "history.html", tmp_path / "home.html"]
    pages[0].write_text(home_page.render_history("toy", [line]))
    pages[1].write_text(home_page.render(Overview("toy", None, "", "plain", (), (), (), (line,))))
    assert looked_at(*pages) == []
    with chromium() as browser:
        for page in pages:
            for width, most in ((1100, 9), (400, 9)):
                browser.open(page, width=width)
                why = "document.querySelector('td.why')"
                lines = browser.ask(
                    f"{why}.getBoundingClientRect().height / parseFloat(getComputedStyle({why}).lineHeight)"
                )
                assert lines <= most, (page.name, width)
                cells = "[...document.querySelectorAll('table.ledger tbody > tr > *')]"
                assert browser.ask(f"Math.max(...{cells}.map((e) => e.getBoundingClientRect().right))") <= width


def test_what_is_wrong_with_a_page_is_noticed(tmp_path: Path) -> None:
    """The checks find what they are for, and a text that became a script does not run."""
    good = templates.render(templates.templates().from_string("{% extends 'page.html.j2' %}"))
    bad = """<div style="width: 900px">too wide</div>
<div style="overflow-x: auto"><p style="width: 900px">no hint</p></div>
<div class="scroll"><p style="width: 900px">a hint</p></div>
<div class="scroll"><p style="width: 900px; background: #fff; margin: 0">covers the hint</p></div>
<p style="color: #999">faint</p> <figure><svg role="img" width="90" height="40"><text x="1" y="20">one</text>
<text x="2" y="22">two</text></svg></figure> <img src="https://example.org/x.png">
<script>document.title = "ran"</script>"""
    (tmp_path / "bad.html").write_text(good.replace("<main>", f"<main>{bad}"), encoding="utf-8")
    with chromium() as browser:
        seen = browser.open(tmp_path / "bad.html", width=400)
        assert browser.faults("overflow") == ["DIV too wide"]
        assert [each.partition(" ")[0] for each in browser.faults("without_hint")] == ["DIV.", "DIV.scroll"]
        assert browser.faults("overlaps") == ["one | two"]
        assert [each[:4] for each in browser.faults("nameless")] == ["<fig", "<svg", "<img"]
        assert [each.rpartition(" ")[2] for each in browser.faults("faint")] == ["faint"]
        assert browser.ask("document.title") != "ran"
        assert len([each for each in seen.complaints if "Content Security Policy" in each]) == 2, "a script, an image"
