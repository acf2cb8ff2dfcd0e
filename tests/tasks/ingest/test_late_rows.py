"""Rows that come after a later period has begun, where the source says that they may."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from refit.errors import UserError
from refit.files.artifacts import read_json

Month = Callable[..., str]
NOVEMBER = datetime(2013, 11, 2, 8, tzinfo=UTC)


def arrived(project: Any, name: str) -> str | None:
    """When the manifest of a batch says that its rows arrived."""
    value = read_json(project.path / f"data/batches/trips/{name}.json").get("arrived")
    return None if value is None else str(value)


@pytest.fixture
def late(project: Any, month: Month) -> Any:
    """Two months that were ingested, of a source whose rows may come 60 days late."""
    project.source["changes"] = {"kind": "late", "within": "60d"}
    project.put("a.csv", month(1, range(1, 9)) + month(2, range(1, 27), header=False))
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1"]
    project.now = NOVEMBER
    return project


def test_without_changes_a_late_row_stops_the_run_with_the_setting_that_lets_it_in(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 9)) + month(2, header=False))
    project.ingest()
    project.put("b.csv", month(1, range(9, 10)))
    assert "may not grow, unless ingest.sources.trips.changes says that rows come late; " in project.fails(UserError)


def test_a_late_row_is_a_part_of_its_period_with_the_time_of_its_arrival(late: Any, month: Month) -> None:
    before = late.files()
    late.put("b.csv", month(1, range(9, 11)))
    late.ingest()
    assert late.stored() == ["2013-01", "2013-01.2", "2013-02.1"]
    assert [row["id"] for row in late.batch("2013-01.2")] == [109, 110]
    assert (arrived(late, "2013-01"), arrived(late, "2013-01.2")) == (None, "2013-11-02T08:00:00Z")
    assert {name: late.files()[name] for name in before} == before


def test_the_time_of_arrival_never_changes_afterwards(late: Any, month: Month) -> None:
    late.put("b.csv", month(1, range(9, 11)))
    late.ingest()
    before = late.files()
    late.now = datetime(2014, 3, 1, tzinfo=UTC)
    (late.path / ".refit/ingest.json").unlink()
    late.ingest()
    assert late.files() == before


def test_rows_of_one_delivery_are_parts_of_their_own_where_some_came_late(late: Any, month: Month) -> None:
    late.put("b.csv", month(2, range(1, 27)) + month(3, range(1, 9), header=False) + "0299,2013-02-05T01:00:00Z,a,1\n")
    late.ingest()
    assert late.stored() == ["2013-01", "2013-02.1", "2013-02.2", "2013-03.1"]
    assert arrived(late, "2013-02.2") == "2013-11-02T08:00:00Z"
    assert arrived(late, "2013-03.1") is None


def test_a_growing_period_has_the_late_rows_apart_from_the_new_ones(late: Any, month: Month) -> None:
    late.put("b.csv", month(3, range(1, 11)))
    late.ingest()
    late.put("c.csv", month(3, range(1, 15)) + "0399,2013-03-05T01:00:00Z,a,1\n")
    late.ingest()
    assert late.stored()[-3:] == ["2013-03.1", "2013-03.2", "2013-03.3"]
    assert [row["id"] for row in late.batch("2013-03.2")] == [399]
    assert [row["id"] for row in late.batch("2013-03.3")] == [311, 312, 313, 314]
    assert arrived(late, "2013-03.2")
    assert arrived(late, "2013-03.3") is None


def test_a_period_that_comes_late_as_a_whole_is_a_part_with_its_arrival(late: Any) -> None:
    late.source["changes"] = {"kind": "late", "within": "90d"}
    late.put("b.csv", "id,at,kind,cost\n1201,2012-12-31T00:00:00Z,a,1\n")
    late.ingest()
    assert late.stored()[0] == "2012-12.1"
    assert arrived(late, "2012-12.1") == "2013-11-02T08:00:00Z"


def test_a_run_as_of_a_time_before_the_arrival_sees_the_same_batches_for_ever(late: Any, month: Month) -> None:
    late.as_of("2013-03-01")
    before = late.ingest()
    late.put("b.csv", month(1, range(9, 11)))
    after = late.ingest()
    assert (after["digest"], after["batches"]) == (before["digest"], before["batches"])
    assert after["pending"] == {"trips": 2}
    late.as_of("2013-11-02T08:00:00+00:00")
    names = [(batch["name"], batch.get("arrived")) for batch in late.ingest()["batches"]]
    assert names == [("2013-01", None), ("2013-01.2", "2013-11-02T08:00:00Z"), ("2013-02.1", None)]


def test_a_row_that_is_later_than_the_bound_is_refused_with_its_line(late: Any) -> None:
    late.put("b.csv", "id,at,kind,cost\n7,2012-12-20T00:00:00Z,a,1\n")
    assert late.fails(UserError) == (
        "raw/b.csv line 2 comes too late: it is of 2012-12-20, 68 days before the newest row of 2013-02-26, and "
        "ingest.sources.trips.changes.within is 60d; raise it if such a row is right, or take it out of the file"
    )
    assert late.stored() == ["2013-01", "2013-02.1"]


def test_a_late_row_that_contradicts_a_stored_one_is_still_refused(late: Any) -> None:
    late.put("b.csv", "id,at,kind,cost\n0107,2013-01-07T12:00:00Z,b,1\n")
    assert "1 changed, 0 new, 0 missing, first raw/b.csv line 2" in late.fails(UserError)


def test_a_column_that_says_when_a_row_arrived_needs_no_part_of_its_own(project: Any) -> None:
    project.source["columns"]["loaded"] = "timestamp"
    project.source["changes"] = {"kind": "late", "within": "60d", "arrived_at": "loaded"}
    head = "id,at,kind,cost,loaded\n"
    project.put("a.csv", head + "1,2013-01-05,a,1,2013-01-06\n2,2013-02-05,a,1,2013-02-06\n")
    project.ingest()
    project.put("b.csv", head + "3,2013-01-05,a,1,2013-02-07\n4,2013-02-07,a,1,2013-02-08\n")
    project.ingest()
    assert project.stored() == ["2013-01", "2013-01.2", "2013-02.1", "2013-02.2"]
    assert {arrived(project, name) for name in project.stored()} == {None}


def test_changing_how_rows_change_needs_the_source_to_be_read_again(late: Any) -> None:
    late.source["changes"] = "append"
    assert "columns, required, nulls, event_time, changes, ingest.period" in late.fails(UserError)


def test_a_wider_bound_does_not(late: Any) -> None:
    late.source["changes"] = {"kind": "late", "within": "90d"}
    late.ingest()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("late", "kind late needs `within`, how much older than the newest row a row may be, such as 60d"),
        ("corrections", "kind corrections needs `version`, the column whose largest value is the newest version"),
        ({"kind": "append", "within": "3d"}, "`within` is for kind late and corrections, not append: leave it out"),
        (
            {"kind": "late", "within": "3d", "version": "id"},
            "`version` is for kind corrections, not late: leave it out",
        ),
        ({"kind": "late", "within": "3 days"}, "such as 36h or 60d; found '3 days'"),
        ({"kind": "latest"}, "input should be 'append', 'late', 'corrections' or 'snapshot'"),
        ({"kind": "corrections", "version": "cots"}, "changes.version 'cots' is not declared; did you mean 'cost'?"),
        (
            {"kind": "corrections", "version": "id"},
            "changes.version 'id' is in `key`, which names a row in all its versions",
        ),
        ({"kind": "corrections", "version": "kind"}, "'kind' is text, which does not say which is newer"),
    ],
)
def test_a_combination_that_means_nothing_is_refused_in_one_line(project: Any, changes: Any, said: str) -> None:
    project.source["changes"] = changes
    with pytest.raises(UserError) as caught:
        project.context()
    assert said.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_a_table_without_time_has_versions_of_its_own(project: Any) -> None:
    project.source |= {"event_time": None, "changes": {"kind": "late", "within": "3d"}}
    with pytest.raises(UserError, match="a static source \\(no event_time\\) has versions of its own"):
        project.context()
