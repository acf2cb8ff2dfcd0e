"""Rows of a window are read in batches: a million rows of a row group need not fit in memory together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit.config.column_types import ArrayColumn
from refit.learners.newest import taken
from refit.storage import columns
from refit.storage.arrays import images
from refit.storage.columns import cells_of, rows_at, rows_of_window, stored_table, with_large_cells
from tasks.train.table import read

ROWS = 100_000
TEST = np.arange(ROWS) % 40 == 0
POOLS: list[pa.MemoryPool] = []  # kept: arrays may outlive a test


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One row group, with rows of the test window all over it."""
    path = tmp_path_factory.mktemp("rows") / "table.parquet"
    numbers = {f"x{number}": np.arange(ROWS) % (100 + number) / 3 for number in range(8)}
    window = pa.array(np.where(TEST, "test", "train"))
    pq.write_table(pa.table({"id": np.arange(ROWS), "window": window, **numbers}), path, row_group_size=ROWS)
    return path


@pytest.fixture
def counted() -> Iterator[pa.MemoryPool]:
    """Counts the memory that Arrow takes."""
    before = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(before))
    pa.set_memory_pool(POOLS[-1])
    yield POOLS[-1]
    pa.set_memory_pool(before)


def test_the_rows_of_a_window_are_those_of_a_filter_and_need_no_row_group_in_memory(
    table: Path, counted: pa.MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "BATCH", ROWS // 20)
    found = rows_of_window(table, "test")
    most = counted.max_memory()
    expected = pq.read_table(table, filters=[("window", "=", "test")])
    assert found.equals(expected)
    assert found.num_rows == TEST.sum()
    assert most < 0.5 * counted.max_memory()


def test_images_are_read_with_offsets_of_64_bits_because_a_table_may_hold_more_than_2_gib(tmp_path: Path) -> None:
    cells, path = [bytes([number] * 4) for number in range(6)], tmp_path / "table.parquet"
    written = pa.table({"id": range(6), "window": ["test"] * 6, "picture": pa.array(cells, pa.binary())})
    pq.write_table(written, path, row_group_size=2)
    indices, columns = np.array([1, 4]), ["id", "picture"]
    for table, expected in (
        (rows_of_window(path, "test"), cells),
        (rows_at(path, indices, columns), [cells[1], cells[4]]),
        (read(path, columns, key="id", max_rows=None, seed=0), cells),
    ):
        assert table.schema.field("picture").type == pa.large_binary()
        assert table["picture"].to_pylist() == expected
    joined = pa.chunked_array([written["picture"].chunk(0)] * 2)
    assert cells_of(pa.table({"picture": joined}), "picture").type == pa.large_binary(), "of another table"


@pytest.mark.slow
def test_more_than_2_gib_of_images_are_read_divided_and_chosen_from() -> None:
    array = ArrayColumn(kind="image", shape=(224, 224, 3))
    chunk = pa.array([bytes([number]) * array.size for number in range(100)], pa.binary())
    cells = pa.chunked_array([chunk] * (2**31 // (array.size * 100) + 1))
    table = with_large_cells(pa.table({"picture": cells}))
    last = table.num_rows - 1
    pixels = images(table, "picture", array)
    assert pixels.nbytes > 2**31
    assert (pixels[0].max(), pixels[last].min()) == (0, 99)
    del pixels
    some = images(taken(table, np.array([1, 102, last])), "picture", array)
    assert some[:, 0, 0, 0].tolist() == [1, 2, 99]


def test_columns_come_in_the_given_order_with_or_without_the_window(table: Path) -> None:
    every = rows_of_window(table, "test")
    for names in (["x3", "id"], ["x1", "window", "x0"]):
        assert rows_of_window(table, "test", names).equals(every.select(names))


def test_rows_at_indices_are_those_of_the_whole_table_and_need_no_row_group_in_memory(
    table: Path, counted: pa.MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "BATCH", ROWS // 20)
    indices = np.array([0, 1, 4_999, 5_000, 77_777, ROWS - 1])
    found = rows_at(table, indices, ["x3", "id"])
    most = counted.max_memory()
    assert found.equals(pq.read_table(table, columns=["id", "x3"]).select(["x3", "id"]).take(indices))
    assert most < 0.5 * counted.max_memory()
    assert rows_at(table, indices[:0], ["id"]).num_rows == 0


def test_reading_a_table_to_its_end_keeps_no_bytes_of_earlier_row_groups(tmp_path: Path) -> None:
    numbers = pa.table({"x": np.random.default_rng(0).random(400_000)})  # that cannot be compressed
    pq.write_table(numbers, tmp_path / "t.parquet", row_group_size=20_000)
    before = pa.total_allocated_bytes()
    with stored_table(tmp_path / "t.parquet") as file:
        most = max(pa.total_allocated_bytes() for _ in file.iter_batches(20_000)) - before
    assert most < 0.5 * numbers.nbytes


def test_row_groups_of_other_windows_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    rows = pa.table({"id": [1, 2, 3, 4], "window": ["train", "train", "validation", "test"]})
    pq.write_table(rows, path, row_group_size=2, write_page_checksum=True, compression="none")
    content = path.read_bytes()
    first = pq.read_metadata(path).row_group(0).column(0)
    start = first.dictionary_page_offset or first.data_page_offset
    path.write_bytes(
        content[:start] + bytes(first.total_compressed_size) + content[start + first.total_compressed_size :]
    )
    assert rows_of_window(path, "test")["id"].to_pylist() == [4]
    assert rows_of_window(path, "nothing").num_rows == 0
    with pytest.raises(OSError):
        rows_of_window(path, "train")
