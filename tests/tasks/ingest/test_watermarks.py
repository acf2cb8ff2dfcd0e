"""Rows of a database server: only new ones are read, none is lost or counted twice, and what vanished is said."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from servers import execute, postgresql, postgresql_server  # noqa: F401

from refit.config.watermark import WatermarkParams
from refit.errors import UserError
from refit.sources import sql_tables
from tasks import ingest
from tasks.ingest import source_status


@pytest.fixture
def shop(project: Any, postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Trips in a table of PostgreSQL that says when each row was loaded: those of January, and three of February."""
    monkeypatch.setenv("SHOP_URL", postgresql)
    project.url = postgresql
    project.sql = lambda sql: execute(postgresql, sql)
    project.sql("create table trips (id bigint, at timestamptz, kind text, cost numeric(9, 2), loaded timestamptz)")
    project.add = lambda first, last, days, loaded: project.sql(
        f"insert into trips select i, timestamptz '2013-01-01 12:00Z' + i * interval '1 day', 'a', i + 0.5, "
        f"timestamptz '{loaded}' + i * interval '1 second' from generate_series({first}, {last}) i"
    )
    project.add(0, 33, 0, "2013-02-05 00:00Z")
    project.source = {
        "kind": "database",
        "url": "${SHOP_URL}",
        "query": "select id, at, kind, cost, loaded from trips",
        "columns": {"id": "integer", "at": "timestamp", "kind": "text", "cost": "number", "loaded": "timestamp"},
        "watermark": {"column": "loaded", "lookback": "1h"},
        "required": ["id"],
        "key": ["id"],
        "event_time": "at",
        "changes": {"kind": "late", "within": "120d"},
    }
    return project


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each reading of a table."""
    counts: list[int] = []
    chunks = sql_tables.SqlTable._chunks

    def counted(self: Any, *arguments: Any) -> Iterator[Any]:
        counts.append(0)
        for columns, rows in chunks(self, *arguments):
            counts[-1] += len(rows)
            yield columns, rows

    monkeypatch.setattr(sql_tables.SqlTable, "_chunks", counted)
    return counts


def ids(project: Any) -> list[int]:
    return sorted(row["id"] for name in project.stored() for row in project.batch(name))


@pytest.mark.ci
def test_only_rows_above_the_watermark_less_its_lookback_are_read(shop: Any, reads: list[int]) -> None:
    shop.ingest()
    shop.ingest()
    assert reads == [34], "an unchanged table is not read"
    shop.add(34, 39, 0, "2013-02-08 12:00Z")
    assert ingest.stale_reason(shop.context()) == "trips has new data in database:trips"
    shop.ingest()
    shop.add(40, 41, 0, "2013-02-08 12:30Z")
    shop.ingest()
    assert reads == [34, 34 + 6, 6 + 2]
    assert ids(shop) == list(range(42))
    assert ingest.stale_reason(shop.context()) is None


def test_a_clone_without_the_cache_goes_on_from_the_position_that_is_stored(shop: Any, reads: list[int]) -> None:
    shop.ingest()
    shop.add(34, 39, 0, "2013-02-08 12:00Z")
    (shop.path / ".refit/ingest.json").unlink(missing_ok=True)
    shop.ingest()
    assert reads == [34, 40]
    assert ids(shop) == list(range(40))


@pytest.mark.slow
def test_a_row_that_comes_within_the_lookback_is_read_and_one_beyond_it_is_found_by_the_number_of_rows(
    shop: Any, reads: list[int]
) -> None:
    shop.ingest()
    shop.sql("insert into trips values (100, '2013-02-02 01:00Z', 'b', 1, '2013-02-04 23:30Z')")
    shop.ingest()
    assert reads == [34, 35]
    shop.add(50, 50, 0, "2013-02-20 00:00Z")
    shop.ingest()
    shop.sql("insert into trips values (101, '2013-02-03 01:00Z', 'b', 1, '2013-02-06 00:00Z')")
    shop.ingest()
    assert reads[3:] == [1, 37], "the rows before the lookback are one more than they were"
    assert ids(shop) == [*range(34), 50, 100, 101]


@pytest.mark.parametrize("lost", [50, 5], ids=["new", "old"])
def test_a_table_that_loses_rows_stops_the_run(shop: Any, lost: int) -> None:
    shop.ingest()
    shop.add(50, 50, 0, "2013-02-20 00:00Z")
    shop.ingest()
    before = shop.files()
    shop.sql(f"delete from trips where id = {lost}")
    if lost == 50:  # as many rows as before
        shop.sql("insert into trips values (51, '2013-02-21', 'a', 1, '2013-02-20 00:05Z')")
    said = shop.fails(UserError)
    assert "1 missing" in said
    assert shop.files() == before


def test_rows_without_a_watermark_are_read_each_time_and_counted_once(shop: Any) -> None:
    shop.ingest()
    shop.sql("insert into trips values (60, '2013-02-02 05:00Z', 'b', 1, null)")
    shop.ingest()
    shop.add(34, 39, 0, "2013-02-08 12:00Z")
    shop.ingest()
    assert ids(shop) == [*range(40), 60]
    shop.sql("delete from trips where id = 60")
    assert "1 missing" in shop.fails(UserError)


def test_a_row_alone_that_does_not_cast_is_set_aside_and_stops_nothing(shop: Any) -> None:
    shop.ingest()
    shop.sql("insert into trips values (70, null, 'b', 1, '2013-02-09 00:00Z')")
    shop.ingest()
    shop.ingest()
    aside = [
        fault
        for name in shop.stored()
        if (shop.path / f"data/batches/trips/{name}.uncast.parquet").is_file()
        for fault in shop.uncast(name)
    ]
    assert [(column, reason) for _, _, column, _, reason in aside] == [("event_time", "has no event time")]


def test_a_waiting_row_is_taken_once_its_time_has_come(shop: Any) -> None:
    shop.sql("insert into trips values (80, '2020-02-01 00:00Z', 'b', 1, '2013-02-05 00:00:10Z')")
    shop.ingest()
    shop.add(34, 39, 0, "2013-02-08 12:00Z")
    shop.ingest()
    assert ids(shop) == list(range(40))
    shop.now = datetime(2020, 3, 1, tzinfo=UTC)
    shop.ingest()
    assert ids(shop) == [*range(40), 80]


@pytest.mark.slow
def test_rows_that_are_corrected_in_place_are_new_versions(shop: Any, reads: list[int]) -> None:
    shop.source["changes"] = {"kind": "corrections", "version": "loaded"}
    shop.ingest()
    shop.add(50, 50, 0, "2013-02-20 00:00Z")
    shop.ingest()
    shop.sql("update trips set cost = 99, loaded = '2013-02-20 00:10Z' where id in (3, 4)")
    shop.ingest()
    assert reads == [34, 35, 3]
    assert sorted(row["cost"] for name in shop.stored() for row in shop.batch(name) if row["id"] == 3) == [3.5, 99.0]
    shop.sql("update trips set cost = 97, loaded = '2013-02-20 00:15Z' where id = 5")
    shop.sql("insert into trips values (60, '2013-02-03 01:00Z', 'b', 1, '2013-02-06 00:00Z')")
    shop.ingest()
    assert 60 in ids(shop), "as many rows before the lookback as before: one less and one more"
    shop.sql("delete from trips where id = 7")
    shop.sql("update trips set cost = 98, loaded = '2013-02-20 00:20Z' where id = 8")
    assert "1 missing" in shop.fails(UserError)


def test_an_interrupted_read_loses_and_doubles_nothing(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ingest()
    shop.add(34, 70, 0, "2013-02-08 12:00Z")
    shop.sql("insert into trips values (200, '2013-01-02 01:00Z', 'b', 1, '2013-02-09 23:30Z')")
    write = source_status.write_position

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(source_status, "write_position", killed)
    with pytest.raises(KeyboardInterrupt):
        shop.ingest()
    monkeypatch.setattr(source_status, "write_position", write)
    position = json.loads((shop.path / "data/batches/trips/position").read_text())
    assert not {*shop.stored()} <= {*position["batches"]}
    shop.ingest()
    assert ids(shop) == [*range(71), 200]
    newest = max(shop.stored())
    for path in (shop.path / "data/batches/trips").glob(f"{newest}.*"):
        path.unlink()
    shop.ingest()
    assert ids(shop) == [*range(71), 200], "a batch that was deleted is read again"


def test_a_table_without_a_watermark_is_read_whole_when_it_changed(shop: Any, reads: list[int]) -> None:
    del shop.source["watermark"]
    shop.ingest()
    shop.ingest()
    shop.add(34, 39, 0, "2013-02-08 12:00Z")
    shop.ingest()
    assert reads == [34, 40]
    assert ids(shop) == list(range(40))


def test_the_url_comes_from_the_environment_and_its_password_appears_nowhere(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.ingest()
    secret = "hunter2-of-the-shop"
    monkeypatch.setenv("SHOP_URL", shop.url.replace("refit@", f"nobody:{secret}@"))
    said = shop.fails(UserError)
    assert "check that the server is reachable, user and password, and correct SHOP_URL" in said
    assert secret not in said
    monkeypatch.setenv("SHOP_URL", f"postgresql://u:{secret}@localhost:port/x")
    assert secret not in shop.fails(UserError)
    monkeypatch.delenv("SHOP_URL")
    assert "the environment variable SHOP_URL is not set" in shop.fails(UserError)
    assert not any(b"refit@" in content for _, content in shop.files().values())
    shop.source["url"] = f"postgresql://u:{secret}@localhost/x"
    with pytest.raises(UserError, match=r"ingest.sources.trips.url"):
        shop.context()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select * from nowhere", "nowhere"),
        ("select id, now() as at from trips", "has now(), which differs from run to run"),
        ("delete from trips returning *", "syntax error"),
        ("select 1 as id) x; drop table trips; select (1", "multiple commands"),
        ("select id, at, kind, cost from trips", "loaded"),
        ("select * from (select *, nextval('s') from trips) x", "read-only"),
    ],
    ids=["unknown", "clock", "writes", "breaks_out", "column", "function"],
)
def test_a_query_that_fails_or_writes_is_one_line_and_changes_nothing(shop: Any, query: str, said: str) -> None:
    shop.sql("create sequence s")
    shop.source["query"] = query
    assert said in shop.fails(UserError)
    assert shop.sql("select count(*) from trips") == [(34,)]


def test_percent_signs_colons_backslashes_and_comments_of_a_query_are_its_own(shop: Any) -> None:
    shop.source["query"] = (
        r"select id, at, ':x %s %(y)s \d \:z'::text as kind, cost, loaded from trips where kind ~ '^\w$' -- the end;"
    )
    shop.ingest()
    assert {row["kind"] for row in shop.batch("2013-01")} == {r":x %s %(y)s \d \:z"}
    assert ids(shop) == list(range(34))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"watermark": {"column": "loadedd", "lookback": "1h"}}, "did you mean 'loaded'?"),
        ({"watermark": {"column": "kind", "lookback": "1h"}}, "is text; name an integer, timestamp or date"),
        ({"watermark": {"column": "loaded", "lookback": 5}}, "write a span such as 2h"),
        ({"watermark": {"column": "id", "lookback": "1h"}}, "write a whole number such as 1000"),
        ({"event_time": None, "changes": "append"}, "`watermark` needs event_time"),
        ({"path": "shop.db"}, "has both: drop one"),
        ({"url": None, "watermark": None}, "has neither"),
        ({"url": None, "path": "shop.db"}, "`watermark` is for a database with `url`"),
        ({"kind": "files"}, "`url` is for kind 'database'"),
        ({"sha256": "0" * 64}, "`sha256` is for files"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_watermark_that_cannot_be_one_is_refused_in_params(shop: Any, change: dict[str, Any], said: str) -> None:
    shop.source |= change
    with pytest.raises(UserError) as caught:
        shop.context()
    assert said in str(caught.value)


@pytest.mark.parametrize("lookback", ["12h", "36h", "0d"])
def test_a_date_is_set_back_by_whole_days_as_more_rows_may_be_loaded_on_the_newest_one(lookback: str) -> None:
    fault = WatermarkParams(column="day", lookback=lookback).fault({"day": "date"})
    assert "rows loaded later on the newest day would not be read: write 1d, or more days" in str(fault)
    assert WatermarkParams(column="day", lookback="1d").fault({"day": "date"}) is None
    assert WatermarkParams(column="day", lookback=lookback).fault({"day": "timestamp"}) is None


def test_a_database_of_another_dialect_is_read_the_same_way(
    shop: Any, tmp_path: Any, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{tmp_path}/shop.sqlite")
    with sqlite3.connect(tmp_path / "shop.sqlite") as database:
        database.execute("create table trips (id integer, at text, kind text, cost real, loaded text)")
        database.execute("insert into trips values (1, '2013-01-31 10:00:00', 'a', 1, '2013-02-01 10:00:00')")
        database.commit()
        shop.ingest()
        database.execute("insert into trips values (2, '2013-02-01 10:00:00', 'a', 1, '2013-02-01 13:00:00')")
        database.execute("insert into trips values (3, '2013-02-01 11:00:00', 'a', 1, '2013-02-01 09:30:00')")
        database.commit()
        shop.ingest()
    assert ids(shop) == [1, 2, 3]
    assert reads == [1, 3]
    monkeypatch.setenv("SHOP_URL", "mysql://u:p@localhost/x")
    assert "install that package next to Refit" in shop.fails(UserError)


def test_a_watermark_of_another_type_than_declared_is_refused_when_it_is_first_read(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{tmp_path}/shop.sqlite")
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as database, database:
        database.execute("create table trips (id integer, at text, kind text, cost real, seq text)")
        database.execute("insert into trips values (1, '2013-01-31 10:00:00', 'a', 1, '2013-02-01 10:00:00')")
    del project.source["path"]
    project.source |= {
        "kind": "database",
        "url": "${SHOP_URL}",
        "query": "select id, at, kind, cost, seq from trips",
        "columns": {**project.source["columns"], "seq": "integer"},
        "watermark": {"column": "seq", "lookback": 100},
    }
    assert "'seq' is str '2013-02-01 10:00:00' in the database, and declared integer" in project.fails(UserError)
    assert project.stored() == []


def test_a_driver_that_knows_no_time_to_connect_in_is_given_none(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", "postgresql+asyncpg://u:p@127.0.0.1:1/x")
    assert "the postgresql database of ingest.sources.trips.url failed: " in shop.fails(UserError)


@pytest.mark.ci
@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_read_that_is_killed_after_some_of_its_batches_is_finished_by_the_next(shop: Any, kills: int) -> None:
    shop.ingest()
    shop.add(34, 95, 0, "2013-02-08 12:00Z")
    shop.sql("insert into trips values (200, '2013-01-02 01:00Z', 'b', 1, '2013-02-09 23:30Z')")
    before = shop.stored()
    killing = (
        "import os, signal, sys, json; sys.path[:0] = json.loads(sys.argv[1]); from conftest import Project; "
        "from pathlib import Path; from refit.schemas.manifest import Manifest; write = Manifest.write; written = []\n"
        "def write_and_die(self, path):\n"
        "    write(self, path); written.append(path)\n"
        f"    if len(written) == {kills}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Manifest.write = write_and_die; Project(Path(sys.argv[2]), json.loads(sys.argv[3])).ingest()"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", killing, json.dumps([str(here), str(here.parents[1]), str(here.parents[2])])]
    done = subprocess.run([*command, str(shop.path), json.dumps(shop.source)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(shop.stored()) == len(before) + kills
    shop.ingest()
    assert ids(shop) == [*range(96), 200]
