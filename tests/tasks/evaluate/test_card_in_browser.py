"""The model card in a real browser: narrow, wide, dark and printed, and its threshold slider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from browsing import chromium, looked_at

from refit.files import artifacts
from refit.files.artifacts import MODEL_CARD

pytestmark = pytest.mark.slow
STATED = {
    "owner": "Ada <ada@example.org>",
    "intended_use": "to call the customers who are most likely to leave",
    "limits": ["not for prices", "no customers below 18"],
    "licence": "internal",
    "links": {"runbook": "https://example.org/runbook"},
}


@pytest.fixture
def card(drawn: Callable[..., dict[str, Any]], small_project: Any) -> Any:
    small_project.make_champion("3")
    small_project.train("strength", "echo")
    evaluation = drawn(evaluate__card=STATED, train__threshold={"by": "cost", "false_positive": 1, "false_negative": 5})
    return small_project.path(MODEL_CARD), evaluation


def test_the_card_is_whole_at_every_width_in_the_dark_and_on_paper(card: Any) -> None:
    path, _ = card
    assert looked_at(path) == []


def test_the_slider_says_what_the_test_rows_say_at_another_threshold(card: Any, small_project: Any) -> None:
    path, evaluation = card
    rows = pq.read_table(small_project.path(artifacts.JUDGED_ROWS))
    labels, p = rows["label"].to_numpy(), rows["candidate"].to_numpy()
    with chromium() as browser:
        browser.open(path, width=1100)
        value = "document.querySelector('[data-value={}]').textContent"
        own = evaluation["candidate"]["threshold"]
        assert float(browser.ask(value.format("threshold"))) == pytest.approx(own, abs=1e-4)
        browser.ask("document.querySelector('input[type=range]').focus()")
        for _ in range(9):
            browser.press("ArrowRight")
        index = int(browser.ask("document.querySelector('input[type=range]').value"))
        threshold = evaluation["thresholds"][index][0]
        assert threshold > own
        called, positive = p >= threshold, labels == 1
        hits, alarms, misses = (int(each.sum()) for each in (called & positive, called & ~positive, ~called & positive))
        assert float(browser.ask(value.format("precision"))) == pytest.approx(hits / (hits + alarms), abs=5e-4)
        assert float(browser.ask(value.format("recall"))) == pytest.approx(hits / (hits + misses), abs=5e-4)
        assert float(browser.ask(value.format("f1"))) == pytest.approx(
            2 * hits / (2 * hits + alarms + misses), abs=5e-4
        )
        assert float(browser.ask(value.format("accuracy"))) == pytest.approx(
            float(np.mean(called == positive)), abs=5e-4
        )
        assert browser.ask(value.format("cost")).replace(",", "") == str(alarms + 5 * misses)
