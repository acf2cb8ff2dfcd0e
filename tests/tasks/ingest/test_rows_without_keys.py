"""Rows without a key, in sources that do not require one: they have no identity but their content."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from refit.errors import UserError
from refit.files.artifacts import read_json

HEAD = "id,at,kind,cost\n"
FIRST = "1,2013-01-02 10:00,a,1\n,2013-01-02 11:00,a,2\n"
SECOND = ",2013-01-04 11:00,b,3\n,2013-01-04 11:00,b,4\n3,2013-01-05,b,5\n"


@pytest.fixture
def keyless(project: Any) -> Any:
    project.source["required"] = []
    project.as_of("2013-02-01")
    return project


def costs(project: Any) -> list[float]:
    return sorted(row["cost"] for name in project.stored() for row in project.batch(name))


@pytest.mark.parametrize(
    "changes",
    [{"kind": "append"}, {"kind": "late", "within": "60d"}, {"kind": "corrections", "version": "cost"}],
    ids=["append", "late", "corrections"],
)
def test_rows_without_a_key_contradict_none_whether_read_at_once_or_one_after_the_other(
    keyless: Any, changes: dict[str, str]
) -> None:
    keyless.source["changes"] = changes
    keyless.put("a.csv", HEAD + FIRST)
    keyless.ingest()
    keyless.put("b.csv", HEAD + SECOND)
    keyless.ingest()
    assert costs(keyless) == [1, 2, 3, 4, 5]
    assert keyless.stored() == ["2013-01.1", "2013-01.2"], "none of them is a version of a stored row, so none is late"
    assert "arrived" not in read_json(keyless.path / "data/batches/trips/2013-01.2.json")


def test_a_key_of_two_columns_lacks_where_one_of_them_does(keyless: Any) -> None:
    keyless.source["key"] = ["id", "kind"]
    keyless.put("a.csv", HEAD + "1,2013-01-02,,1\n")
    keyless.ingest()
    keyless.put("b.csv", HEAD + "1,2013-01-03,,2\n")
    keyless.ingest()
    assert costs(keyless) == [1, 2]


def test_a_row_without_a_key_that_vanished_is_missing_though_there_are_others_without_one(keyless: Any) -> None:
    keyless.source["changes"] = {"kind": "corrections", "version": "cost"}
    keyless.put("a.csv", HEAD + FIRST + SECOND)
    keyless.ingest()
    keyless.put("a.csv", HEAD + FIRST + SECOND.replace(",2013-01-04 11:00,b,3\n", "", 1))
    assert "1 missing" in keyless.fails(UserError)


@pytest.fixture
def shop(keyless: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Executes SQL in a database whose table `trips`, with two rows, is the source, read once."""
    place = tmp_path / "shop.sqlite"
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{place}")
    keyless.source |= {"kind": "database", "url": "${SHOP_URL}", "query": "select id, at, kind, cost, seq from trips"}
    keyless.source |= {"columns": {**keyless.source["columns"], "seq": "integer"}}
    keyless.source["watermark"] = {"column": "seq", "lookback": 100}
    del keyless.source["path"]

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(place)) as database, database:
            database.execute(sql)

    execute("create table trips (id integer, at text, kind text, cost real, seq integer)")
    execute("insert into trips values (1, '2013-01-02 10:00', 'a', 1, 11), (null, '2013-01-02 11:00', 'a', 2, 12)")
    keyless.ingest()
    return execute


def test_rows_of_a_table_that_lack_a_key_come_one_after_the_other(keyless: Any, shop: Callable[[str], None]) -> None:
    shop("insert into trips values (null, '2013-01-04 10:00', 'a', 3, 13)")
    keyless.ingest()
    assert costs(keyless) == [1, 2, 3]


def test_a_row_of_a_table_that_lacks_a_key_and_vanishes_within_the_lookback_stops_the_run(
    keyless: Any, shop: Callable[[str], None]
) -> None:
    shop("insert into trips values (null, '2013-01-04 10:00', 'a', 3, 13)")
    shop("delete from trips where seq = 12")
    assert "1 missing" in keyless.fails(UserError)
