"""Forecasts of every n-th step (`every`), learned from in some horizons (`learn`)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from refit.files.artifacts import TABLE
from tests.end_to_end.test_forecasts import HORIZONS, begun, featurized, project

__all__ = ["begun", "project"]  # fixtures


@pytest.mark.slow
def test_forecasts_of_every_nth_step_are_learned_in_some_horizons_and_judged_in_all(project: Path) -> None:
    forecast = "ingest.sources.forecasts.forecast"
    featurized(project, {f"{forecast}.every": 5, f"{forecast}.learn": 1})
    rows = pq.read_table(project / TABLE).to_pylist()
    began = {row["event_time"] - timedelta(days=1) for row in rows}
    assert {(moment - datetime(1970, 1, 1)).days % 5 for moment in began} == {0}  # noqa: DTZ001
    horizons: dict[str, dict[tuple[str, datetime], list[int]]] = {"train": {}, "validation": {}, "test": {}}
    for row in rows:
        horizons[row["window"]].setdefault((row["shop"], row["event_time"]), []).append(row["horizon"])
    assert {len(each) for each in horizons["train"].values()} == {1}
    assert {each[0] for each in horizons["train"].values()} == set(HORIZONS)
    for window in ("validation", "test"):
        assert max(len(each) for each in horizons[window].values()) == len(HORIZONS)
    assert len(horizons["train"]) >= 30  # of two shops, over three months
