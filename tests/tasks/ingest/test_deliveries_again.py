"""Deliveries that are read again, were changed since, or have columns and files with unusual names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

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
