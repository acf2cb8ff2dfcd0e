"""Each kind of source: files in every format, databases, packages, static tables."""

from __future__ import annotations

import gzip
import sqlite3
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit.errors import UserError
from tasks import ingest

Month = Callable[..., str]


def utc_free(*parts: int) -> datetime:
    """A time as Parquet gives it back: UTC, without a zone."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc, arg-type]


def test_every_kind_of_file_gives_the_same_rows(project: Any, month: Month) -> None:
    text = month(1, range(1, 32))
    project.put("a.csv", text)
    project.ingest()
    expected = project.batch("2013-01")

    def rows(name: str, write: Callable[[Path], object]) -> list[dict[str, Any]]:
        path = project.put(f"{name}.bin", b"")
        write(path)
        project.source = {**project.source, "path": f"raw/{name}.bin"}
        for old in (project.path / "data/batches/trips").glob("*"):
            old.unlink()
        project.ingest()
        return list(project.batch("2013-01"))

    def zipped(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.csv", text)

    def quoted(path: Path) -> None:
        lines = [",".join(f'"{field}"' for field in line.split(",")) for line in text.splitlines()]
        path.write_text("\n".join(lines))

    def parquet(path: Path) -> None:
        table = duckdb.sql(f"select * from read_csv('{project.path / 'raw/a.csv'}')").to_arrow_table()
        pq.write_table(table.select(["cost", "kind", "at", "id"]), path)

    assert rows("gz", lambda path: path.write_bytes(gzip.compress(text.encode()))) == expected
    assert rows("zip", zipped) == expected
    assert rows("quoted", quoted) == expected
    assert rows("windows", lambda path: path.write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())) == expected
    without_lines = [{**row, "_row": row["_row"] - 1} for row in expected]
    assert rows("parquet", parquet) == without_lines


@pytest.mark.parametrize("engine", ["sqlite", "duckdb"])
def test_a_database_is_read_by_its_query(project: Any, month: Month, engine: str) -> None:
    rows = [tuple(line.split(",")) for line in month(1, range(1, 32)).splitlines()[1:]]
    path = project.path / "shop.db"
    connection: Any = sqlite3.connect(path) if engine == "sqlite" else duckdb.connect(str(path))
    connection.execute('create table sales (id integer, "at" text, kind text, cost double precision)')
    connection.executemany("insert into sales values (?, ?, ?, ?)", rows)
    if engine == "sqlite":
        connection.commit()
    connection.close()
    before = path.read_bytes()
    query = 'select kind, id, "at", cost * 2 as cost from sales order by id'
    project.source |= {"kind": "database", "path": "shop.db", "query": query}
    assert project.ingest()["batches"][0]["rows"] == 31
    assert project.batch("2013-01")[0]["cost"] == 3.0
    assert path.read_bytes() == before


@pytest.mark.parametrize("query", ["drop table sales", "select * from nowhere", "selec", "create table x (id integer)"])
@pytest.mark.parametrize("engine", ["sqlite", "duckdb"])
def test_a_query_that_fails_or_writes_is_an_error_and_changes_nothing(project: Any, engine: str, query: str) -> None:
    path = project.path / "shop.db"
    connection: Any = sqlite3.connect(path) if engine == "sqlite" else duckdb.connect(str(path))
    connection.execute("create table sales (id integer)")
    connection.close()
    before = path.read_bytes()
    project.source |= {"kind": "database", "path": "shop.db", "query": query}
    assert "ingest.sources.trips.query" in project.fails(UserError)
    assert path.read_bytes() == before


def test_what_is_still_in_a_databases_journal_counts_as_news(project: Any) -> None:
    path = project.path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute('create table sales (id integer, "at" text, kind text, cost real)')
    connection.execute("insert into sales values (1, '2013-01-31 23:00', 'a', 1)")
    connection.commit()
    project.source |= {"kind": "database", "path": "shop.db", "query": "select * from sales"}
    project.ingest()
    connection.execute("insert into sales values (2, '2013-02-01 23:00', 'a', 1)")
    connection.commit()
    assert ingest.stale_reason(project.context()) == "trips has new data in shop.db"
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1"]
    connection.close()


def test_a_package_is_found_without_importing_it(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "path" / "explosive_data"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "inner" / "rows.csv").write_text("id,at,kind,cost\n1,2013-01-31 23:00,a,1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    project.source |= {"kind": "package", "package": "explosive_data", "path": "inner/rows.csv"}
    (batch,) = project.ingest()["batches"]
    assert batch["files"] == ["explosive_data:inner/rows.csv"]
    project.source |= {"package": "explosive_data.inner", "path": "rows.csv"}
    assert project.ingest()["batches"][0]["rows"] == 1
    (tmp_path / "path" / "outside.csv").write_text("id,at,kind,cost\n1,2013-01-31 23:00,a,1\n")
    for path in ("../../outside.csv", "inner/row.csv"):
        project.source |= {"path": path}
        assert "explosive_data" in project.fails(UserError)
    project.source |= {"package": "no_such_thing"}
    assert "no_such_thing' is not installed" in project.fails(UserError)


def test_a_static_table_has_versions_and_the_snapshot_names_the_newest(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.others["kinds"] = {"kind": "files", "path": "kinds.csv", "columns": {"kind": "text"}, "key": ["kind"]}
    (project.path / "kinds.csv").write_text("kind\na\n")
    assert project.ingest()["batches"][-1]["name"] == "v1"
    (project.path / "kinds.csv").write_text("kind\na\nb\n")
    snapshot = project.ingest()
    assert [(b["source"], b["name"], b["static"], b["rows"]) for b in snapshot["batches"]][1:] == [
        ("kinds", "v2", True, 2)
    ]
    assert (project.path / "data/batches/kinds/v1.parquet").is_file()
    (project.path / "kinds.csv").write_text("kind\nb\na\n")
    assert project.ingest() == snapshot, "the same rows in another order are no new version"
    assert snapshot["pending"] == {"trips": 0, "kinds": 0}


def test_a_static_table_of_several_files_is_always_whole(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.others["kinds"] = {"kind": "files", "path": "kinds-*.csv", "columns": {"kind": "text"}, "key": ["kind"]}
    for name in "ab":
        (project.path / f"kinds-{name}.csv").write_text(f"kind\n{name}\n")
    project.ingest()
    (project.path / "kinds-b.csv").write_text("kind\nb\nc\n")
    project.ingest()
    assert [row["kind"] for row in project.batch("v2", "kinds")] == ["a", "b", "c"]


def test_times_of_a_zone_in_parquet_become_utc(project: Any) -> None:
    times = pa.array([datetime(2013, 1, 31, 20, tzinfo=UTC)], pa.timestamp("ns", "America/New_York"))
    kinds = pa.array(["a"]).dictionary_encode()
    pq.write_table(
        pa.table({"id": pa.array([1.0], pa.float32()), "at": times, "kind": kinds, "cost": pa.array([2], pa.int8())}),
        project.put("a.parquet", b""),
    )
    project.source["path"] = "raw/a.parquet"
    project.ingest()
    (row,) = project.batch("2013-01")
    assert (row["id"], row["at"], row["kind"], row["cost"]) == (1, utc_free(2013, 1, 31, 20), "a", 2.0)
