"""A project whose backtest is too short for its drift watch says so before the first run, with what would do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refit.cli import project_commands
from refit.config import Params, parse
from refit.drift.backtest_length import too_few_windows

NOW = datetime(2024, 9, 10, tzinfo=UTC)


def params(period: str, test: int = 1, drift: dict[str, Any] | None = None, **train: Any) -> Params:
    source = {"kind": "files", "path": "s.csv", "columns": {"id": "integer", "at": "timestamp"}, "key": ["id"]}
    windows = {"test": test, "validation": 1, "training": None}
    return parse(
        {
            "project": {"name": "demo", "timezone": "Europe/Berlin"},
            "ingest": {"period": period, "sources": {"s": {**source, "event_time": "at"}}},
            "featurize": {"label": {"source": "s", "column": "id", "delay_hours": 0}, "windows": windows},
            "train": {"learners": [{"name": "base", "kind": "baseline"}], **train},
            "drift": drift or {},
        }
    )


def test_two_weeks_are_too_few_for_windows_of_a_week() -> None:
    assert too_few_windows(params("week"), NOW) == (
        "a loss of skill cannot ask for a retraining yet: validation and test window hold 2 windows of drift.window: "
        "week, drift.min_reference_windows: 8 are needed; featurize.windows.test: 7 or drift.window: day, if a day has "
        "500 labelled rows would do"
    )


@pytest.mark.parametrize(
    "enough",
    [
        params("week", test=7),
        params("week", drift={"window": "day"}),
        params("month"),
        params("week", drift={"retrain_on": ["schedule"]}),
        params("week", cross_validation={"kind": "time", "folds": 3}),
    ],
    ids=["eight weeks", "days", "two months", "not asked for", "cross-validated"],
)
def test_nothing_is_said_where_a_loss_can_be_shown_or_is_not_looked_for(enough: Params) -> None:
    assert too_few_windows(enough, NOW) == ""


@pytest.mark.slow
def test_init_says_so_of_a_table_of_four_months(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = [date(2024, 1, 1) + timedelta(days=n // 6) for n in range(720)]
    lines = [f"{n},{day},{n * 7 % 13},{n * n % 3 % 2}" for n, day in enumerate(days)]
    (tmp_path / "t.csv").write_text("\n".join(["id,day,size,left", *lines]) + "\n")
    project_commands.init(tmp_path / "p", csv=tmp_path / "t.csv", time="day", label="left", key=["id"], git=False)
    assert "drift   a loss of skill cannot ask for a retraining yet" in capsys.readouterr().out
