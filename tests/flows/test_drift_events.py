"""The event of a drift decision names what the decision saw, so that the next one about the same week is another."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.drift_events import payload_of
from refit.config import DriftParams
from refit.config.evaluate import EvaluateParams
from refit.drift import inputs
from refit.drift.measures import ScoredRows
from refit.drift.performance import Backtest, judge_window
from refit.schemas.answered_drift import DataWindow
from refit.schemas.drift_decision import DayWindow, DecisionPolicy, DriftDecision, JudgedWindow

POLICY = DecisionPolicy.of(DriftParams(), EvaluateParams())
OLD, NEW = (DayWindow(first=date(2024, 11, day), end=date(2024, 11, day + 7)) for day in (11, 18))


def judged(window: DayWindow, rows: int) -> JudgedWindow:
    import numpy as np

    scored = ScoredRows(np.full(rows, np.datetime64(window.first)), np.full(rows, 0.5), np.full(rows, np.nan))
    performance = judge_window(Backtest((), 0.0, (), (), None), scored, window, POLICY)
    return JudgedWindow(
        first=window.first, end=window.end, inputs=inputs.empty_verdict(window), performance=performance
    )


def decision(as_of: datetime, rows: int = 10) -> DriftDecision:
    """A decision to retrain by schedule; the newest whole week is the one from the 18th on."""
    empty: dict[str, Any] = {"blocked": (), "columns": (), "multivariate": None, "backtest": (), "distributions": ()}
    return DriftDecision(
        model="demo",
        version="1",
        as_of=as_of,
        verdict="retrain",
        reasons=("schedule",),
        causes=("schedule",),
        window=NEW,
        trained_as_of=datetime(2024, 11, 1, tzinfo=UTC),
        new_labelled=1000,
        windows=(judged(OLD, 10), judged(NEW, rows)),
        seen_until=date(2024, 11, 1),
        policy=POLICY,
        report="report.html",
        **empty,
    )


def end(as_of: datetime, rows: int = 10) -> datetime:
    return DataWindow.of(payload_of(decision(as_of, rows), Path())["window"]).ends


def test_decisions_of_two_days_about_one_week_are_two_retrainings_and_of_one_day_one() -> None:
    tuesday, evening, thursday = (datetime(2024, 11, *each, tzinfo=UTC) for each in ((26, 5), (26, 21), (28, 5)))
    assert end(tuesday) == end(evening) == datetime(2024, 11, 27, tzinfo=UTC)
    assert end(thursday) > end(tuesday)


@pytest.mark.parametrize(
    ("as_of", "rows"), [(datetime(2024, 11, 24, 23, tzinfo=UTC), 10), (datetime(2024, 11, 25, tzinfo=UTC), 10)]
)
def test_the_window_never_ends_before_its_own_end(as_of: datetime, rows: int) -> None:
    """A week of Berlin is over an hour before it is in UTC."""
    assert end(as_of, rows) == datetime(2024, 11, 25, tzinfo=UTC)


def test_a_window_that_is_older_than_the_newest_is_named_as_it_is() -> None:
    assert end(datetime(2024, 11, 28, 5, tzinfo=UTC), rows=0) == datetime(2024, 11, 18, tzinfo=UTC)


def test_a_retraining_for_age_alone_is_not_called_drift() -> None:
    due = decision(datetime(2024, 11, 28, 5, tzinfo=UTC))
    assert payload_of(due, Path())["reason"] == "schedule: due every 30 days"
    lost = due.model_copy(update={"causes": ("performance", "schedule")})
    assert payload_of(lost, Path())["reason"] == "drift: performance, schedule"
