"""A few numbers for each image, vector or sequence, by which drift is noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refit.config.column_types import ArrayColumn
from refit.learners import embeddings
from refit.learners.embeddings import embedded

ARRAYS = {
    "picture": ArrayColumn(kind="image", shape=(40, 30, 3)),
    "text": ArrayColumn(kind="vector", shape=(50,)),
    "place": ArrayColumn(kind="vector", shape=(3,)),
    "steps": ArrayColumn(kind="sequence", shape=(4, 2)),
}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    random = np.random.default_rng(0)
    steps = [[[float(i), float(-i)]] * (i % 5) or None for i in range(20)]
    return pa.table(
        {
            "picture": [random.integers(0, 256, 3600, dtype=np.uint8).tobytes() for _ in range(20)],
            "text": pa.array(list(random.normal(size=(20, 50))), pa.list_(pa.float32())),
            "place": pa.array([None, *random.normal(size=(19, 3))], pa.list_(pa.float32())),
            "steps": pa.array(steps, pa.list_(pa.list_(pa.float32()))),
        }
    )


def matrix(table: pa.Table) -> np.ndarray:
    return np.column_stack(list(embedded(table, ARRAYS).values()))


def test_a_row_has_the_same_numbers_whatever_rows_it_is_with(table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(embedded(table, ARRAYS))
    counts = {name: sum(each.startswith(f"{name}.embedding.") for each in names) for name in ARRAYS}
    assert counts == {"picture": 16, "text": 16, "place": 3, "steps": 4}
    whole = matrix(table)
    np.testing.assert_allclose(whole[7:9], matrix(table.slice(7, 2)), rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(embeddings, "VALUES", 1)  # one row at a time
    np.testing.assert_allclose(whole, matrix(table), rtol=1e-4, atol=1e-6)
    assert matrix(table.slice(0, 0)).shape == (0, whole.shape[1])


def test_what_is_missing_is_nan_and_the_rest_of_a_sequence_is_its_mean_and_deviation(table: pa.Table) -> None:
    columns = embedded(table, ARRAYS)
    missing = {name: np.flatnonzero(np.isnan(column)).tolist() for name, column in columns.items()}
    assert missing["picture.embedding.15"] == missing["text.embedding.0"] == []
    assert missing["place.embedding.2"] == [0]
    assert missing["steps.embedding.0"] == [0, 5, 10, 15]
    assert [columns[f"steps.embedding.{i}"][7] for i in range(4)] == [7, -7, 0, 0]


@pytest.mark.parametrize(
    "change",
    [lambda x: np.roll(x, 1, axis=1), lambda x: x[:, ::-1], lambda x: 255 - x],
    ids=["moved", "mirrored", "inverted"],
)
def test_images_that_look_otherwise_have_other_numbers(change: Callable[[Any], Any]) -> None:
    image = np.zeros((12, 12, 1), np.uint8)
    image[2:9, 3] = image[8, 3:8] = 200
    cells = pa.table({"picture": [each.tobytes() for each in (image, np.ascontiguousarray(change(image)))]})
    before, after = np.column_stack(
        list(embedded(cells, {"picture": ArrayColumn(kind="image", shape=(12, 12, 1))}).values())
    )
    assert np.abs(before - after).max() > 0.01
