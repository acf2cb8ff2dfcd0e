"""Forecasts over steps that were corrected, from the files to the features."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feature_store.offline import compute
from refit.config import parse
from refit.runtime.context import Context
from tasks.featurize import forecasts
from tasks.featurize.warehouse import open_warehouse, sources
from tests.tasks.test_changes_in_docs import accepted

FIRST = datetime(2024, 1, 1)  # noqa: DTZ001 - UTC
WRONG, CORRECTED_AT = datetime(2024, 2, 5), datetime(2024, 2, 11, 12)  # noqa: DTZ001
PARAMS: dict[str, Any] = {
    "project": {"name": "sold", "timezone": "UTC"},
    "ingest": {
        "sources": {
            "days": {
                "kind": "files",
                "path": "raw/*.csv",
                "columns": {"day": "timestamp", "sold": "number", "read_at": "timestamp"},
                "key": ["day"],
                "event_time": "day",
                "changes": {"kind": "corrections", "version": "read_at"},
                "events": {"sales": {"available_at": "event_time + interval 1 day", "columns": {"sold": "sold"}}},
            },
            "ahead": {
                "kind": "forecasts",
                "forecast": {"of": "days", "step": "1d", "horizons": [1, 3], "season": 7},
            },
        }
    },
    "featurize": {"label": {"source": "sales", "column": "sold", "delay_hours": 0}},
    "train": {"task": "forecast", "learners": [{"name": "naive", "kind": "baseline"}]},
    "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.0}},
}


def test_a_forecast_has_the_season_before_in_the_version_that_was_known(tmp_path: Path) -> None:
    days = [FIRST + timedelta(days=n) for n in range(60)]
    lines = [f"{day},{n},{day + timedelta(days=1)}\n" for n, day in enumerate(days)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/first.csv").write_text("day,sold,read_at\n" + "".join(lines))
    (tmp_path / "raw/later.csv").write_text(f"day,sold,read_at\n{WRONG},-1,{CORRECTED_AT}\n")
    context = Context(tmp_path, parse(PARAMS), now=lambda: datetime(2024, 3, 5, tzinfo=UTC))
    params, declared = context.params, sources(context.params)
    assert params.forecast is not None
    feature_set = forecasts.completed(forecasts.default(params, params.forecast), params, params.forecast, declared)
    with open_warehouse(tmp_path, accepted(context, "2024-03-01"), params) as warehouse:
        spine = warehouse.rows(feature_set.spine, declared)
        relations = {name: warehouse.relation(name, declared) for name in feature_set.sources()[1:]}
        table = compute(warehouse.connection, feature_set, spine, relations, warehouse.as_of).to_arrow_table()
    seasons = {(row["event_time"], row["horizon"]): row["seasonal_naive"] for row in table.to_pylist()}
    for (made, horizon), season in seasons.items():
        before = made + timedelta(days=horizon - 8)
        expected = -1 if before == WRONG and made >= CORRECTED_AT else (before - FIRST).days
        assert season == (expected if before >= FIRST else None), (made, horizon)
    target = WRONG + timedelta(days=7)
    assert (seasons[target, 1], seasons[target - timedelta(days=2), 3]) == (-1, 35)
