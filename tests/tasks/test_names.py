"""Columns may be called as they like: none of ours stands in for one of the user's, and none is refused."""

from __future__ import annotations

import copy
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from refit.config import parse
from refit.errors import UserError
from refit.files import artifacts
from refit.runtime.context import Context
from refit.storage import prediction_log
from tasks import featurize, ingest, validate
from tasks.featurize.definitions import LOGGED
from tasks.score.input_rows import read_rows

# Every name that a table, query, file or report of ours has next to columns of the user's.
NAMES = (
    "_row _event_time event_time available_at prediction_time window label label_known_at row_key _label "
    "_window _known_at _n _key _prediction _prediction_time _version _model_digest _snapshot _as_of "
    "_predicted_at _day day name value rows time count n place _place known _known entity _entity _everyone "
    "x0 y0 x0_n spine predicted totals entities now joined _line _fault _faults _text _raw _period _start _t0 "
    "c0 c1 cast_rows arrived casted candidate champion baseline low high prediction predicted_label line "
    "model snapshot as_of filename file column reason row target_time horizon season_time seasonal_naive "
    "missing features"
)
OURS = NAMES.split()
ODD = ['say "x"', "dotted.name", "with space", "grösse", "\U0001f600", "a'b", "x,y", "a;b", "select", "now()"]
ODD += ["x" * 200, "line\nbreak", " lead", "_", "%", "{0}", "$1"]
START = datetime(2024, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone
PARAMS: dict[str, Any] = {
    "project": {"name": "names"},
    "ingest": {"sources": {"cases": {"kind": "files", "path": "raw/*.csv", "columns": {}, "key": ["id"]}}},
    "featurize": {"label": {"source": "cases", "column": "y", "delay_hours": 0}},
    "train": {"learners": [{"name": "base", "kind": "baseline"}]},
}


def slow(*names: str) -> list[Any]:
    """Names that the quick tests leave out."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def project(path: Path, others: list[str], *, key: str = "id", time: str = "t", label: str = "y") -> Context:
    """Four months of cases with a key, a time, a label, and a text in each other column that tells row and column."""
    (path / "raw").mkdir(parents=True, exist_ok=True)
    with (path / "raw/a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([key, time, label, *others])
        for n in range(240):
            row = [f"K{n}", START + timedelta(hours=12 * n), n % 2]
            writer.writerow([*row, *(f"{place}-{n % 3}" for place in range(len(others)))])
    params = copy.deepcopy(PARAMS)
    source = params["ingest"]["sources"]["cases"]
    source["columns"] = {key: "text", time: "timestamp", label: "integer", **dict.fromkeys(others, "text")}
    source["key"], source["event_time"] = [key], time
    params["featurize"]["label"]["column"] = label
    return Context(path, parse(params), now=lambda: datetime(2024, 6, 1, tzinfo=UTC))


def table_of(context: Context) -> Any:
    for stage in (ingest, validate, featurize):
        stage.run(context)
    return pq.read_table(context.path(artifacts.TABLE))


@pytest.mark.ci
def test_a_column_of_any_name_is_a_feature_with_its_own_values(tmp_path: Path) -> None:
    others = [*OURS, *ODD]
    context = project(tmp_path, others)
    table = table_of(context)
    described = json.loads(context.path(artifacts.FEATURE_SET).read_text())
    assert len(described["features"]) == len(others)
    for name, place in zip(described["features"], range(len(others)), strict=True):
        assert set(table[name].to_pylist()) == {f"{place}-{n}" for n in range(3)}, name
    profile = json.loads(context.path(artifacts.PROFILE).read_text())
    names = {column["name"]: column["names"] for column in profile["columns"]}
    assert all(
        sorted(names[name]) == [f"{place}-{n}" for n in range(3)] for place, name in enumerate(described["features"])
    )
    found = read_rows(context, "cases", tmp_path / "raw/a.csv")
    assert (found.read, found.refused) == (240, 0)


@pytest.mark.parametrize("name", ["label", *slow("prediction_time", "event_time", "available_at", "_row")])
def test_a_key_of_any_name_names_rows(tmp_path: Path, name: str) -> None:
    context = project(tmp_path, ["x"], key=name)
    table = table_of(context)
    key = json.loads(context.path(artifacts.FEATURE_SET).read_text())["key"]
    assert set(table[key].to_pylist()) <= {f"K{n}" for n in range(240)}
    assert set(table["label"].to_pylist()) == {0, 1}
    assert set(table["window"].to_pylist()) == {"train", "validation", "test"}


@pytest.mark.parametrize("name", ["event_time", *slow("Event_Time", "_event_time", "available_at", "label", "window")])
def test_a_time_of_any_name_is_each_rows_time(tmp_path: Path, name: str) -> None:
    table = table_of(project(tmp_path, ["x"], time=name))
    times = [START + timedelta(hours=12 * n) for n in range(240)]
    assert set(table["event_time"].to_pylist()) <= set(times)
    assert "x" in table.column_names


@pytest.mark.parametrize("name", ["window", *slow("Label", "_label", "label", "_row")])
def test_a_label_of_any_name_is_predicted(tmp_path: Path, name: str) -> None:
    table = table_of(project(tmp_path, ["x"], label=name))
    assert [int(key[1:]) % 2 for key in table["id"].to_pylist()] == table["label"].to_pylist()


def test_columns_whose_names_differ_in_case_alone_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x, X differ in case only"):
        ingest.run(project(tmp_path, ["x", "X"]))


def test_a_column_without_a_name_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'' is no name for a column"):
        ingest.run(project(tmp_path, [""]))


@pytest.mark.slow
def test_a_key_of_several_columns_is_unlike_a_column_called_row_key(tmp_path: Path) -> None:
    context = project(tmp_path, ["row_key", "shop"])
    source = context.params.ingest.sources["cases"].model_copy(update={"key": ("id", "shop")})
    ingested = context.params.ingest.model_copy(update={"sources": {"cases": source}})
    context = Context(tmp_path, context.params.model_copy(update={"ingest": ingested}), now=context.now)
    table = table_of(context)
    assert set(table["row_key"].to_pylist()) == {"0-0", "0-1", "0-2"}
    assert all(value.startswith("K") and "|1-" in value for value in table["row_key_"].to_pylist())


def test_every_column_of_the_prediction_log_is_kept_from_features() -> None:
    assert {*prediction_log.META, prediction_log.DAY} == set(LOGGED)
