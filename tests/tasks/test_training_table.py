"""The training table is written in parts and read by column: the same bytes and values, whatever its size."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store import offline
from refit.files import artifacts
from tasks import featurize
from tasks.featurize import table as training_table
from tasks.featurize.table import StoredTable
from tests.tasks.orders import Project, projects_in


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects_in(tmp_path)


def numbered(rows: int) -> pa.Table:
    names = pa.array([f"k{n * 7919 % 1000}" for n in range(rows)])
    return pa.table({"n": range(rows), "x": [None if n % 7 == 0 else n / 3 for n in range(rows)], "name": names})


@pytest.mark.parametrize("batch", [7, 1000, 1024, 2500])
def test_a_table_written_in_batches_has_the_bytes_of_one_that_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(training_table, "ROW_GROUP", 1024)
    whole, progress = numbered(3000), list[int]()
    options = {"compression": "zstd", "compression_level": 1, "write_page_checksum": True}
    pq.write_table(whole, tmp_path / "whole.parquet", row_group_size=1024, **options)
    batches = whole.to_batches(max_chunksize=batch)
    training_table.write(tmp_path / "parts.parquet", batches, whole.schema, progress.append)
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert progress == [1024, 2048, 3000]


def test_writing_holds_one_row_group_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_table, "ROW_GROUP", 1000)
    whole, most = numbered(20_000), 0
    alive: list[weakref.ref[pa.RecordBatch]] = []

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for first in range(0, whole.num_rows, 100):
            batch = pa.RecordBatch.from_pylist(whole.slice(first, 100).to_pylist(), whole.schema)
            alive.append(weakref.ref(batch))
            most = max(most, sum(each() is not None for each in alive))
            yield batch

    training_table.write(tmp_path / "t.parquet", batches(), whole.schema, lambda rows: None)
    assert most <= 11, "batches of 100 rows that were in memory together, with row groups of 1,000"


def test_a_stored_table_reads_the_columns_of_the_rows_that_a_filter_leaves(tmp_path: Path) -> None:
    whole, path = numbered(500), tmp_path / "t.parquet"
    pq.write_table(whole, path)
    stored, expected = StoredTable(path), whole
    for mask in (lambda table: pc.less(table["n"], 400), lambda table: pc.greater(table["x"], 10)):
        stored, expected = stored.filter(mask(stored)), expected.filter(mask(expected))
        assert (stored.num_rows, len(stored)) == (expected.num_rows, expected.num_rows)
        assert all(stored[name].equals(expected[name]) for name in expected.column_names)
        assert stored.read().equals(expected)
        assert stored.take(pa.array([0, 3, 5])).equals(expected.take([0, 3, 5]))


def test_the_stage_writes_the_same_files_in_small_parts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def files(name: str) -> dict[str, str]:
        context = project(name=name)
        featurize.run(context)
        folder = context.path(artifacts.FEATURES)
        return {path.name: artifacts.sha256(path) for path in folder.iterdir()}

    at_once = files("at_once")
    monkeypatch.setattr(featurize, "BATCH", 64)
    monkeypatch.setattr(offline, "TOGETHER", 100)
    monkeypatch.setattr(StoredTable, "read", None)  # nothing reads all columns: there is no image among them
    assert files("in_parts") == at_once
    assert set(at_once) == {"features.json", "profile.json", "profile.parquet", "table.parquet"}


def test_a_stage_that_fails_leaves_no_table(project: Project) -> None:
    context = project({"featurize.text": ["price"]})
    with pytest.raises(featurize.UserError, match="holds double, not text"):
        featurize.run(context)
    assert list(context.path(artifacts.FEATURES).iterdir()) == []


MEASURED = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from refit.files import artifacts
from tests.tasks.orders import FEATURES, projects_in
from tasks import featurize
from tasks.featurize import table

ROWS = 600_000
folder, chance = Path(sys.argv[1]), np.random.default_rng(0)
more = "".join(f'Expression(name="p{n}", sql="price * {n} + 0.5"),' for n in range(60))
project = projects_in(folder)
features = FEATURES.replace('Expression(name="shop", sql="shop"),', 'Expression(name="shop", sql="shop"),' + more)
few = project({"resources.memory_gb": 0.5}, features=features)
featurize.run(few)  # what is imported and cached counts for nothing
validated = artifacts.read_json(few.path(artifacts.VALIDATED))
for batch in validated["batches"]:
    if batch["source"] == "orders":
        path = few.path(batch["path"])
        orders = pq.read_table(path)
        times = ROWS // 12 // orders.num_rows
        copies = [orders.set_column(0, "id", pa.array(orders["id"].to_numpy() + 200_000 * n)) for n in range(times)]
        orders = pa.concat_tables(copies)
        orders = orders.set_column(orders.column_names.index("_row"), "_row", pa.array(range(2, 2 + len(orders))))
        pq.write_table(orders, path)
        batch |= {name: len(orders) for name in ("rows", "read", "accepted")}
        batch["sha256"] = artifacts.sha256(path)
artifacts.write_json(few.path(artifacts.VALIDATED), validated)
del orders, copies
table.ROW_GROUP = 65_536
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
featurize.run(few)
rows = pq.read_metadata(few.path(artifacts.TABLE)).num_rows
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_memory_stays_below_that_of_the_table(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEASURED, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows, megabytes = map(int, done.stdout.split())
    assert rows > 400_000
    assert megabytes < 500, f"{megabytes} MB for a table of {rows * 66 * 8 / 1e6:.0f} MB, with DuckDB's limit of 250 MB"
