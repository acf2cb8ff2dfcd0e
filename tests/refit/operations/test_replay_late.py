"""A replay knows of late rows what the project recorded of them, not when it read them itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refit.config import parse
from refit.operations.replay.history import history
from refit.runtime.context import Context
from tasks import ingest

PARAMS = {
    "project": {"name": "sold", "timezone": "UTC"},
    "ingest": {
        "sources": {
            "sales": {
                "kind": "files",
                "path": "*.csv",
                "columns": {"id": "integer", "day": "timestamp", "price": "number", "back": "integer"},
                "key": ["id"],
                "event_time": "day",
                "changes": {"kind": "late", "within": "90d"},
            }
        }
    },
    "featurize": {"label": {"source": "sales", "column": "back", "delay_hours": 0}},
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}
START, ARRIVED = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 4, 2, 9, tzinfo=UTC)


def lines(days: range) -> str:
    rows = (f"{day},{START + timedelta(days=day):%Y-%m-%d},{day % 7},{day % 2}" for day in days)
    return "\n".join(["id,day,price,back", *rows, ""])


@pytest.mark.ci
def test_a_label_that_came_late_is_known_in_a_replay_from_the_recorded_arrival_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(range(5, 91)))
    ingest.take_in(Context(tmp_path, parse(PARAMS), now=lambda: datetime(2024, 4, 1, tzinfo=UTC)))
    (tmp_path / "b.csv").write_text(lines(range(5)))
    ingest.take_in(Context(tmp_path, parse(PARAMS), now=lambda: ARRIVED))
    context = Context(tmp_path, parse(PARAMS), now=lambda: datetime(2024, 6, 1, tzinfo=UTC))
    for _ in range(2):
        rows = history(context, datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC))
        known = {str(moment) for moment in rows.known_at[:5]}
        assert known == {"2024-04-02T09:00:00.000000"}
        assert str(rows.known_at[5]) == "2024-01-06T00:00:00.000000"
        before = history(context, datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 4, 2, 8, tzinfo=UTC))
        assert len(before) == len(rows) - 5
