"""A source made of others by a query: its rows become batches like any other's."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from refit.errors import UserError
from tasks.ingest import stale_reason


@pytest.fixture
def project(project: Any) -> Any:
    project.zone, project.period = "UTC", "day"
    project.put("trips.csv", "id,at,kind,cost\n1,2013-01-01,a,1\n2,2013-01-02,b,5\n3,2013-01-02,a,2\n")
    project.others["kinds"] = {
        "kind": "query",
        "query": "select kind, max(event_time) as last, sum(cost) as cost from trips group by kind",
        "columns": {"kind": "text", "last": "timestamp", "cost": "number"},
        "key": ["kind"],
        "event_time": "last",
    }
    return project


def kinds(project: Any) -> list[tuple[str, float]]:
    return [(row["kind"], row["cost"]) for name in project.stored("kinds") for row in project.batch(name, "kinds")]


def test_a_query_over_another_source_gives_rows_in_the_order_of_their_key(project: Any) -> None:
    project.ingest()
    assert kinds(project) == [("a", 3), ("b", 5)]
    assert stale_reason(project.context()) is None


def test_the_query_is_asked_again_where_what_it_reads_has_grown(project: Any) -> None:
    project.ingest()
    project.put("more.csv", "id,at,kind,cost\n9,2013-01-03,c,7\n")
    assert stale_reason(project.context()) == "trips has new data in raw/more.csv"
    project.ingest()
    assert kinds(project) == [("a", 3), ("b", 5), ("c", 7)]


def test_late_rows_that_a_source_still_takes_reach_what_is_made_of_it(project: Any) -> None:
    """As of the steps of a month: the last one's end lies in the next month, though more of this one is to come."""
    day_later = "select id as kind, event_time + interval 1 day as last, cost from trips"
    project.others["kinds"] |= {
        "query": day_later,
        "columns": {"kind": "integer", "last": "timestamp", "cost": "number"},
    }
    project.period = "month"
    project.put("trips.csv", "id,at,kind,cost\n1,2013-01-01,a,1\n2,2013-01-31,b,5\n")
    project.ingest()
    project.put("late.csv", "id,at,kind,cost\n3,2013-01-30,a,2\n")
    project.ingest()
    assert kinds(project) == [(1, 1), (3, 2), (2, 5)]


def test_rows_of_a_query_are_known_from_the_arrival_of_the_late_rows_that_it_reads(project: Any) -> None:
    project.period = "month"
    project.source["changes"] = {"kind": "late", "within": "300d"}
    project.others["kinds"] |= {
        "query": "select id as kind, event_time as last, cost from trips",
        "columns": {"kind": "integer", "last": "timestamp", "cost": "number"},
    }
    project.put("trips.csv", "id,at,kind,cost\n1,2013-01-01,a,1\n2,2013-01-31,b,5\n4,2013-03-01,c,5\n")
    project.as_of("2013-02-15")
    before = project.ingest()
    project.now = datetime(2020, 6, 5, tzinfo=UTC)
    project.put("late.csv", "id,at,kind,cost\n3,2013-01-30,a,2\n")
    after = project.ingest()
    assert (after["digest"], after["batches"]) == (before["digest"], before["batches"])
    assert after["pending"] == {"trips": 2, "kinds": 2}
    project.as_of("2020-06-06")
    arrivals = {(each["source"], each["name"]): each.get("arrived") for each in project.ingest()["batches"]}
    late = {("trips", "2013-01.2"), ("kinds", "2013-01.2")}
    assert {each for each, arrived in arrivals.items() if arrived == "2020-06-05T00:00:00Z"} == late


def days(first: date, number: int, zone: str) -> str:
    """The rows of some days of a zone, each with its beginning."""
    begin = [datetime.combine(first + timedelta(days=n), time(), ZoneInfo(zone)) for n in range(number)]
    return "".join(f"{each.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ},{each.day}\n" for each in begin)


@pytest.fixture
def daily(project: Any) -> Any:
    """Forecasts over days, in a project of Berlin; no row yet."""
    project.zone, project.period = "Europe/Berlin", "month"
    project.source |= {"columns": {"at": "timestamp", "cost": "number"}, "key": ["at"], "required": []}
    forecast = {"of": "trips", "step": "1d", "horizons": [1, 2], "season": 7}
    project.others = {"ahead": {"kind": "forecasts", "forecast": forecast}}
    project.more = {
        "featurize": {"label": {"source": "trips", "column": "cost", "delay_hours": 0}},
        "train": {"task": "forecast", "metric": "mae", "learners": [{"name": "base", "kind": "baseline"}]},
        "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 1.0}},
    }
    project.now = datetime(2025, 7, 1, tzinfo=UTC)
    (project.path / "raw/trips.csv").unlink()
    return project


