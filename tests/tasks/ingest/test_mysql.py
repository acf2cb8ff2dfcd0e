"""A MySQL database: its rows are read, and predictions written, as those of any other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from servers import mysql, mysql_server  # noqa: F401

from refit.config.sinks import SinkParams
from refit.errors import UserError
from registry.versions import Version
from tasks.score import sinks


@pytest.fixture
def shop(
    project: Any,
    mysql: Callable[..., list[Any]],  # noqa: F811
    mysql_server: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    monkeypatch.setenv("SHOP_URL", f"{mysql_server}/shop")
    project.sql = mysql
    project.sql(
        "create table trips (id bigint, at timestamp(6) null, kind varchar(40), cost decimal(9, 2), paid boolean, "
        "clock time, loaded timestamp(6) null)"
    )
    project.add = lambda values: project.sql(f"insert into trips values {values}")
    project.add("(1, '2013-01-31 23:30:00.5', 'été 🚲 100 %', 1.50, true, '09:00:01', '2013-02-05 00:00:00.25')")
    project.add("(2, '2013-02-02 12:00:00', null, null, false, '00:00:00', '2013-02-05 01:00:00')")
    columns = {"id": "integer", "at": "timestamp", "kind": "text", "cost": "number", "paid": "boolean"}
    project.source = {
        "kind": "database",
        "url": "${SHOP_URL}",
        "query": "select id, at, kind, cost, paid, clock, loaded from trips where kind is null or kind not like 'a:b%'",
        "columns": {**columns, "clock": "text", "loaded": "timestamp"},
        "watermark": {"column": "loaded", "lookback": "1h"},
        "required": ["id"],
        "key": ["id"],
        "event_time": "at",
        "changes": {"kind": "late", "within": "120d"},
    }
    project.rows = lambda: {row["id"]: row for name in project.stored() for row in project.batch(name)}
    return project


@pytest.mark.ci
def test_types_and_times_are_those_of_the_table_wherever_the_server_is(shop: Any) -> None:
    shop.ingest()
    first, second = shop.rows()[1], shop.rows()[2]
    assert (first["kind"], first["cost"], first["paid"], first["clock"]) == ("été 🚲 100 %", 1.5, True, "09:00:01")
    assert (second["kind"], second["cost"], second["paid"]) == (None, None, False)
    moment = datetime(2013, 2, 1, 4, 30, 0, 500_000, UTC)  # half past eleven of the server's evening
    assert first["at"].replace(tzinfo=UTC) == moment


def test_only_new_rows_are_read_and_late_ones_join_their_period(shop: Any) -> None:
    shop.ingest()
    shop.add("(3, '2013-02-01 12:00:00', 'late', 3, true, null, '2013-02-06 00:00:00')")
    shop.ingest()
    shop.ingest()
    assert sorted(shop.rows()) == [1, 2, 3]
    shop.sql("delete from trips where id = 3")
    with pytest.raises(UserError, match="1 missing"):
        shop.ingest()


def test_a_server_that_refuses_is_one_line_without_the_password(
    shop: Any,
    mysql_server: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_URL", f"{mysql_server.replace('root@', 'root:top-secret@')}/shop")
    with pytest.raises(UserError, match=r"the mysql database of .* failed: .*Access denied") as refused:
        shop.ingest()
    assert "top-secret" not in str(refused.value)


def test_predictions_in_a_table_keep_their_digits_and_each_window_once(shop: Any, tmp_path: Path) -> None:
    moment = datetime(2013, 12, 1, 6, 0, 0, 250_000)  # noqa: DTZ001
    sink = SinkParams(kind="database", url="${SHOP_URL}", table="predictions")
    version = Version("demo", "3", None, "2013-12-01", {})
    for rows in (3, 2):
        table = pa.table(
            {
                "id": [str(each) for each in range(rows)],
                "event_time": pa.array([moment] * rows, pa.timestamp("us")),
                "prediction": [1 / 3] * rows,
                "model": ["demo"] * rows,
                "model_version": ["3"] * rows,
            }
        )
        sinks.deliver(tmp_path, [sink], "2013-11", version, table)
    found = shop.sql("select id, event_time, prediction, score_window from predictions order by id")
    assert found == [("0", moment, 1 / 3, "2013-11"), ("1", moment, 1 / 3, "2013-11")]
