"""Delta and Iceberg tables and classes of the project: what was added is read alone, deletions follow `changes`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from servers import BUCKET, aws_server

from refit.errors import UserError
from refit.sources import lake_tables
from tasks import ingest

pytest.importorskip("deltalake")
pytest.importorskip("pyiceberg")


def trips(ids: range, cost: float = 1.5) -> pa.Table:
    """Trips of one a day from 1 January 2013, with a time of their last change."""
    days = [datetime(2013, 1, 1, 12, tzinfo=UTC) + timedelta(days=each) for each in ids]
    return pa.table(
        {
            "id": pa.array(list(ids), pa.int64()),
            "at": pa.array(days, pa.timestamp("us", "UTC")),
            "kind": ["é 20%/b"] * len(ids),  # Delta has a folder for it, whose name the log quotes
            "cost": [cost] * len(ids),
            "changed": pa.array([int(cost)] * len(ids), pa.int64()),
        }
    )


class Delta:
    kind = "delta"

    def __init__(self, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = str(project.path / "lake/trips")
        project.source |= {"kind": "delta", "path": "lake/trips"}

    def append(self, rows: pa.Table) -> None:
        from deltalake import write_deltalake

        write_deltalake(self.path, rows, mode="append", partition_by=["kind"])

    def delete(self, number: int) -> None:
        self._table().delete(f"id = {number}")

    def update(self, number: int) -> None:
        self._table().update(updates={"cost": "9.0", "changed": "9"}, predicate=f"id = {number}")

    def _table(self) -> Any:
        from deltalake import DeltaTable

        return DeltaTable(self.path)


class DeltaInStore(Delta):
    """The same table as objects of a bucket."""

    def __init__(self, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        environ = project.open_stores.enter_context(aws_server())
        for name, value in {**environ, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(name, value)
        self.path = f"s3://{BUCKET}/lake/trips"
        project.source |= {"kind": "delta", "path": self.path}


class Iceberg:
    kind = "iceberg"

    def __init__(self, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from pyiceberg.catalog import load_catalog

        place = project.path / "lake"
        place.mkdir()
        settings = {"type": "sql", "uri": f"sqlite:///{place}/catalog.db", "warehouse": f"file://{place}"}
        self.catalog = load_catalog("shop", **settings)
        for name, value in settings.items():
            monkeypatch.setenv(f"PYICEBERG_CATALOG__SHOP__{name.upper()}", value)
        monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", type(_env_config())())
        self.catalog.create_namespace("sales")
        self.table = self.catalog.create_table("sales.trips", schema=trips(range(1)).schema)
        project.source |= {"kind": "iceberg", "path": "sales.trips", "catalog": "shop"}

    def append(self, rows: pa.Table) -> None:
        self.table.append(rows)

    def delete(self, number: int) -> None:
        self.table.delete(f"id = {number}")

    def update(self, number: int) -> None:
        self.table.overwrite(trips(range(number, number + 1), 9.0), f"id = {number}")


def _env_config() -> Any:
    from pyiceberg import catalog

    return catalog._ENV_CONFIG


@pytest.fixture(
    params=[Delta, Iceberg, pytest.param(DeltaInStore, marks=pytest.mark.slow)], ids=["delta", "iceberg", "delta-s3"]
)
def lake(request: pytest.FixtureRequest, project: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A project whose trips are a table with two months of rows, all ingested."""
    project.source |= {"columns": {**project.source["columns"], "changed": "integer"}}
    with ExitStack() as project.open_stores:
        project.lake = request.param(project, monkeypatch)
        project.lake.append(trips(range(20)))
        project.lake.append(trips(range(20, 40)))
        project.ingest()
        yield project


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    number = lake_tables.numbered

    def counted(batch: Any, line: int) -> Any:
        counts.append(batch.num_rows)
        return number(batch, line)

    monkeypatch.setattr(lake_tables, "numbered", counted)
    return counts


def ids(project: Any) -> list[int]:
    return sorted(row["id"] for name in project.stored() for row in project.batch(name))


