"""A time that lies after the prediction does not count as known without a word; a second time column runs."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from feature_store.definition import Spine
from refit.config import parse
from refit.config.featurize import FeaturizeParams
from refit.files import artifacts
from refit.runtime.context import Context
from tasks import featurize, ingest, validate
from tasks.featurize import foresight
from tasks.featurize.labels import CHOSEN, LABEL_KNOWN_AT, WINDOW

START = datetime(2024, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone


def said(path: Path, cases: dict[str, str] | None, kinds: dict[str, str], later_hours: float) -> tuple[list[str], Any]:
    """What featurize says of tickets with a second time, so many hours after they were opened, and the table."""
    (path / "raw").mkdir(parents=True)
    with (path / "raw/a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "opened", "closed", "written", "x", "y"])
        for n in range(240):
            opened = START + timedelta(hours=12 * n)
            closed = opened + timedelta(hours=later_hours)
            writer.writerow([n, opened, closed, closed.strftime("%d/%m/%Y %H:%M"), n % 5, n % 2])
    columns = {"id": "integer", "opened": "timestamp", "closed": "timestamp", "written": "text", "x": "number"}
    source: dict[str, Any] = {
        "kind": "files", "path": "raw/*.csv", "columns": {**columns, "y": "integer", **kinds}, "key": ["id"],
        "event_time": "opened",
    }  # fmt: skip
    if cases:
        source["events"] = {"cases": {"available_at": "event_time", "columns": {**cases, "y": "y"}}}
    params = {
        "project": {"name": "tickets"},
        "ingest": {"sources": {"table": source}},
        "featurize": {"label": {"source": "cases" if cases else "table", "column": "y", "delay_hours": 0}},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    lines: list[str] = []
    context = Context(
        path, parse(params), progress=lambda what, *_: lines.append(what), now=lambda: datetime(2024, 6, 1, tzinfo=UTC)
    )
    for stage in (ingest, validate, featurize):
        stage.run(context)
    return [line for line in lines if "lies after the prediction" in line], pq.read_table(path / artifacts.TABLE)


WRITTEN = "epoch(strptime(written, '%d/%m/%Y %H:%M')) / 86400"


@pytest.mark.parametrize(
    ("cases", "part"),
    [
        (None, "closed"),
        ({"closed": "epoch(closed) / 86400"}, "closed"),
        pytest.param({"closed": "closed"}, "closed", marks=pytest.mark.slow),
        pytest.param({"closed": "closed::date"}, "closed", marks=pytest.mark.slow),
        ({"closed": WRITTEN}, "strptime(written"),
        pytest.param({"closed": "epoch(closed - opened)"}, "closed", marks=pytest.mark.slow),
        pytest.param({"closed": "date_diff('hour', opened, closed)"}, "closed", marks=pytest.mark.slow),
    ],
)
def test_a_time_after_the_prediction_is_named(tmp_path: Path, cases: dict[str, str] | None, part: str) -> None:
    lines, table = said(tmp_path, cases, {}, later_hours=30)
    assert len(lines) == 1
    assert lines[0].startswith("feature closed: ")
    assert part in lines[0]
    assert "in 100% of the rows" in lines[0]
    assert "featurize.exclude: [closed]" in lines[0]
    assert table["closed"].null_count == 0, "a second time column is a number of days"
    assert str(table["closed"].type) == "double"


@pytest.mark.parametrize("cases", [None, {"closed": "epoch(closed) / 86400"}, {"closed": WRITTEN}])
def test_a_time_before_the_prediction_needs_no_word(tmp_path: Path, cases: dict[str, str] | None) -> None:
    assert said(tmp_path, cases, {}, later_hours=-30)[0] == []


def test_arithmetic_on_the_rows_own_time_needs_no_word(tmp_path: Path) -> None:
    assert said(tmp_path, {"due": "epoch(event_time + interval 7 day)"}, {}, later_hours=30)[0] == []


def test_each_expression_is_parsed_once_however_many_columns_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    columns_in = foresight.columns_in

    def counted(connection: Any, expression: str) -> set[str]:
        parsed.append(expression)
        return columns_in(connection, expression)

    monkeypatch.setattr(foresight, "columns_in", counted)
    said(tmp_path, {"x": "x", "twice": "2 * x", "thrice": "3 * x"}, {}, later_hours=30)
    assert len(parsed) == len(set(parsed)) == 3


@pytest.mark.parametrize(
    ("lead", "shares"), [(0, []), (12, ["5% of the validation", "10% of the test"]), (72, ["15% of", "30% of"])]
)
def test_a_window_whose_rows_were_predicted_before_the_labels_that_its_model_has_learned_is_named(
    lead: int, shares: list[str]
) -> None:
    """An event a day; its label is known a day later. The test window is the last 10 days, the 20 before validate."""
    spine = Spine(source="cases", key="id", prediction_time=f"event_time - interval {lead} hour")
    asked: Any = SimpleNamespace(feature_set=SimpleNamespace(spine=spine))
    label: Any = {"source": "cases", "column": "y", "delay_hours": 24}
    params: Any = SimpleNamespace(featurize=FeaturizeParams(label=label))
    window = "case when n < 70 then 'train' when n < 90 then 'validation' else 'test' end"
    event = "timestamp '2024-01-01' + n * interval 1 day"
    with duckdb.connect() as connection:
        connection.execute(
            f"create table {CHOSEN} as select n as id, {event} as event_time, {event} + interval 1 day as "
            f'"{LABEL_KNOWN_AT}", {window} as "{WINDOW}" from range(100) t(n)'
        )
        warehouse: Any = SimpleNamespace(one=lambda query: connection.execute(query).fetchone())
        lines = list(foresight.known_too_early(warehouse, asked, params))
    assert [line[: len(share)] for line, share in zip(lines, shares, strict=True)] == shares
    assert all(f"up to {lead:.1f} hours" in line and f"delay_hours: {24 + lead}" in line for line in lines)
