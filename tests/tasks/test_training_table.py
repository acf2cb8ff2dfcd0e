"""The training table is written in parts and read by column: the same bytes and values, whatever its size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store import offline
from refit.files import artifacts
from refit.runtime import memory
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
    monkeypatch.setattr(training_table, "ROW_GROUP", 500_000)
    chance, schema = np.random.default_rng(0), pa.schema({"x": pa.float64(), "y": pa.float64()})
    before, most = pa.total_allocated_bytes(), 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for _ in range(30):
            # Numbers by way of Arrow's own memory, which is counted; NumPy's is not.
            yield pa.record_batch([pc.add(pa.array(chance.normal(size=50_000)), 0.0) for _ in schema], schema=schema)
            most = max(most, pa.total_allocated_bytes() - before)

    training_table.write(tmp_path / "t.parquet", batches(), schema, lambda rows: None)
    assert most < 1.5 * 500_000 * 16, f"{most} bytes at once, where a row group has 8,000,000"


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


def test_duckdb_is_limited_only_where_the_memory_is_stated(project: Project) -> None:
    assert memory.sql_limit(project().params) is None, "its own limit: data that fits must not fail"
    assert memory.sql_limit(project({"resources.memory_gb": 3}).params) == "1500MB"
    assert memory.sql_limit(project().params, among=2) is not None, "each of several would take most of the machine"