@pytest.mark.ci
def test_only_what_was_added_since_a_version_is_read(lake: Any, rows_read: list[int]) -> None:
    lake.ingest()
    assert rows_read == []
    lake.lake.append(trips(range(40, 45)))
    assert ingest.stale_reason(lake.context()) == f"trips has new data in {lake.lake.kind}:trips"
    lake.ingest()
    lake.lake.append(trips(range(45, 50)))
    lake.lake.append(trips(range(50, 53)))
    lake.ingest()
    assert sum(rows_read) == 5 + 8
    assert ids(lake) == list(range(53))
    assert ingest.stale_reason(lake.context()) is None


@pytest.mark.parametrize("change", ["delete", "update"])
def test_a_row_that_was_deleted_or_updated_stops_the_run_of_a_source_that_only_grows(lake: Any, change: str) -> None:
    before = lake.files()
    getattr(lake.lake, change)(3)
    said = lake.fails(UserError)
    assert ("0 changed, 0 new, 1 missing" if change == "delete" else "1 changed") in said
    assert lake.files() == before


@pytest.mark.slow
def test_an_update_is_a_new_version_where_rows_are_corrected(project: Any, lake: Any) -> None:
    lake.source["changes"] = {"kind": "corrections", "version": "changed"}
    for old in (lake.path / "data/batches/trips").glob("*"):
        old.unlink()
    lake.ingest()
    lake.lake.update(3)
    lake.lake.append(trips(range(40, 42)))
    lake.ingest()
    assert ids(lake) == sorted([*range(42), 3])
    lake.lake.delete(4)
    assert "1 missing" in lake.fails(UserError)


def test_a_table_that_is_not_there_or_has_other_columns_is_one_line(lake: Any) -> None:
    for old in (lake.path / "data/batches/trips").glob("*"):
        old.unlink()
    del lake.source["columns"]["changed"]
    assert "changed' is not declared" in lake.fails(UserError)
    lake.source["path"] = "lake/other" if lake.lake.kind == "delta" else "sales.other"
    assert f"the {lake.lake.kind.capitalize()} table {lake.source['path']} cannot be read" in lake.fails(UserError)


