"""Deliveries that replace all rows of a source: what differs is stored, and known from the delivery on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from quick import quick

from refit.errors import UserError
from refit.files.artifacts import read_json
from refit.storage import batches
from tasks.ingest.partitioning import Partitioner

DATED = {"kind": "snapshot", "delivered": "%Y%m"}
HEAD = "id,at,kind,cost\n"
FIRST = "1,2013-01-05,a,1\n2,2013-01-06,a,2\n3,2013-02-05,a,3\n"
DAY = datetime(2013, 11, 2, 8, tzinfo=UTC)


@pytest.fixture
def replaced(project: Any) -> Any:
    """Three rows in two months, of one file that is written again for each delivery."""
    project.source |= {"path": "raw/a.csv", "changes": {"kind": "snapshot", "max_deleted_share": 1}}
    project.put("a.csv", HEAD + FIRST)
    project.now = DAY
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1"]
    project.now = DAY + timedelta(days=1)
    return project


@pytest.fixture
def dated(project: Any) -> Any:
    """A source whose files have the day of their delivery in their names; nothing is read yet."""
    project.source |= {"path": "raw/*/*.csv", "changes": {"kind": "snapshot", "delivered": "/%Y%m%d"}}
    project.source["changes"]["max_deleted_share"] = 1
    project.now = DAY
    project.zone = "Europe/Berlin"
    return project


def deliver(project: Any, day: str, rows: str) -> None:
    project.put(f"{day}/a.csv", HEAD + rows)


def manifest(project: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(project.path / f"data/batches/trips/{name}.json")
    return found


def rows(project: Any, name: str) -> list[tuple[Any, ...]]:
    return [(row["id"], row["kind"], row["cost"]) for row in project.batch(name)]


def everything(project: Any) -> dict[str, tuple[Any, ...]]:
    """What is stored, but for the times at which files were written."""
    return {
        name: (manifest(project, name)["content"], manifest(project, name).get("arrived"), rows(project, name))
        for name in project.stored()
    }


# --- what differs -----------------------------------------------------------------------------------------------------


def test_a_delivery_that_equals_the_one_before_writes_nothing(replaced: Any) -> None:
    before = replaced.files()
    replaced.put("a.csv", HEAD + "".join(reversed(FIRST.splitlines(keepends=True))))
    replaced.ingest()
    assert {name: file for name, file in replaced.files().items() if "position" not in name} == {
        name: file for name, file in before.items() if "position" not in name
    }


def test_changed_new_and_missing_rows_are_parts_of_their_periods_that_arrived_with_the_delivery(replaced: Any) -> None:
    before = replaced.files()
    replaced.put("a.csv", HEAD + "1,2013-01-05,a,1.5\n4,2013-01-07,b,4\n3,2013-02-05,a,3\n5,2013-02-09,b,5\n")
    replaced.ingest()
    assert replaced.stored() == ["2013-01", "2013-01.2", "2013-01.3", "2013-02.1", "2013-02.2"]
    assert (rows(replaced, "2013-01.2"), rows(replaced, "2013-01.3")) == (
        [(1, "a", 1.5), (4, "b", 4.0)],
        [(2, "a", 2.0)],
    )
    arrived = "2013-11-03T08:00:00Z"
    assert manifest(replaced, "2013-01.2")["arrived"] == arrived
    assert (manifest(replaced, "2013-01.3")["arrived"], manifest(replaced, "2013-01.3")["deletes"]) == (arrived, True)
    assert (rows(replaced, "2013-02.2"), manifest(replaced, "2013-02.2").get("arrived")) == ([(5, "b", 5.0)], None)
    assert {name: replaced.files()[name] for name in before if "position" not in name} == {
        name: file for name, file in before.items() if "position" not in name
    }
    assert any("2 rows are new, 1 changed and 1 deleted" in line for line in replaced.said)


def test_a_row_that_was_deleted_may_come_back_and_go_again(replaced: Any) -> None:
    without = FIRST.replace("2,2013-01-06,a,2\n", "")
    for day, content in enumerate((without, FIRST, without), start=1):
        replaced.now = DAY + timedelta(days=day)
        replaced.put("a.csv", HEAD + content)
        replaced.ingest()
    parts = [f"2013-01.{n}" for n in (2, 3, 4)]
    assert replaced.stored() == ["2013-01", *parts, "2013-02.1"]
    assert [manifest(replaced, name).get("deletes", False) for name in parts] == [True, False, True]
    assert [rows(replaced, name) for name in parts] == [[(2, "a", 2.0)]] * 3


def test_a_row_that_moves_to_another_period_is_a_new_version_and_no_deletion(replaced: Any) -> None:
    replaced.put("a.csv", HEAD + FIRST.replace("1,2013-01-05", "1,2013-03-05"))
    replaced.ingest()
    assert replaced.stored() == ["2013-01", "2013-02.1", "2013-03.1"]
    assert manifest(replaced, "2013-03.1")["arrived"] == "2013-11-03T08:00:00Z"


def test_the_files_of_a_pattern_without_dates_are_one_delivery_and_a_lost_one_deletes_its_rows(project: Any) -> None:
    project.source["changes"] = {"kind": "snapshot", "max_deleted_share": 0.5}
    project.put("a.csv", HEAD + FIRST)
    project.put("b.csv", HEAD + "4,2013-02-06,b,4\n")
    project.ingest()
    (project.path / "raw/b.csv").unlink()
    project.now += timedelta(days=1)
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1", "2013-02.2"]
    assert (rows(project, "2013-02.2"), manifest(project, "2013-02.2")["deletes"]) == ([(4, "b", 4.0)], True)


def test_a_row_that_cannot_be_cast_any_more_is_set_aside_once_and_not_deleted(replaced: Any) -> None:
    replaced.put("a.csv", HEAD + FIRST.replace("2,2013-01-06,a,2", "2,2013-01-06,a,x"))
    replaced.ingest()
    assert [line[1:4] for line in replaced.uncast("2013-01.2")] == [("raw/a.csv", "cost", "x")]
    assert rows(replaced, "2013-01.2") == []
    replaced.put("a.csv", HEAD + "\n" + FIRST.replace("2,2013-01-06,a,2", "2,2013-01-06,a,x"))
    replaced.now += timedelta(days=1)
    replaced.ingest()
    assert replaced.stored() == ["2013-01", "2013-01.2", "2013-02.1"]


def test_a_row_that_lay_in_the_future_joins_once_its_time_has_come(project: Any) -> None:
    project.source["changes"] = "snapshot"
    project.now = DAY
    project.put("a.csv", HEAD + FIRST + "9,2013-11-05,a,9\n")
    project.ingest()
    project.now = datetime(2013, 11, 6, tzinfo=UTC)
    snapshot = project.ingest()
    assert rows(project, "2013-11.1") == [(9, "a", 9.0)]
    assert sum(batch["read"] for batch in snapshot["batches"]) + snapshot["pending"]["trips"] == 4


def test_the_query_of_a_database_server_is_a_delivery_at_each_ingest(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = sqlite3.connect(project.path / "shop.db")
    database.execute("create table trips (id integer, at text, kind text, cost real)")
    database.executemany(
        "insert into trips values (?, ?, 'a', ?)", [(n, f"2013-{1 + n // 12:02d}-{n:02d}", n) for n in range(1, 13)]
    )
    database.commit()
    project.zone = "UTC"
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{project.path / 'shop.db'}")
    project.source |= {"kind": "database", "path": "", "url": "${SHOP_URL}", "query": "select * from trips"}
    project.source["changes"] = "snapshot"
    project.ingest()
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1"]
    database.execute("update trips set cost = 9.5 where id = 2")
    database.execute("delete from trips where id = 3")
    database.commit()
    project.now += timedelta(days=1)
    project.ingest()
    assert [rows(project, name) for name in ("2013-01.2", "2013-01.3")] == [[(2, "a", 9.5)], [(3, "a", 3.0)]]
    assert manifest(project, "2013-01.3")["deletes"]
    before = everything(project)
    project.ingest()
    assert everything(project) == before
    database.execute("delete from trips")
    database.commit()
    assert "the query gives no rows; at least one was expected" in project.fails(UserError)
    database.close()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_two_rows_with_one_key_in_a_delivery_are_refused(replaced: Any) -> None:
    replaced.put("a.csv", HEAD + FIRST + "3,2013-03-05,b,4\n2,2013-01-06,a,3\n")
    before = replaced.files()
    message = replaced.fails(UserError)
    assert "raw/a.csv line 3 and raw/a.csv line 6 differ and have one key (id 2), as have 2 in all" in message
    replaced.put("a.csv", HEAD + FIRST)
    replaced.ingest()
    assert replaced.files().keys() == before.keys()


def test_a_row_that_is_twice_in_a_delivery_counts_once(replaced: Any) -> None:
    replaced.put("a.csv", HEAD + FIRST + "3,2013-02-05,a,3\n4,2013-02-06,a,3\n")
    replaced.ingest()
    assert rows(replaced, "2013-02.2") == [(4, "a", 3.0)]


def test_a_delivery_that_lacks_too_many_rows_is_refused_until_that_is_allowed(replaced: Any) -> None:
    replaced.source["changes"]["max_deleted_share"] = 0.3
    replaced.put("a.csv", HEAD + "1,2013-01-05,a,1\n3,2013-02-05,a,3\n")
    before = everything(replaced)
    message = replaced.fails(UserError)
    assert (
        "(raw/a.csv) lacks 1 of the 3 rows that were there before it (33.3%), at most 30.0% may be missing" in message
    )
    assert "--set ingest.sources.trips.changes.max_deleted_share=1" in message
    assert everything(replaced) == before
    replaced.source["changes"]["max_deleted_share"] = 1
    replaced.ingest()
    assert rows(replaced, "2013-01.2") == [(2, "a", 2.0)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(HEAD, "raw/a.csv"), (HEAD + "x,2013-01-05,a,1\ny,2013-01-06,a,1\n", "has no row that can be read")],
    ids=["a header alone", "keys that cannot be read"],
)
def test_a_delivery_without_rows_is_refused_whatever_may_be_missing(
    replaced: Any, content: str, complaint: str
) -> None:
    replaced.put("a.csv", content)
    before = everything(replaced)
    assert complaint in replaced.fails(UserError)
    assert everything(replaced) == before


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"required": []}, "write required: [id]"),
        ({"changes": {"kind": "snapshot", "within": "3d"}}, "`within` is for kind late and corrections, not snapshot"),
        (
            {"changes": {"kind": "late", "within": "3d", "delivered": "%Y"}},
            "`delivered` is for kind snapshot, not",
        ),
        ({"changes": {"kind": "snapshot", "delivered": "%d.%m."}}, "is no date in a name"),
        ({"changes": {"kind": "snapshot", "delivered": "%Y%m%d%d"}}, "is no date in a name"),
        ({"event_time": None}, "date the table: event_time: timestamp '2020-01-01'"),
        ({"line_column": "cost"}, "'cost' differs in each delivery"),
        ({"kind": "database", "query": "select 1", "changes": DATED}, "kind 'database' has none"),
    ],
    ids=["no required key", "within", "late", "no year", "a day twice", "static", "line column", "no names"],
)
def test_what_cannot_be_a_snapshot_is_refused(project: Any, more: dict[str, Any], complaint: str) -> None:
    project.source |= {"changes": "snapshot", **more}
    with pytest.raises(UserError, match=complaint.replace("[", r"\[")):
        project.context()


# --- deliveries with a date in their name -----------------------------------------------------------------------------


@pytest.mark.slow
def test_deliveries_read_at_once_are_those_read_one_after_the_other(dated: Any) -> None:
    contents = (FIRST, FIRST.replace("a,2", "b,7"), FIRST.replace("1,2013-01-05,a,1\n", "4,2013-02-07,a,4\n"))
    for day, content in enumerate(contents, start=3):
        deliver(dated, f"2013100{day}", content)
        dated.now = datetime(2013, 10, day + 1, 5, tzinfo=UTC)
        dated.ingest()
    one_by_one = everything(dated)
    assert {each[1] for each in one_by_one.values()} == {None, "2013-10-04T22:00:00Z", "2013-10-05T22:00:00Z"}
    shutil.rmtree(dated.path / "data")
    dated.now = DAY
    dated.ingest()
    assert everything(dated) == one_by_one


def test_the_end_of_the_named_day_or_the_ingest_is_when_a_delivery_came(dated: Any) -> None:
    deliver(dated, "20131001", FIRST)
    deliver(dated, "20131102", FIRST.replace("a,2", "b,7"))
    dated.ingest()
    assert [manifest(dated, name)["delivered"] for name in ("2013-01", "2013-01.2")] == [
        "2013-10-01T22:00:00Z",
        "2013-11-02T08:00:00Z",
    ]


def after_two_days(dated: Any) -> dict[str, tuple[Any, ...]]:
    """Ingest two deliveries, of which the second has one other row; returns everything that is stored."""
    deliver(dated, "20131003", FIRST)
    deliver(dated, "20131004", FIRST.replace("a,2", "b,7"))
    dated.ingest()
    return everything(dated)


def test_old_deliveries_may_be_taken_away_and_are_read_again_where_the_position_is_lost(dated: Any) -> None:
    before = after_two_days(dated)
    (dated.path / "data/batches/trips/position").unlink()
    dated.ingest()
    shutil.rmtree(dated.path / "raw/20131003")
    dated.ingest()
    assert everything(dated) == before


def test_a_delivery_that_was_read_and_is_another_now_is_refused_and_nothing_is_lost(dated: Any) -> None:
    before = after_two_days(dated)
    for day in ("20131003", "20131004"):
        deliver(dated, day, FIRST.replace("a,2", "b,8"))
        for _ in range(2):
            message = dated.fails(UserError)
            assert "is not what was read before: 0 rows are new, 1 changed, 0 missing and 0 cannot be cast" in message
        deliver(dated, day, FIRST if day == "20131003" else FIRST.replace("a,2", "b,7"))
    dated.ingest()
    assert everything(dated) == before


def test_a_delivery_that_comes_after_later_ones_is_refused(dated: Any) -> None:
    deliver(dated, "20131004", FIRST)
    dated.ingest()
    deliver(dated, "20131003", FIRST.replace("a,2", "b,8"))
    assert "and 2013-10-05 00:00 was read already" in dated.fails(UserError)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("latest", "raw/latest/a.csv has no date of the form /%Y%m%d"),
        ("20131403", "raw/20131403/a.csv has no date of the form /%Y%m%d"),
        ("20141001", "is a delivery of 2014-10-01 00:00, which lies in the future"),
    ],
)
def test_a_name_without_a_day_that_has_come_is_refused(dated: Any, name: str, complaint: str) -> None:
    deliver(dated, name, FIRST)
    assert complaint in dated.fails(UserError)


# --- runs that are killed ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """A run that ends at this line, whatever catches errors."""


def killed_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """End the run once so many batches are written."""
    original: Callable[..., Any] = Partitioner.write
    left = [writes]

    def write(*args: Any, **options: Any) -> Any:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return original(*args, **options)

    monkeypatch.setattr(Partitioner, "write", write)


LATER = FIRST.replace("a,1", "b,7").replace("2,2013-01-06,a,2\n", "").replace("a,3", "b,9")


@pytest.mark.parametrize("writes", quick(range(3), 1))
def test_of_a_delivery_that_was_killed_nothing_remains(
    replaced: Any, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    replaced.put("a.csv", HEAD + LATER)
    with monkeypatch.context() as patch:
        killed_after(patch, writes)
        with pytest.raises(Killed):
            replaced.ingest()
    assert len(replaced.stored()) == 2 + writes
    replaced.now += timedelta(hours=3)
    replaced.put("a.csv", HEAD + LATER.replace("b,7", "b,8"))
    replaced.ingest()
    assert replaced.stored() == ["2013-01", "2013-01.2", "2013-01.3", "2013-02.1", "2013-02.2"]
    assert rows(replaced, "2013-01.2") == [(1, "b", 8.0)]
    assert {manifest(replaced, name)["delivered"] for name in replaced.stored()} == {
        "2013-11-02T08:00:00Z",
        "2013-11-03T11:00:00Z",
    }
    assert not (Path(replaced.path) / "data/batches/trips/position").read_text().count("unfinished")


@pytest.mark.parametrize("writes", quick(range(1, 6), 2))
def test_deliveries_with_dates_that_were_killed_are_stored_as_if_they_had_not_been(
    dated: Any, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    for day, content in (("20131003", FIRST), ("20131004", LATER)):
        deliver(dated, day, content)
    with monkeypatch.context() as patch:
        killed_after(patch, writes)
        if writes < 5:
            with pytest.raises(Killed):
                dated.ingest()
        else:
            dated.ingest()
    dated.ingest()
    once = everything(dated)
    assert len(once) == 5
    batches.forget(dated.path, "trips")
    (dated.path / "data/batches/trips/position").unlink()
    dated.ingest()
    assert everything(dated) == once
