"""Deliveries that are read again, were changed since, or have columns and files with unusual names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refit.config import override
from refit.errors import UserError
from refit.files.artifacts import read_json
from tasks import ingest

HEAD = "id,at,kind,cost\n"
FIRST = "1,2013-01-05,a,1\n2,2013-01-06,a,2\n3,2013-02-05,a,3\n"
DAY = datetime(2013, 11, 2, 8, tzinfo=UTC)


@pytest.fixture
def dated(project: Any) -> Any:
    """A source whose folders have the day of their delivery in their names; nothing is read yet."""
    changes = {"kind": "snapshot", "delivered": "/%Y%m%d", "max_deleted_share": 1}
    project.source |= {"path": "raw/*/*.csv", "changes": changes}
    project.now = DAY
    project.zone = "UTC"
    return project


@pytest.mark.parametrize("name", ["number", "nth", "_n", "part", "p", "c0"])
def test_a_row_is_deleted_whatever_the_columns_are_called(project: Any, name: str) -> None:
    project.source["columns"] = {"id": "integer", "at": "timestamp", "kind": "text", name: "number"}
    project.source["changes"] = {"kind": "snapshot", "max_deleted_share": 1}
    head = HEAD.replace("cost", name)
    project.put("a.csv", head + FIRST)
    project.ingest()
    project.put("a.csv", head + FIRST.replace("2,2013-01-06,a,2\n", ""))
    project.now += timedelta(days=1)
    project.ingest()
    assert [(row["id"], row[name]) for row in project.batch("2013-01.2")] == [(2, 2.0)]
    assert read_json(project.path / "data/batches/trips/2013-01.2.json")["deletes"]


def test_an_old_delivery_of_which_a_row_cannot_be_cast_any_more_is_refused(dated: Any) -> None:
    dated.put("20131003/a.csv", HEAD + FIRST)
    dated.put("20131004/a.csv", HEAD + FIRST.replace("a,2", "b,7"))
    dated.ingest()
    stored = dated.stored()
    dated.put("20131003/a.csv", HEAD + FIRST.replace("a,2", "a,x"))
    assert "0 rows are new, 0 changed, 0 missing and 1 cannot be cast" in dated.fails(UserError)
    assert dated.stored() == stored


def test_nothing_is_left_to_do_once_a_delivery_that_was_refused_is_right_again(project: Any) -> None:
    project.source["changes"] = {"kind": "snapshot", "max_deleted_share": 0}
    project.put("a.csv", HEAD + FIRST)
    project.ingest()
    project.now += timedelta(days=1)
    project.put("a.csv", HEAD + FIRST.replace("2,2013-01-06,a,2\n", ""))
    project.fails(UserError)
    project.put("a.csv", HEAD + FIRST)
    project.ingest()
    assert ingest.stale_reason(project.context()) is None
    assert "unfinished" not in read_json(project.path / "data/batches/trips/position")


def test_a_delivery_that_was_read_before_its_day_was_over_may_be_completed_until_it_was_read_after_it(
    dated: Any,
) -> None:
    dated.put("20131102/a.csv", HEAD + FIRST)
    dated.ingest()
    for cost in ("7", "8"):
        dated.put("20131102/a.csv", HEAD + FIRST.replace("a,2", f"b,{cost}"))
        dated.now = datetime(2013, 11, 3, 5, tzinfo=UTC)
        if cost == "7":
            dated.ingest()
    assert "0 rows are new, 1 changed, 0 missing" in dated.fails(UserError)
    assert [row["cost"] for row in dated.batch("2013-01.2")] == [7.0]


def test_a_delivery_that_changed_nothing_may_not_be_another_later(dated: Any) -> None:
    dated.put("20131003/a.csv", HEAD + FIRST)
    dated.put("20131004/a.csv", HEAD + FIRST)
    dated.ingest()
    dated.put("20131004/a.csv", HEAD + FIRST.replace("a,2", "b,7"))
    assert "0 rows are new, 1 changed, 0 missing" in dated.fails(UserError)
    dated.put("20131004/a.csv", HEAD + FIRST)
    dated.ingest()
    assert ingest.stale_reason(dated.context()) is None


@pytest.mark.parametrize(
    ("folder", "pattern", "role"),
    [
        ("20131003", "/%Y%m%d", {"folder_column": "name"}),
        ("dt=2013-10-03", "%Y-%m-%d", {"hive_columns": ["name"]}),
    ],
)
def test_a_column_that_has_the_date_of_the_delivery_is_refused(
    dated: Any, folder: str, pattern: str, role: dict[str, Any]
) -> None:
    name = "dt" if "dt" in folder else "name"
    dated.source["columns"] = {**dated.source["columns"], name: "text"}
    dated.source |= {key: name if isinstance(value, str) else [name] for key, value in role.items()}
    dated.source["changes"]["delivered"] = pattern
    dated.put(f"{folder}/a.csv", HEAD + FIRST)
    assert f"column {name!r} of raw/{folder}/a.csv has the date of the delivery" in dated.fails(UserError)


def test_a_column_of_another_folder_than_that_of_the_delivery_is_read(dated: Any) -> None:
    dated.source["columns"] = {**dated.source["columns"], "shop": "text", "name": "text"}
    dated.source |= {"path": "raw/*/*/*/*.csv", "hive_columns": ["shop"], "folder_column": "name"}
    dated.put("20131003/shop=a/x/a.csv", HEAD + FIRST)
    dated.ingest()
    assert {(row["shop"], row["name"]) for row in dated.batch("2013-01")} == {("a", "x")}


def test_a_date_is_not_taken_from_a_longer_number(dated: Any) -> None:
    dated.source["changes"]["delivered"] = "%Y%m%d"
    dated.put("20131003/10120131003.csv", HEAD + FIRST)
    dated.put("x/10120131003.csv", HEAD + FIRST)
    assert "raw/x/10120131003.csv has no date of the form %Y%m%d" in dated.fails(UserError)


def test_one_run_may_allow_the_deletions_of_a_source_that_is_a_snapshot_and_no_more(project: Any) -> None:
    project.source["changes"] = "snapshot"
    raw = {"ingest": {"sources": {"trips": project.source}}}
    changed: Any = override(raw, {"ingest.sources.trips.changes.max_deleted_share": 1})
    project.source = changed["ingest"]["sources"]["trips"]
    params = project.context().params.ingest.sources["trips"].changes
    assert (params.is_snapshot, params.max_deleted_share) == (True, 1)
    assert raw["ingest"]["sources"]["trips"]["changes"] == "snapshot"