def test_a_rewritten_delta_table_gives_the_same_rows(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.source |= {"columns": {**project.source["columns"], "changed": "integer"}}
    lake = Delta(project, monkeypatch)
    for first in range(0, 40, 10):
        lake.append(trips(range(first, first + 10)))
    project.ingest()
    before = project.stored()
    lake._table().optimize.compact()
    lake._table().vacuum(0, dry_run=False, enforce_retention_duration=False)
    project.ingest()
    assert project.stored() == before
    lake.append(trips(range(40, 41)))
    project.ingest()
    assert ids(project) == list(range(41))


def test_files_of_a_table_read_as_plain_files_are_refused_with_the_kind_that_reads_it(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Delta(project, monkeypatch).append(trips(range(3)))
    project.source |= {"kind": "files", "path": "lake/trips/**/*.parquet"}
    assert "read it with `kind: delta` and `path: lake/trips`" in project.fails(UserError)


OWN = """
class Feed:
    def __init__(self, source):
        numbers = range(int(open(FILE).read()))
        self.rows = [dict(id=n, at=f"2013-01-{1 + n:02d} 12:00", kind="a", cost=n) for n in numbers]

    def identify(self):
        return str(len(self.rows))

    def changes_since(self, position):
        return int(position) <= len(self.rows)

    def read(self, position):
        yield self.rows[int(position or 0):]
"""


def test_a_delta_table_with_a_feature_that_readers_of_its_files_lack_is_read_whole(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake import TableFeatures

    lake = Delta(project, monkeypatch)
    project.source["columns"] |= {"changed": "integer"}
    lake.append(trips(range(10)))
    lake._table().alter.add_feature(TableFeatures.V2Checkpoint, allow_protocol_versions_increase=True)
    project.as_of("2014-01-01")
    project.ingest()
    lake.append(trips(range(10, 14)))
    project.ingest()
    assert ids(project) == list(range(14))


def feed(project: Any, count: int, code: str = OWN) -> None:
    (project.path / "count").write_text(str(count))
    (project.path / "feed.py").write_text(code.replace("FILE", repr(str(project.path / "count"))))
    project.source |= {"kind": "feed.py:Feed"}
    project.source.pop("path", None)
    project.as_of("2014-01-01")


def test_a_class_of_the_project_is_a_source(project: Any) -> None:
    feed(project, 10)
    project.ingest()
    feed(project, 20)
    assert ingest.stale_reason(project.context()) == "trips has new data in feed.py:Feed"
    project.ingest()
    assert ids(project) == list(range(20))
    feed(project, 15)
    assert "5 missing" in project.fails(UserError), "the class says that all has to be read"


def test_a_class_that_changed_reads_everything_again(project: Any) -> None:
    feed(project, 10)
    project.ingest()
    feed(project, 10, OWN.replace("cost=n)", "cost=n + 1)"))
    assert ingest.stale_reason(project.context()) == "trips was not read yet as it is declared now"
    assert "10 changed" in project.fails(UserError)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("class Feed", "class Feet", "feed.py has no class Feed; did you mean 'Feet'?"),
        ("def identify", "def identity", "has no method identify"),
        ("return str(len(self.rows))", "return 5", "identify() gives int 5; it has to be a text"),
        (
            "yield self.rows[",
            "yield 1 / 0 or self.rows[",
            "read() failed: ZeroDivisionError: division by zero (line 14",
        ),
        ("yield self.rows[int(position or 0):]", "yield 'abc'", "read() yields str; yield lists of dicts"),
        ('kind="a", ', "", "column 'kind' is missing"),
        ("yield self.rows[int(position or 0):]", "yield []", "read(None) gives no rows"),
    ],
    ids=["class", "verb", "position", "raises", "type", "column", "nothing"],
)
def test_a_class_that_breaks_the_contract_is_named_in_one_line(project: Any, old: str, new: str, said: str) -> None:
    feed(project, 10, OWN.replace(old, new))
    assert said in project.fails(UserError)
    assert project.stored() == []


def test_a_class_may_yield_arrow(project: Any) -> None:
    code = OWN.replace(
        "yield self.rows[int(position or 0):]", "import pyarrow as pa; yield pa.Table.from_pylist(self.rows)"
    )
    feed(project, 10, code)
    project.ingest()
    assert ids(project) == list(range(10))


NUMPY = """
import numpy, pandas

class Feed:
    def __init__(self, source):
        pass

    def identify(self):
        return "1"

    def changes_since(self, position):
        return True

    def read(self, position):
        costs = numpy.arange(4) / 2
        times = pandas.date_range("2013-01-01", periods=4)
        yield [dict(id=numpy.int64(n), at=times[n], kind=numpy.str_("a"), cost=costs[n], held=numpy.bool_(n % 2),
                    seen=times.to_numpy()[n]) for n in range(3)]
        yield [dict(id=3, at=times[3], kind=pandas.NA, cost=numpy.float32(costs[3]), held=pandas.NA,
                    seen=numpy.datetime64("NaT"))]
        yield [dict(id=4, at=times[3], kind=None, cost=costs[0] * numpy.nan, held=None, seen=pandas.NaT)]
"""


def test_a_class_may_yield_values_of_numpy_and_pandas(project: Any) -> None:
    project.source["columns"] |= {"held": "boolean", "seen": "timestamp"}
    project.source["nulls"] = ["nan"]
    feed(project, 5, NUMPY)
    snapshot = project.ingest()
    assert [batch["uncast"] for batch in snapshot["batches"]] == [0, 0]
    rows = [row for name in project.stored() for row in project.batch(name)]
    assert [row["id"] for row in rows] == list(range(5))
    assert [row["cost"] for row in rows] == [0, 0.5, 1, 1.5, None]
    assert [row["held"] for row in rows] == [False, True, False, None, None]
    assert [row["kind"] for row in rows] == ["a", "a", "a", None, None]
    assert [row["seen"] and row["seen"].day for row in rows] == [1, 2, 3, None, None]