def calendars(project: Any) -> set[str]:
    return {row["step_zone"] for name in project.stored("ahead") for row in project.batch(name, "ahead")}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_days_of_a_winter_begin_at_midnight_of_their_calendar_and_stay_so_in_spring(daily: Any, zone: str) -> None:
    daily.put("a.csv", "at,cost\n" + days(date(2025, 1, 1), 73, zone))
    daily.ingest()
    assert calendars(daily) == {zone}
    daily.put("b.csv", "at,cost\n" + days(date(2025, 3, 15), 60, zone))
    daily.ingest()
    assert calendars(daily) == {zone}


def test_forecasts_stay_by_their_calendar_and_a_table_that_shows_another_one_is_an_error(daily: Any) -> None:
    daily.zone = "Europe/London"  # where midnight in winter is that of UTC
    daily.put("a.csv", "at,cost\n" + days(date(2025, 1, 1), 80, "UTC"))
    daily.ingest()
    assert calendars(daily) == {"Europe/London"}
    daily.put("b.csv", "at,cost\n" + days(date(2025, 3, 22), 20, "UTC"))
    said = daily.fails(UserError)
    assert said.startswith(
        "ahead: the days of the stored forecasts are those of Europe/London, and most rows of trips begin by those of "
        "UTC: delete data/batches/ahead"
    )
    shutil.rmtree(daily.path / "data/batches/ahead")
    daily.ingest()
    assert calendars(daily) == {"UTC"}


def test_a_row_that_came_out_otherwise_is_told_like_any_change(project: Any) -> None:
    project.ingest()
    project.others["kinds"]["query"] = project.others["kinds"]["query"].replace("sum(", "2 * sum(")
    assert "batch kinds/2013-01-02 has changed" in project.fails(UserError)


def test_what_a_stand_in_gave_is_replaced_with_it(project: Any) -> None:
    project.source |= {"path": "raw/real.csv", "published": "https://example.org", "stand_in": "stand_in.py"}
    text = "id,at,kind,cost\\n1,2013-01-01,a,1\\n"
    (project.path / "stand_in.py").write_text(f"def write(f): (f / 'real.csv').write_text('{text}')")
    assert project.ingest()["stand_in"] == {"trips": "https://example.org"}
    assert kinds(project) == [("a", 1)]
    project.put("real.csv", "id,at,kind,cost\n1,2013-01-01,z,1\n")
    assert "stand_in" not in project.ingest()
    assert kinds(project) == [("z", 1)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select 1 as kind", "reads none of the other sources (trips)"),
        ("select * from trip", "reads none of the other sources (trips); did you mean 'trips'?"),
        ("select * from trips where wrong > 1", 'ingest.sources.kinds.query: Binder Error: Referenced column "wrong"'),
        ("select * from trips, read_csv('/etc/passwd')", "ingest.sources.kinds.query: Permission Error"),
        ("select kind, cost from trips", "column 'last' is missing"),
        ("select kind, event_time as last, cost from trips where false", "query:kinds has no rows"),
    ],
)
def test_a_query_that_cannot_be_used_is_an_error_in_one_line(project: Any, query: str, words: str) -> None:
    project.others["kinds"]["query"] = query
    assert words in project.fails(UserError)


def test_a_query_has_no_path_and_everything_else_has_one(project: Any) -> None:
    project.others["kinds"]["path"] = "x.csv"
    del project.source["path"]
    with pytest.raises(UserError) as caught:
        project.context()
    assert "kind 'query' has no `path`" in str(caught.value)
    assert "kind 'files' needs `path`" in str(caught.value)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select *, random() as r from trips", "random(), which differs from run to run"),
        ('select * from trips where "at" < now()', "now(), which differs from run to run"),
        ('select * from trips where "at" < current_timestamp', "current_timestamp, which differs from run to run"),
        ("select * from trips using sample 10", "a sample without a seed"),
        ("select 1 from trips) ; drop table trips; select * from (select 1", "one SELECT was expected"),
        ("select * from trips; select 1", "one SELECT was expected"),
    ],
)
def test_a_query_that_would_give_other_rows_on_another_run_is_refused(project: Any, query: str, words: str) -> None:
    project.put("trips.csv", "id,at,kind,cost\n1,2013-01-31,a,1\n")
    project.others["kinds"] = {"kind": "query", "query": query, "columns": {"id": "integer"}, "key": ["id"]}
    said = project.fails(UserError)
    assert "ingest.sources.kinds.query" in said
    assert words in said


@pytest.mark.parametrize(
    "query",
    [
        "select id, random() as at from t",
        "select id, current_timestamp as at from t",
        "select id, datetime('now') as at from t",
        "select id, date() as at from t",
        "select id, strftime('%Y') as at from t",
        "select id, at from t order by random()",
    ],
)
def test_neither_may_that_of_a_sqlite_database(project: Any, query: str) -> None:
    path = project.put("t.db", "")
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table t (id integer, at text)")
        database.execute("insert into t values (1, '2013-01-31')")
    database.close()
    project.source |= {"kind": "database", "path": "raw/t.db", "query": query, "required": []}
    project.source["columns"] = {"id": "integer", "at": "timestamp"}
    assert any(
        words in project.fails(UserError) for words in ("differs from run to run", "not authorized to use function")
    )
