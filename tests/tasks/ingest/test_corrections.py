"""Rows that come again as newer versions, where the source says that they do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from refit.errors import UserError
from refit.files.artifacts import read_json
from tasks.ingest import repeats

HEAD = "id,at,kind,cost,seq\n"
FIRST = "1,2013-01-05,a,1,1\n2,2013-01-06,a,2,1\n3,2013-02-05,a,3,1\n"
LATER = datetime(2013, 11, 2, 8, tzinfo=UTC)


@pytest.fixture
def corrected(project: Any) -> Any:
    """Three rows in two months, of a source with versions, read once."""
    project.source["columns"] = {**project.source["columns"], "seq": "integer"}
    project.source["changes"] = {"kind": "corrections", "version": "seq"}
    project.put("a.csv", HEAD + FIRST)
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1"]
    project.now = LATER
    return project


def arrived(project: Any, name: str) -> str | None:
    value = read_json(project.path / f"data/batches/trips/{name}.json").get("arrived")
    return None if value is None else str(value)


def test_a_correction_is_a_part_of_its_period_and_touches_no_other(corrected: Any) -> None:
    before = corrected.files()
    corrected.put("b.csv", HEAD + "1,2013-01-05,a,1.5,2\n")
    corrected.ingest()
    assert corrected.stored() == ["2013-01", "2013-01.2", "2013-02.1"]
    assert [(row["id"], row["cost"], row["seq"]) for row in corrected.batch("2013-01.2")] == [(1, 1.5, 2)]
    assert arrived(corrected, "2013-01.2") == "2013-11-02T08:00:00Z"
    assert {name: corrected.files()[name] for name in before} == before


def test_a_table_that_holds_the_newest_versions_alone_has_lost_nothing(corrected: Any) -> None:
    corrected.put("a.csv", HEAD + FIRST.replace("1,2013-01-05,a,1,1", "1,2013-01-05,a,1.5,2"))
    corrected.ingest()
    assert [row["cost"] for row in corrected.batch("2013-01.2")] == [1.5]


def test_a_version_that_moves_its_row_to_another_period_is_not_a_row_that_vanished(corrected: Any) -> None:
    corrected.put("a.csv", HEAD + FIRST.replace("1,2013-01-05,a,1,1", "1,2013-02-07,a,1,2"))
    corrected.ingest()
    assert corrected.stored() == ["2013-01", "2013-02.1", "2013-02.2"]
    assert arrived(corrected, "2013-02.2") == "2013-11-02T08:00:00Z"


def test_a_version_that_moves_its_row_beyond_the_newest_one_is_late_all_the_same(corrected: Any) -> None:
    corrected.put("b.csv", HEAD + "1,2013-03-05,a,1,2\n4,2013-03-05,a,1,1\n")
    corrected.ingest()
    assert corrected.stored()[-2:] == ["2013-03.1", "2013-03.2"]
    assert ([r["id"] for r in corrected.batch("2013-03.1")], arrived(corrected, "2013-03.1")) == (
        [1],
        "2013-11-02T08:00:00Z",
    )
    assert ([r["id"] for r in corrected.batch("2013-03.2")], arrived(corrected, "2013-03.2")) == ([4], None)


def test_a_row_that_vanished_without_a_newer_version_is_refused(corrected: Any) -> None:
    corrected.put("a.csv", HEAD + FIRST.replace("1,2013-01-05,a,1,1\n", "").replace("2013-01-06", "2013-01-04"))
    assert "1 missing" in corrected.fails(UserError)


def test_other_content_under_the_same_version_is_refused(corrected: Any) -> None:
    corrected.put("b.csv", HEAD + "1,2013-01-05,a,1.5,1\n")
    assert "1 changed, 0 new, 0 missing" in corrected.fails(UserError)


def test_two_files_that_contradict_each_other_in_one_version_are_refused(corrected: Any) -> None:
    corrected.put("b.csv", HEAD + "9,2013-01-05,a,1,7\n")
    corrected.put("c.csv", HEAD + "9,2013-01-05,a,2,7\n")
    assert "differ and have one key (id 9, seq 7)" in corrected.fails(UserError)


def test_a_version_that_is_a_time_says_itself_when_it_is_known(project: Any) -> None:
    project.source["columns"] = {**project.source["columns"], "seq": "timestamp"}
    project.source["changes"] = {"kind": "corrections", "version": "seq"}
    project.put("a.csv", HEAD + "1,2013-01-05,a,1,2013-01-05\n2,2013-02-05,a,1,2013-02-05\n")
    project.ingest()
    project.put("b.csv", HEAD + "1,2013-01-05,a,2,2013-02-06\n")
    project.ingest()
    assert project.stored() == ["2013-01", "2013-01.2", "2013-02.1"]
    assert arrived(project, "2013-01.2") is None


def test_one_version_is_not_in_two_periods(corrected: Any) -> None:
    """Which of the two counts would hang on the order of their periods."""
    before = corrected.files()
    corrected.put("b.csv", HEAD + "1,2013-02-07,b,99,1\n")
    assert corrected.fails(UserError).startswith(
        "raw/b.csv line 2 is a row of another period than the one under its key and version (id 1, seq 1): "
        "batch trips/2013-01 has a row, as for 1 in all"
    )
    corrected.put("b.csv", HEAD + "9,2013-01-07,b,99,1\n9,2013-02-07,b,99,1\n9,2013-02-08,b,98,2\n")
    assert "(id 9, seq 1): raw/b.csv line 3 is one, as for 1 in all" in corrected.fails(UserError)
    corrected.put("a.csv", HEAD + FIRST.replace("1,2013-01-05,a,1,1", "1,2013-02-05,a,1,1"))
    (corrected.path / "raw/b.csv").unlink()
    assert "(id 1, seq 1): batch trips/2013-01 has a row" in corrected.fails(UserError)
    assert corrected.files() == before


def test_a_version_in_two_periods_that_an_older_release_let_in_stops_nothing(
    corrected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected.put("b.csv", HEAD + "1,2013-02-07,b,99,1\n")
    with monkeypatch.context() as older:
        older.setattr(repeats, "check_versions", lambda *_: None)
        corrected.ingest()
    corrected.put("b.csv", HEAD + "1,2013-02-07,b,99,1\n5,2013-02-08,b,1,1\n")
    corrected.ingest()
    assert [row["id"] for row in corrected.batch("2013-02.3")] == [5]


@pytest.mark.parametrize("changes", [{"version": "seq"}, {"version": "cost", "arrived_at": "seq"}])
def test_a_run_as_of_a_time_keeps_its_batches_where_columns_tell_the_arrival(
    project: Any, changes: dict[str, str]
) -> None:
    project.zone = "UTC"
    project.source["columns"] = {**project.source["columns"], "seq": "timestamp"}
    project.source["changes"] = {"kind": "corrections", **changes}
    project.put("a.csv", HEAD + "1,2013-01-05,a,1,2013-01-05\n2,2013-02-01,a,1,2013-02-01\n")
    project.as_of("2013-02-15")
    before = project.ingest()
    project.put("b.csv", HEAD + "1,2013-01-05,a,2,2013-06-01\n")
    project.ingest()
    project.put("c.csv", HEAD + "x,2013-01-06,a,2,2013-06-01\n")
    after = project.ingest()
    assert (after["digest"], after["batches"]) == (before["digest"], before["batches"])
    assert after["pending"] == {"trips": 2}
    project.put("d.csv", HEAD + "2,2013-02-01,a,3,2013-02-14\n2,2013-02-01,a,4,2013-06-02\n")
    assert [batch["name"] for batch in project.ingest()["batches"]] == ["2013-01", "2013-02.1", "2013-02.2"]
    project.as_of("2020-01-01")
    assert project.ingest()["pending"] == {"trips": 0}


def test_an_arrival_that_does_not_fit_the_columns_is_refused_in_one_line(project: Any) -> None:
    project.source["changes"] = {"kind": "corrections", "version": "cost", "arrived_at": "loaded"}
    project.put("a.csv", "id,at,kind,cost\n1,2013-01-05,a,1\n")
    assert "ingest.sources.trips.changes.arrived_at: Binder Error" in project.fails(UserError)


def test_a_query_over_versions_is_refused_because_it_would_show_later_ones(corrected: Any) -> None:
    corrected.others["sums"] = {
        "kind": "query",
        "query": "select kind, sum(cost) as cost from trips group by kind",
        "columns": {"kind": "text", "cost": "number"},
        "key": ["kind"],
        "event_time": "timestamp '2013-02-01'",
    }
    assert "ingest.sources.sums.query reads trips, which has several versions of a row" in corrected.fails(UserError)
